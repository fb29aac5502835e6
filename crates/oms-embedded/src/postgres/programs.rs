//! A copy of PostgreSQL's programs for the server's account, if that has no access to those that
//! were found, for example in root's home. The programs find their libraries and files relative to
//! their own path, so that an inherited descriptor, as for the data, is not enough.
//!
//! The copy belongs to root, is readable by all accounts, and is created again when the programs
//! change; it may be deleted whenever no service runs.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use super::account::Account;
use crate::files::random_key;

/// The standard folder for files that can be created again.
const CACHE: &str = "/var/cache/oms";

/// An installation has some tens of megabytes; anything larger is not one.
const MAX_BYTES: u64 = 1 << 30;

/// No installation has deeper folders; limits links that lead back to a parent.
const MAX_DEPTH: usize = 16;

/// The two programs that are run.
const PROGRAMS: [&str; 2] = ["postgres", "initdb"];

/// Folders for a copy, best first.
pub fn places() -> Vec<PathBuf> {
    vec![CACHE.into(), std::env::temp_dir().join("oms-cache")]
}

/// The programs' folder in a copy of the installation of the programs in `bin`, in the first
/// suitable folder of `places`; the error says why none is.
pub fn copy(bin: &Path, account: &Account, places: &[PathBuf]) -> Result<PathBuf, String> {
    let name = name_of(bin).map_err(|e| format!("{}: {e}", bin.display()))?;
    let mut why = Vec::new();
    for place in places {
        match copy_to(bin, account, place, &name) {
            Ok(dir) => {
                tracing::info!(from = %bin.display(), to = %dir.display(),
                    "PostgreSQL's account cannot run the programs found, and runs a copy of them");
                return Ok(dir);
            }
            Err(e) => why.push(format!("{}: {e}", place.display())),
        }
    }
    Err(why.join("; "))
}

/// A name that changes with the programs.
fn name_of(bin: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(bin.as_os_str().as_encoded_bytes());
    for program in PROGRAMS {
        let metadata = fs::metadata(bin.join(program))?;
        let state = [
            metadata.len() as i64,
            metadata.mtime(),
            metadata.mtime_nsec(),
        ];
        state.iter().for_each(|n| hash.update(n.to_be_bytes()));
    }
    Ok(format!("postgresql-{}", hex::encode(&hash.finalize()[..8])))
}

fn copy_to(bin: &Path, account: &Account, place: &Path, name: &str) -> io::Result<PathBuf> {
    public_dir(place)?;
    let copy = place.join(name);
    if !copy.exists() {
        let unfinished = place.join(format!(".{name}-{}", random_key(16)));
        let made = copy_installation(bin, &unfinished).and_then(|()| {
            match fs::rename(&unfinished, &copy) {
                // Another process has created it at the same time.
                Err(_) if copy.exists() => Ok(()),
                outcome => outcome,
            }
        });
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        made?;
    }
    trusted(&copy)?;
    let dir = copy.join("bin");
    if PROGRAMS.iter().all(|p| account.runs(&dir.join(p))) {
        Ok(dir)
    } else {
        // The disk is mounted `noexec`, or this folder is inaccessible too.
        fs::remove_dir_all(&copy)?;
        Err(io::Error::other("programs do not run there either"))
    }
}

/// Creates a folder of root's that all accounts can search.
fn public_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o755)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => trusted(path),
        Err(e) => Err(e),
    }
}

/// Checks that no other account could have put files there, because programs are run from it.
fn trusted(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let ours = metadata.is_dir() && metadata.uid() == geteuid().as_raw();
    if ours && metadata.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(io::Error::other("it is not ours alone"))
    }
}

fn copy_installation(bin: &Path, to: &Path) -> io::Result<()> {
    let mut left = MAX_BYTES;
    make_dir(to)?;
    make_dir(&to.join("bin"))?;
    for program in PROGRAMS {
        copy_file(&bin.join(program), &to.join("bin").join(program), &mut left)?;
    }
    let Some(root) = bin.parent() else {
        return Ok(());
    };
    for name in ["lib", "lib64"] {
        let dir = root.join(name);
        if dir.is_dir() {
            copy_dir(&dir, &to.join(name), &mut left, 0)?;
        }
    }
    // A folder of that name may belong to other software; the programs then know where their own
    // files are.
    for name in ["share", "share/postgresql"] {
        let dir = root.join(name);
        if dir.join("postgres.bki").is_file() {
            make_dir(&to.join("share"))?;
            copy_dir(&dir, &to.join(name), &mut left, 0)?;
        }
    }
    Ok(())
}

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

fn copy_dir(from: &Path, to: &Path, left: &mut u64, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("its folders are too deep"));
    }
    make_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        // A broken link is not needed.
        let Ok(metadata) = fs::metadata(&from) else {
            continue;
        };
        if metadata.is_dir() {
            copy_dir(&from, &to, left, depth + 1)?;
        } else if metadata.is_file() {
            copy_file(&from, &to, left)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, left: &mut u64) -> io::Result<()> {
    let copied = fs::copy(from, to)?;
    *left = left
        .checked_sub(copied)
        .ok_or_else(|| io::Error::other("it is too large for an installation of PostgreSQL"))?;
    let executable = fs::metadata(from)?.mode() & 0o100 != 0;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(to, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::binaries::Binaries;

    #[test]
    fn programs_below_a_closed_folder_run_from_a_copy() {
        if !geteuid().is_root() {
            println!("not root: our own account runs our own programs");
            return;
        }
        // As an installation in a checkout in root's home.
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
        let bin = home.path().join("pg/bin");
        fs::create_dir_all(&bin).unwrap();
        let found = Binaries::find(None).unwrap();
        for program in PROGRAMS {
            fs::copy(found.program(program), bin.join(program)).unwrap();
            fs::set_permissions(bin.join(program), Permissions::from_mode(0o700)).unwrap();
        }
        let lib = home.path().join("pg/lib");
        fs::create_dir(&lib).unwrap();
        fs::write(lib.join("libpq.so.5.15"), "x").unwrap();
        std::os::unix::fs::symlink("libpq.so.5.15", lib.join("libpq.so.5")).unwrap();

        let account = Account::choose(Path::new("/nowhere")).unwrap();
        assert!(!account.runs(&bin.join("postgres")), "it is out of reach");
        let cache = tempfile::tempdir().unwrap();
        fs::set_permissions(cache.path(), Permissions::from_mode(0o755)).unwrap();
        let strangers = cache.path().join("strangers");
        fs::create_dir(&strangers).unwrap();
        fs::set_permissions(&strangers, Permissions::from_mode(0o777)).unwrap();
        let places = [
            home.path().join("closed"),
            strangers.clone(),
            cache.path().join("good"),
        ];
        let copied = copy(&bin, &account, &places).unwrap();
        assert!(copied.starts_with(&places[2]), "{copied:?}");
        assert!(account.runs(&copied.join("postgres")));
        assert_eq!(
            fs::read(copied.join("../lib/libpq.so.5")).unwrap(),
            b"x",
            "libraries come with the programs"
        );
        assert_eq!(copy(&bin, &account, &places).unwrap(), copied, "made once");
        let why = copy(&bin, &account, &places[..2]).unwrap_err();
        assert!(why.contains("not ours alone"), "{why}");
    }
}
