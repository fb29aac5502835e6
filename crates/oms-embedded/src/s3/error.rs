//! Errors of the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::space::is_full;

/// The store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    /// The file system failed.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process uses the folder.
    #[error("{path} is in use by another process")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Data that was durable has changed. Nothing is skipped: the operator has to decide.
    #[error("{path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Byte offset in the file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A required file is missing.
    #[error("segment {number} of {dir} is missing")]
    Missing {
        /// The store's folder.
        dir: PathBuf,
        /// The segment's number.
        number: u32,
    },
}

impl LogStoreError {
    /// Whether the cause is a full disk.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }

    /// Wraps an I/O error with what was attempted.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// Error code of a 507 answer: there is no space, and nothing was written.
pub const NO_ROOM: &str = "NoRoomNothingWritten";

/// Error code of a 503 answer: writing is not possible now, and nothing was written.
pub const NOTHING_WRITTEN: &str = "NotNowNothingWritten";

/// Why a change was not made, or may not have been made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A condition did not hold. Nothing changed.
    #[error("the condition does not hold")]
    PreconditionFailed,
    /// `If-Match` on a missing key. Nothing changed.
    #[error("no such key")]
    NoSuchKey,
    /// The bucket does not exist. Nothing changed.
    #[error("no such bucket")]
    NoSuchBucket,
    /// The bucket exists already. Nothing changed.
    #[error("the bucket exists")]
    BucketExists,
    /// Too much is waiting to be written. Nothing changed; retry later.
    #[error("too many writes are waiting")]
    Busy,
    /// The disk is full. Nothing changed.
    #[error("there is no room on the disk: {0}")]
    Full(String),
    /// The file to write to could not be created. Nothing changed; the next write tries again.
    #[error("nothing was written: {0}")]
    NotBegun(String),
    /// Writes are refused since an earlier one failed. Nothing changed.
    #[error("the store takes no writes since one failed: {0}")]
    Poisoned(String),
    /// The write may or may not be durable.
    #[error("the write failed on its way to the disk: {0}")]
    Unknown(String),
    /// The store is stopping. Nothing changed.
    #[error("the store is stopping")]
    Closed,
}
