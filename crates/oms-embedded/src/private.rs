//! Folders and files that only their owner can access, whatever the umask is, even if an earlier
//! version created them with wider permissions.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Mode of a folder.
const DIR: u32 = 0o700;

/// Mode of a file.
const FILE: u32 = 0o600;

/// The permissions of group and others.
const OTHERS: u32 = 0o077;

/// The sticky bit: a folder with it, such as `/tmp`, is shared by many accounts.
const SHARED: u32 = 0o1000;

/// Creates a private folder and missing parents; makes an existing one private.
pub fn create_dir(path: &Path) -> io::Result<()> {
    if make_dir(path)? { Ok(()) } else { close(path) }
}

/// Creates the data directory. An existing one was named by a person: it is made private only if it
/// is empty, or if it contains `known`, which shows that it was used before.
pub fn create_data_dir(path: &Path, known: &str) -> io::Result<()> {
    if make_dir(path)? {
        return Ok(());
    }
    let is_ours = path.join(known).exists() || fs::read_dir(path)?.next().is_none();
    if is_ours { close(path) } else { Ok(()) }
}

/// Creates a folder; returns whether it was missing.
fn make_dir(path: &Path) -> io::Result<bool> {
    let make = || DirBuilder::new().mode(DIR).create(path);
    let made = match (make(), path.parent()) {
        (Err(e), Some(above)) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(above)?;
            make()
        }
        (made, _) => made,
    };
    match made {
        // The umask may have removed permissions of the owner.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(DIR)).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(e) => Err(e),
    }
}

/// Options for opening a file that is private if it is created.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE);
    options
}

/// Removes the permissions of group and others. If that is refused because the owner is another
/// account (for example of a mounted volume), the permissions stay, with a warning.
pub fn close(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    match narrower(&metadata) {
        None => Ok(()),
        Some(mode) => told(fs::set_permissions(path, mode), path),
    }
}

/// [`close`] for an open file.
pub fn close_file(file: &File, path: &Path) -> io::Result<()> {
    match narrower(&file.metadata()?) {
        None => Ok(()),
        Some(mode) => told(file.set_permissions(mode), path),
    }
}

fn narrower(metadata: &fs::Metadata) -> Option<Permissions> {
    let mode = metadata.mode() & 0o7777;
    let is_shared = metadata.is_dir() && mode & SHARED != 0;
    (mode & OTHERS != 0 && !is_shared).then(|| Permissions::from_mode(mode & !OTHERS))
}

fn told(outcome: io::Result<()>, path: &Path) -> io::Result<()> {
    match outcome {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            tracing::warn!(%error, path = %path.display(),
                "others may read what is kept here, and that cannot be changed");
            Ok(())
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_ours_is_closed_and_what_is_everybodys_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str, bits: u32| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            path
        };
        let made = dir.path().join("new/deep");
        create_dir(&made).unwrap();
        let old = open("old", 0o755);
        create_dir(&old).unwrap();
        assert_eq!((mode(&made), mode(&old)), (0o700, 0o700));

        // A folder that a person named, with things in it that are not ours, stays as it is.
        let theirs = open("theirs", 0o755);
        fs::write(theirs.join("thesis.tex"), "").unwrap();
        create_data_dir(&theirs, "lock").unwrap();
        assert_eq!(mode(&theirs), 0o755);
        fs::write(theirs.join("lock"), "").unwrap();
        create_data_dir(&theirs, "lock").unwrap();
        assert_eq!(mode(&theirs), 0o700);
        let empty = open("empty", 0o777);
        create_data_dir(&empty, "lock").unwrap();
        assert_eq!(mode(&empty), 0o700);
        let shared = open("tmp", 0o1777);
        fs::write(shared.join("lock"), "").unwrap();
        create_data_dir(&shared, "lock").unwrap();
        assert_eq!(mode(&shared), 0o1777);
    }
}
