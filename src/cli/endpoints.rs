//! `endpoints.json` in the data directory: where a service that runs there, or ran last, and its
//! embedded parts can be reached.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use serde::Deserialize;

use crate::store::s3::S3Settings;

/// Name of the file.
pub const FILE: &str = "endpoints.json";

/// The embedded bucket.
#[derive(Clone, Deserialize)]
pub struct S3Endpoint {
    endpoint: String,
    region: String,
    bucket: String,
    access_key: String,
    secret_key: String,
}

impl S3Endpoint {
    /// Settings of a client of it.
    pub fn settings(&self, request_timeout: Duration) -> S3Settings {
        S3Settings {
            endpoint: Some(self.endpoint.clone()),
            region: self.region.clone(),
            bucket: self.bucket.clone(),
            access_key: Some(self.access_key.clone()),
            secret_key: Some(self.secret_key.clone()),
            path_style: true,
            request_timeout,
        }
    }
}

/// See the module. Holds keys: not `Debug`.
#[derive(Clone, Deserialize)]
pub struct Endpoints {
    /// Base URL of the API.
    pub http: String,
    /// The bucket, when the store is embedded.
    #[serde(default)]
    pub s3: Option<S3Endpoint>,
    /// `bootstrap.servers`, when the broker is embedded.
    #[serde(default)]
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
}
