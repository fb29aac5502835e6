//! One process at a time: an exclusive lock on a file.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use crate::private;

/// The lock. It ends with this value, and with the process, also when that is killed.
#[derive(Debug)]
pub struct OnlyOne(File);

/// Why there is no lock.
#[derive(Debug)]
pub enum NotAlone {
    /// Somebody else holds it.
    Held,
    /// The file could not be used.
    Io {
        /// What failed: `open`, `close` to others, `lock`.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl OnlyOne {
    /// Locks the file at `path`, making it if need be; does not wait.
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
    /// Unlocks, rather than leaving it to the end of the file: a child process that is just being
    /// made has the file too, until it runs its own program, and would keep the lock.
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
