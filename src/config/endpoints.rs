//! `endpoints.json` in the data directory: the addresses of a running service, for psql, S3 and
//! Kafka clients and our own commands. A client that follows it sends its token there, so a file
//! that another user may have written is refused.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use serde::{Deserialize, Serialize};

pub use crate::embedded::S3Endpoint;
use crate::store::adapters::s3::S3Settings;

/// Settings for an S3 client of an embedded endpoint.
pub fn s3_settings(at: &S3Endpoint, request_timeout: Duration) -> S3Settings {
    let keys = (at.access_key.as_str(), at.secret_key.as_str());
    S3Settings::at(&at.endpoint, &at.region, &at.bucket, keys, request_timeout)
}

/// Name of the file.
pub const FILE: &str = "endpoints.json";

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The process that wrote it.
    pub pid: u32,
    /// Base URL of the API.
    pub http: String,
    /// Base URL where administrators are served, if that is another one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub admin: Option<String>,
    /// The embedded bucket, with keys that can only read; `None` for another one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub s3: Option<S3Endpoint>,
    /// Connection string of the embedded server; `None` for another one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub postgres: Option<String>,
    /// `host:port` of the broker.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kafka: Option<String>,
}

impl Endpoints {
    /// Where everything is served.
    pub fn whole(&self) -> &str {
        self.admin.as_deref().unwrap_or(&self.http)
    }

    /// Reads the file of a data directory; `None` if there is none. Refused if its owner is neither
    /// this user nor root, or others may write it.
    pub fn read(data_dir: &Path) -> io::Result<Option<Self>> {
        let path = data_dir.join(FILE);
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(named(e)),
        };
        let metadata = file.metadata().map_err(named)?;
        let us = nix::unistd::geteuid().as_raw();
        let trusted = [us, 0].contains(&metadata.uid()) && metadata.mode() & 0o022 == 0;
        if !trusted {
            let why = format!(
                "is not followed: it is user {}'s with mode {:o}, and must be yours or root's and \
                 writable by nobody else; name the service by --url",
                metadata.uid(),
                metadata.mode() & 0o7777
            );
            return Err(named(io::Error::new(io::ErrorKind::PermissionDenied, why)));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(named)?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// Writes the file atomically, readable by its owner only.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let path = data_dir.join(FILE);
        let fresh = data_dir.join(format!("{FILE}.{}", self.pid));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        // A leftover of the same name may have other permissions.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.write_all(b"\n")?;
        drop(file);
        fs::rename(fresh, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_back_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Endpoints::read(dir.path()).unwrap(), None);
        let endpoints = Endpoints {
            pid: 7,
            http: "http://127.0.0.1:8000".into(),
            admin: None,
            s3: None,
            postgres: None,
            kafka: Some("127.0.0.1:9092".into()),
        };
        endpoints.write(dir.path()).unwrap();
        assert_eq!(Endpoints::read(dir.path()).unwrap(), Some(endpoints));
        let mode = fs::metadata(dir.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);

        // What somebody else may have written is not followed.
        let file = dir.path().join(FILE);
        let others_write = fs::Permissions::from_mode(0o620);
        fs::set_permissions(&file, others_write).unwrap();
        let refused = Endpoints::read(dir.path()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Endpoints::read(dir.path()).unwrap().is_some());
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(4711), None).unwrap();
            let refused = Endpoints::read(dir.path()).unwrap_err().to_string();
            assert!(refused.contains("user 4711"), "{refused}");
        }
    }
}
