//! Which account the server runs under. PostgreSQL refuses to run as root, so a root process
//! hands its cluster to an account of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{Gid, Uid, User, chown, geteuid};

use super::PostgresError;
use crate::embedded::EmbeddedError;

/// Tried in this order; PostgreSQL needs one with an entry in the account database.
const ACCOUNTS: &[&str] = &["postgres", "nobody"];

/// The account of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// The one this process runs under.
    Ours,
    /// Another, since this process is root.
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
    /// The account for the cluster in `data`: the one that owns it, if it exists.
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

    /// Gives the account a file or folder.
    pub fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        let Self::Other { uid, gid, .. } = self else {
            return Ok(());
        };
        chown(path, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))
            .map_err(|e| EmbeddedError::io("give away", path)(e.into()))
    }

    /// Lets the account through `dir`, which is ours, and checks that it may search every folder
    /// above, which is for their owners to say.
    pub fn open_way(&self, dir: &Path) -> Result<(), EmbeddedError> {
        let Self::Other { name, uid, gid } = self else {
            return Ok(());
        };
        let search = fs::Permissions::from_mode(0o711);
        fs::set_permissions(dir, search).map_err(EmbeddedError::io("open", dir))?;
        for above in dir.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            let metadata = fs::metadata(above).map_err(EmbeddedError::io("inspect", above))?;
            let bit = if metadata.uid() == *uid {
                0o100
            } else if metadata.gid() == *gid {
                0o010
            } else {
                0o001
            };
            if metadata.mode() & bit == 0 {
                return Err(PostgresError::OutOfReach {
                    dir: above.to_owned(),
                    account: name.clone(),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Lets a program run under the account.
    pub fn apply(&self, command: &mut tokio::process::Command) {
        if let Self::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
    }
}
