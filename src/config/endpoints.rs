//! `endpoints.json` in the data directory: where the parts of a running service can be reached,
//! so that psql, an S3 client, a Kafka client and our own commands find them.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::store::s3::S3Endpoint;

/// Name of the file.
pub const FILE: &str = "endpoints.json";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Process that wrote the file.
    pub pid: u32,
    /// Base URL of the API.
    pub http: String,
    /// The bucket, when the store is embedded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub s3: Option<S3Endpoint>,
    /// Connection string, when the server is embedded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub postgres: Option<String>,
    /// `host:port` of the broker.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kafka: Option<String>,
}

impl Endpoints {
    /// Reads the file of a data directory; `None` when there is none.
    pub fn read(data_dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(data_dir.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes the file, in one step, for its owner only.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let path = data_dir.join(FILE);
        let fresh = data_dir.join(format!("{FILE}.{}", self.pid));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.write_all(b"\n")?;
        drop(file);
        fs::rename(fresh, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_reads_back_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Endpoints::read(dir.path()).unwrap(), None);
        let endpoints = Endpoints {
            pid: 7,
            http: "http://127.0.0.1:8000".into(),
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
    }
}
