//! Address and credentials of an S3 endpoint.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An S3 endpoint with a key pair. The bucket is addressed in the path.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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

impl fmt::Debug for S3Endpoint {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Endpoint({}/{})", self.endpoint, self.bucket)
    }
}
