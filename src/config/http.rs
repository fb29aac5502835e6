//! The HTTP server.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::{cores, duration};

/// The predecessor's port.
pub const DEFAULT_PORT: u16 = 8000;

/// 1 MiB: a thousand instances of a kilobyte, the largest batch the API takes.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Largest body that may be allowed: what one commit object can carry, see
/// [`super::log::MAX_BATCH_BYTES`].
const MAX_BODY_BYTES_LIMIT: usize = super::log::MAX_BATCH_BYTES;

/// Twice the largest number of writers the service is measured with; beyond it waiting longer
/// gains no throughput.
const MAX_IN_FLIGHT: usize = 2048;

/// 256 of the largest bodies: some times as much in events and commit objects fits a small machine.
const MAX_BODY_BYTES_IN_FLIGHT: usize = 256 << 20;

/// Three times the deadline of an append: room for waiting, deciding again and reading back.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// Longer than the 60 s most load balancers keep a connection, so that they close it first.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address to bind; anything but loopback needs `auth.tokens`.
    pub host: String,
    /// Port to bind; 0 takes a free one.
    pub port: u16,
    /// Threads that serve HTTP: half the cores, since the other half run the actors.
    pub workers: usize,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Requests in work at once; one more is answered 503.
    pub max_in_flight: usize,
    /// Bytes, over all requests in work, of bodies too large to come in one piece; beyond it they
    /// are answered 503.
    pub max_body_bytes_in_flight: usize,
    /// A request that took this long is answered without a result.
    #[serde(with = "duration")]
    pub request_deadline: Duration,
    /// An idle connection is closed after this long.
    #[serde(with = "duration")]
    pub keep_alive: Duration,
    /// Certificate chain (PEM) for HTTPS; goes with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) for HTTPS; goes with `tls_cert`.
    pub tls_key: Option<PathBuf>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: DEFAULT_PORT,
            workers: (cores() / 2).max(1),
            max_body_bytes: MAX_BODY_BYTES,
            max_in_flight: MAX_IN_FLIGHT,
            max_body_bytes_in_flight: MAX_BODY_BYTES_IN_FLIGHT,
            request_deadline: REQUEST_DEADLINE,
            keep_alive: KEEP_ALIVE,
            tls_cert: None,
            tls_key: None,
        }
    }
}

impl HttpConfig {
    /// Whether only this machine can reach the server.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let known = self.host == "localhost" || self.host.parse::<IpAddr>().is_ok();
        problems.require(known, "http.host", "must be an IP address or `localhost`");
        problems.require(self.workers > 0, "http.workers", "must be at least 1");
        problems.require(
            (1024..=MAX_BODY_BYTES_LIMIT).contains(&self.max_body_bytes),
            "http.max_body_bytes",
            "must be between 1024 and 4194304, what one commit object can carry",
        );
        problems.require(
            self.max_in_flight > 0,
            "http.max_in_flight",
            "must be at least 1",
        );
        problems.require(
            self.max_body_bytes_in_flight >= self.max_body_bytes,
            "http.max_body_bytes_in_flight",
            "must be at least http.max_body_bytes, or the largest body would never be taken",
        );
        problems.require(
            !self.request_deadline.is_zero(),
            "http.request_deadline",
            "must be longer than 0",
        );
        for (key, path, other) in [
            ("http.tls_cert", &self.tls_cert, &self.tls_key),
            ("http.tls_key", &self.tls_key, &self.tls_cert),
        ] {
            match path {
                Some(path) if !path.is_file() => {
                    problems.add(key, format!("no such file: {}", path.display()));
                }
                None if other.is_some() => {
                    problems.add(key, "is missing: certificate and key go together");
                }
                _ => {}
            }
        }
    }
}
