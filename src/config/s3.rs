//! The event store's bucket.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::problems::Problems;
use super::secret::Secret;
use crate::store::adapters::s3::S3Settings;
use crate::store::adapters::tls::TlsFiles;

/// The bucket of the service that this one replaces.
pub const DEFAULT_BUCKET: &str = "spice-event-store";

/// What servers other than AWS expect if no region is configured.
const DEFAULT_REGION: &str = "us-east-1";

/// Far above a slow put, and a third of the deadline of an append, so that a lost request leaves
/// time to find out its outcome.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// With neither `endpoint` nor `region` the embedded store is used.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// URL of the server; leave it out for AWS. Without endpoint and region the service runs its own
    /// store.
    pub endpoint: Option<String>,
    /// Region; alone it means AWS.
    pub region: Option<String>,
    /// Bucket; created if missing.
    pub bucket: String,
    /// Access key; without it credentials are found as the SDKs of AWS find them: environment,
    /// profile, SSO, web identity, container, instance.
    pub access_key: Option<Secret>,
    /// Secret key; goes with `access_key`.
    pub secret_key: Option<Secret>,
    /// Token of temporary keys; goes with `access_key`. They are not renewed.
    pub session_token: Option<Secret>,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of the service's own certificate, for servers that ask for one.
    pub client_cert: Option<PathBuf>,
    /// PEM file of its key, not encrypted; goes with `client_cert`.
    pub client_key: Option<PathBuf>,
    /// Address the bucket in the path; every server takes that, AWS prefers the host name. The
    /// default is `true` with an `endpoint` and `false` for AWS.
    pub path_style: Option<bool>,
    /// A single request may take this long.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            bucket: DEFAULT_BUCKET.into(),
            access_key: None,
            secret_key: None,
            session_token: None,
            ca: None,
            client_cert: None,
            client_key: None,
            path_style: None,
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

impl S3Config {
    /// Whether the service runs its own store.
    pub fn is_embedded(&self) -> bool {
        self.endpoint.is_none() && self.region.is_none()
    }

    /// Settings of the client; `None` for the embedded store.
    pub fn settings(&self) -> Option<S3Settings> {
        if self.is_embedded() {
            return None;
        }
        let exposed = |secret: &Option<Secret>| secret.as_ref().map(|s| s.expose().to_owned());
        Some(S3Settings {
            endpoint: self.endpoint.clone(),
            region: self
                .region
                .clone()
                .unwrap_or_else(|| DEFAULT_REGION.to_owned()),
            bucket: self.bucket.clone(),
            access_key: exposed(&self.access_key),
            secret_key: exposed(&self.secret_key),
            session_token: exposed(&self.session_token),
            path_style: self.path_style.unwrap_or(self.endpoint.is_some()),
            request_timeout: self.request_timeout,
            tls: TlsFiles {
                ca: self.ca.clone(),
                client_cert: self.client_cert.clone(),
                client_key: self.client_key.clone(),
            },
        })
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(endpoint) = &self.endpoint {
            let fit = url::Url::parse(endpoint).is_ok_and(|u| {
                matches!(u.scheme(), "http" | "https")
                    && u.host().is_some()
                    && u.username().is_empty()
                    && u.password().is_none()
                    && u.query().is_none()
                    && u.fragment().is_none()
            });
            problems.require(
                fit,
                "s3.endpoint",
                "must be a URL with http or https, without an account, a query or a fragment; keys \
                 are s3.access_key and s3.secret_key",
            );
        }
        let name = self.bucket.as_bytes();
        let fit = (3..=63).contains(&name.len())
            && name
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
        problems.require(
            fit,
            "s3.bucket",
            "must have 3 to 63 of: lower-case letters, digits, `-`, `.`",
        );
        match (&self.access_key, &self.secret_key) {
            (Some(_), None) => problems.add("s3.secret_key", "is missing: it goes with access_key"),
            (None, Some(_)) => problems.add("s3.access_key", "is missing: it goes with secret_key"),
            (None, None) if self.session_token.is_some() => problems.add(
                "s3.session_token",
                "goes with s3.access_key and s3.secret_key",
            ),
            _ => {}
        }
        if self.client_cert.is_some() != self.client_key.is_some() {
            problems.add("s3.client_cert", "and s3.client_key go together");
        }
        for (key, file) in [
            ("s3.ca", &self.ca),
            ("s3.client_cert", &self.client_cert),
            ("s3.client_key", &self.client_key),
        ] {
            // AWS_CA_BUNDLE may be set for others.
            if !self.is_embedded()
                && let Some(file) = file
                && let Err(error) = std::fs::File::open(file)
            {
                problems.add(key, format!("cannot be read: {}: {error}", file.display()));
            }
        }
        problems.require(
            !self.request_timeout.is_zero(),
            "s3.request_timeout",
            "must be longer than 0",
        );
    }
}
