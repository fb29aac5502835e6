//! Finds PostgreSQL's server programs on this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;
use super::{PostgresError, programs};

/// Environment variable with the folder of `postgres` and `initdb`; takes precedence over the
/// search.
pub const BIN_VARIABLE: &str = "OMS_POSTGRES_BIN";

/// Folders with one subfolder per version: Debian and Ubuntu's, then Red Hat's.
const VERSIONED: &[&str] = &["/usr/lib/postgresql", "/usr"];

/// The server programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// Their folder.
    pub dir: PathBuf,
    /// Their major version.
    pub major: u32,
}

impl Binaries {
    /// The programs in `dir`, if they exist and run.
    fn in_dir(dir: &Path) -> Option<Self> {
        // `postgres` on PATH may be a link: the other programs are beside its target.
        let server = fs::canonicalize(dir.join("postgres")).ok()?;
        let dir = server.parent()?.to_owned();
        if !dir.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(&server).arg("--version").output().ok()?;
        let major = major_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { dir, major })
    }

    /// These programs, or a copy that the server's account can run.
    pub fn within_reach(self, account: &Account) -> Result<Self, PostgresError> {
        let Account::Other { name, .. } = account else {
            return Ok(self);
        };
        if account.runs(&self.program("postgres")) && account.runs(&self.program("initdb")) {
            return Ok(self);
        }
        match programs::copy(&self.dir, account, &programs::places()) {
            Ok(dir) => Ok(Self { dir, ..self }),
            Err(why) => Err(PostgresError::OutOfReach {
                dir: self.dir,
                account: name.clone(),
                why,
            }),
        }
    }

    /// Path of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Finds the programs; only of version `wanted_major` if a cluster exists already, because no
    /// other version can open it. In order: the folder in [`BIN_VARIABLE`], PATH, the newest
    /// installed version.
    pub fn find(wanted_major: Option<u32>) -> Result<Self, PostgresError> {
        if let Some(dir) = env::var_os(BIN_VARIABLE) {
            let dir = PathBuf::from(dir);
            let found = Self::in_dir(&dir).ok_or(PostgresError::NotInNamedFolder { dir })?;
            return match wanted_major {
                Some(major) if major != found.major => Err(PostgresError::OtherVersion {
                    cluster: major,
                    found: found.major,
                }),
                _ => Ok(found),
            };
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let mut other = None;
        for dir in env::split_paths(&path).chain(installed()) {
            let Some(found) = Self::in_dir(&dir) else {
                continue;
            };
            if wanted_major.is_none_or(|major| major == found.major) {
                return Ok(found);
            }
            other = other.or(Some(found.major));
        }
        match (other, wanted_major) {
            (Some(found), Some(cluster)) => Err(PostgresError::OtherVersion { cluster, found }),
            _ => Err(PostgresError::NotInstalled),
        }
    }
}

/// Folders of programs installed outside PATH, newest version first.
fn installed() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for root in VERSIONED {
        // If there is no such folder, nothing is installed there.
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if let Ok(version) = name.trim_start_matches("pgsql-").parse() {
                found.push((version, entry.path().join("bin")));
            }
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, dir)| dir).collect()
}

/// The major version in the output of `postgres --version`.
fn major_version(text: &str) -> Option<u32> {
    let version = text
        .split_whitespace()
        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_print_them() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(major_version(debian), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_version("nonsense"), None);
    }
}
