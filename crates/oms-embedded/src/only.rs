//! An exclusive lock on a file, to run one process at a time.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use crate::private;

/// The lock. It ends with this value, or with the process, also when that is killed.
#[derive(Debug)]
pub struct OnlyOne(File);

/// Why the lock was not acquired.
#[derive(Debug)]
pub enum NotAlone {
    /// Another process holds it.
    Held,
    /// The file could not be used.
    Io {
        /// What failed: `open`, `close` (setting close-on-exec), `lock`.
        what: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl OnlyOne {
    /// Locks the file at `path`, which is created if necessary; does not wait.
    pub fn lock(path: &Path) -> Result<Self, NotAlone> {
        let failed = |what| move |source| NotAlone::Io { what, source };
        let file = private::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed("open"))?;
        private::close_file(&file, path).map_err(failed("close"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(NotAlone::Held),
            Err(TryLockError::Error(e)) => Err(failed("lock")(e)),
        }
    }
}

impl Drop for OnlyOne {
    /// Unlocks explicitly instead of closing the file: a child process between fork and exec has
    /// the file open too, and would keep the lock.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "a lock ends with its file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_ends_with_its_value_though_the_file_is_open_elsewhere() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lock");
        let lock = OnlyOne::lock(&path).expect("nobody has it");
        assert!(matches!(OnlyOne::lock(&path), Err(NotAlone::Held)));
        let as_in_a_child = lock.0.try_clone().expect("a handle");
        drop(lock);
        OnlyOne::lock(&path).expect("it is free");
        drop(as_in_a_child);
    }
}
