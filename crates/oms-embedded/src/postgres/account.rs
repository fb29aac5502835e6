//! The account under which the server runs. PostgreSQL refuses to run as root, so a root process
//! gives its cluster to another account.
//!
//! That account may have no access to the folders above the cluster, such as root's home and our
//! own data directory. It inherits descriptors of the cluster's folders that we have opened, and
//! uses them through their numbers ([`Handed`]).

use std::fs::{self, File};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{Gid, Uid, User, chown, geteuid};

use super::PostgresError;
use crate::EmbeddedError;

/// Tried in this order; PostgreSQL needs an account with an entry in the user database.
const ACCOUNTS: &[&str] = &["postgres", "nobody"];

/// The account of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// The account of this process.
    Ours,
    /// Another account, because this process is root.
    Other {
        /// Its name.
        name: String,
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
}

impl Account {
    /// The account for the cluster in `data`: its owner, if it exists.
    pub fn choose(data: &Path) -> Result<Self, PostgresError> {
        if !geteuid().is_root() {
            return Ok(Self::Ours);
        }
        let owner = fs::metadata(data)
            .ok()
            .filter(|m| m.uid() != 0)
            .and_then(|m| User::from_uid(Uid::from_raw(m.uid())).ok().flatten());
        let named = || {
            let by_name = |name: &&str| User::from_name(name).ok().flatten();
            ACCOUNTS.iter().find_map(by_name)
        };
        let user = owner.or_else(named).ok_or(PostgresError::NoAccount)?;
        Ok(Self::Other {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }

    /// Makes the account the owner of a file or folder.
    pub fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        let Self::Other { uid, gid, .. } = self else {
            return Ok(());
        };
        chown(path, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))
            .map_err(|e| EmbeddedError::io("give away", path)(e.into()))
    }

    /// Opens a file or folder of the account's, for a program that runs under it.
    pub fn hand(&self, path: &Path) -> Result<Handed, EmbeddedError> {
        let open = match self {
            Self::Ours => None,
            Self::Other { .. } => Some(File::open(path).map_err(EmbeddedError::io("open", path))?),
        };
        Ok(Handed {
            path: path.to_owned(),
            open,
        })
    }

    /// Sets a program to run under the account, with what it inherits.
    pub fn apply(&self, command: &mut tokio::process::Command, handed: &[&Handed]) {
        let Self::Other { uid, gid, .. } = self else {
            return;
        };
        command.uid(*uid).gid(*gid);
        let numbers: Vec<RawFd> = handed.iter().filter_map(|h| h.number()).collect();
        // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe. The
        // descriptors are open until the program was started, because the caller holds the
        // [`Handed`] values.
        unsafe {
            command.pre_exec(move || {
                for number in &numbers {
                    let file = std::os::fd::BorrowedFd::borrow_raw(*number);
                    fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
                }
                Ok(())
            });
        }
    }

    /// Whether a program can run under the account: its folders may be inaccessible, or its disk
    /// mounted `noexec`.
    pub fn runs(&self, program: &Path) -> bool {
        let mut command = std::process::Command::new(program);
        if let Self::Other { uid, gid, .. } = self {
            use std::os::unix::process::CommandExt;
            command.uid(*uid).gid(*gid);
        }
        let output = command.arg("--version").current_dir("/").output();
        output.is_ok_and(|o| o.status.success())
    }
}

/// A descriptor that a program inherits, see [`Account::hand`]. Must be held until the program was
/// started.
#[derive(Debug)]
pub struct Handed {
    path: PathBuf,
    open: Option<File>,
}

impl Handed {
    fn number(&self) -> Option<RawFd> {
        self.open.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Its path in the program: a link to the file or folder itself, without the folders above,
    /// also valid in the program's children.
    pub fn name(&self) -> PathBuf {
        match self.number() {
            Some(number) => format!("/proc/self/fd/{number}").into(),
            None => self.path.clone(),
        }
    }
}
