//! What `oms serve` starts by itself on loopback when nothing is configured: S3, PostgreSQL and
//! Kafka, with their data in one folder.
//!
//! Embedded never means another code path: the service speaks to all three through the clients it
//! uses in production, only the addresses differ. What is lost when the process ends: nothing of
//! S3 and PostgreSQL, which are durable; everything of [`kafka`], which forgets.

pub mod files;
pub mod s3;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the S3 endpoint is and how to get in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Endpoint {
    /// URL of the server.
    pub endpoint: String,
    /// Region name.
    pub region: String,
    /// Bucket name.
    pub bucket: String,
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
}

/// The embedded stack could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The file system or network refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The S3 store.
    #[error("embedded S3: {0}")]
    Store(#[from] s3::error::LogStoreError),
    /// The bucket could not be made.
    #[error("embedded S3: cannot make the bucket: {0}")]
    Bucket(s3::error::ChangeError),
}

impl EmbeddedError {
    /// Wraps an I/O error with what was attempted.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
