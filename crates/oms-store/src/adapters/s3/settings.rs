//! Where the bucket is, and with what it is reached.

use std::time::Duration;

use crate::adapters::tls::TlsFiles;

/// Address and credentials of the bucket.
#[derive(Clone)]
pub struct S3Settings {
    /// URL of the server; `None` for AWS.
    pub endpoint: Option<String>,
    /// Region name.
    pub region: String,
    /// Bucket name.
    pub bucket: String,
    /// Access key; `None` to find credentials as the SDKs of AWS do.
    pub access_key: Option<String>,
    /// Secret key.
    pub secret_key: Option<String>,
    /// Token of temporary keys.
    pub session_token: Option<String>,
    /// Whether the bucket is addressed in the path instead of the host name.
    pub path_style: bool,
    /// Timeout of a single request.
    pub request_timeout: Duration,
    /// What the client trusts, and its own certificate.
    pub tls: TlsFiles,
}

impl S3Settings {
    /// A bucket of the server at this URL, addressed in the path.
    pub fn at(
        endpoint: &str,
        region: &str,
        bucket: &str,
        (access_key, secret_key): (&str, &str),
        request_timeout: Duration,
    ) -> Self {
        Self {
            endpoint: Some(endpoint.to_owned()),
            region: region.to_owned(),
            bucket: bucket.to_owned(),
            access_key: Some(access_key.to_owned()),
            secret_key: Some(secret_key.to_owned()),
            session_token: None,
            path_style: true,
            request_timeout,
            tls: TlsFiles::default(),
        }
    }
}

impl std::fmt::Debug for S3Settings {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Settings")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .field("path_style", &self.path_style)
            .field("request_timeout", &self.request_timeout)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
