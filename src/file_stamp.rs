//! Whether a file was changed or replaced since it was last looked at.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What tells a file from the one that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    number: u64,
    size: u64,
    /// When it was last changed: seconds, nanoseconds.
    changed: (i64, i64),
}

impl FileStamp {
    /// Of the file that is there now; `None` if there is none, or none that may be looked at.
    pub fn of(path: &Path) -> Option<Self> {
        let about = std::fs::metadata(path).ok()?;
        Some(Self {
            device: about.dev(),
            number: about.ino(),
            size: about.size(),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}
