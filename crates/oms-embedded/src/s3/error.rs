//! What can go wrong with the log store.

use std::io;
use std::path::{Path, PathBuf};

use crate::space::is_full;

/// The store could not be opened, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    /// The file system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error("{path} is in use by another process")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Data that was durable is not what was written. Nothing is skipped: the operator decides.
    #[error("{path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file that must be there is not.
    #[error("segment {number} of {dir} is missing")]
    Missing {
        /// The store's folder.
        dir: PathBuf,
        /// The segment's number.
        number: u32,
    },
}

impl LogStoreError {
    /// Whether it is for want of room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }

    /// Wraps an I/O error with what was attempted.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// Code of the answer 507: there is no room, and nothing was written.
pub const NO_ROOM: &str = "NoRoomNothingWritten";

/// Code of the answer 503: it cannot write just now, and nothing was written.
pub const NOTHING_WRITTEN: &str = "NotNowNothingWritten";

/// A change that was not made, or not known to be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A condition did not hold. Nothing changed.
    #[error("the condition does not hold")]
    PreconditionFailed,
    /// `If-Match` on a key that is not there. Nothing changed.
    #[error("no such key")]
    NoSuchKey,
    /// The bucket is not there. Nothing changed.
    #[error("no such bucket")]
    NoSuchBucket,
    /// The bucket is there already.
    #[error("the bucket exists")]
    BucketExists,
    /// Too much is waiting to be written. Nothing changed; come back.
    #[error("too many writes are waiting")]
    Busy,
    /// There is no room on the disk. Nothing changed.
    #[error("there is no room on the disk: {0}")]
    Full(String),
    /// The file to write to could not be made. Nothing changed; the next write tries again.
    #[error("nothing was written: {0}")]
    NotBegun(String),
    /// The store takes no writes since an earlier one failed. Nothing changed.
    #[error("the store takes no writes since one failed: {0}")]
    Poisoned(String),
    /// The write may or may not survive.
    #[error("the write failed on its way to the disk: {0}")]
    Unknown(String),
    /// The store is stopping. Nothing changed.
    #[error("the store is stopping")]
    Closed,
}
