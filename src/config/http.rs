//! The HTTP server.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::{cores, duration};

/// The port of the service that this one replaces.
pub const DEFAULT_PORT: u16 = 8000;

/// 1 MiB: a thousand instances of a kilobyte, the largest batch the API takes.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The smallest value allowed for `max_body_bytes`.
const MIN_BODY_BYTES_LIMIT: usize = 1024;

/// The largest value allowed for `max_body_bytes`: the events of a request must fit one commit
/// object, in which they take up to twice its size.
const MAX_BODY_BYTES_LIMIT: usize = super::log::MAX_BATCH_BYTES / 2;

/// Twice the largest number of writers in the benchmarks; more waiting requests gain no throughput.
const MAX_IN_FLIGHT: usize = 2048;

/// 256 of the largest bodies: several times as much in events and commit objects fits a small
/// machine.
const MAX_BODY_BYTES_IN_FLIGHT: usize = 256 << 20;

/// 32 of the largest pages, of 8 MiB of data each.
const MAX_RESPONSE_BYTES_IN_FLIGHT: usize = 256 << 20;

/// The largest page, with the rest of its answer: with a lower limit some answers could never be
/// given.
const LARGEST_ANSWER: usize = 16 << 20;

/// An idle connection takes about 20 KiB. Reduced where the process may open fewer files.
const MAX_CONNECTIONS: usize = 8192;

/// Each holds up to a page; a process that needs more streams should read the topics instead.
const MAX_STREAMS: usize = 256;

/// A quarter of all, so that the consumers of one token do not lock out others.
const MAX_STREAMS_PER_PRINCIPAL: usize = 64;

/// A head is one or two packets.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// 1 MiB at 100 KiB a second.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A piece of 32 KiB over the slowest of networks; a client that is disconnected can ask again.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Half the time that orchestrators give by default.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);

/// Three times the deadline of an append: room for waiting, deciding again and reading back.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// Longer than the 60 s most load balancers keep a connection, so that they close it first.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// A month: long enough to be of use, and short enough to be waited for where HTTPS is given up.
const HSTS: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address to bind; anything but loopback needs `auth.tokens`, `auth.tokens_file` or `auth.oidc`.
    pub host: String,
    /// Port to bind; 0 takes a free one.
    pub port: u16,
    /// Address on which administrators are served, if `admin_port` is set; anything but loopback needs
    /// tokens, as for `host`.
    pub admin_host: String,
    /// A port of its own for administrators: there everything is served, and on `port` neither
    /// `/api/v1/admin` nor `/metrics` nor `/console`; 0 takes a free one.
    pub admin_port: Option<u16>,
    /// Threads that serve HTTP: half the cores, since the other half run the actors.
    pub workers: usize,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Requests in work at once, until their answers are written; one more is answered 503.
    pub max_in_flight: usize,
    /// Bytes, over all requests in work, of bodies too large to come in one piece; beyond it they
    /// are answered 503.
    pub max_body_bytes_in_flight: usize,
    /// Bytes of answers that callers have not taken yet; beyond it requests are answered 503.
    pub max_response_bytes_in_flight: usize,
    /// Connections at once; more wait. Fewer where the process may not open so many files.
    pub max_connections: usize,
    /// Live streams at once; one more is answered 503.
    pub max_streams: usize,
    /// Live streams at once of one token; one more is answered 429.
    pub max_streams_per_principal: usize,
    /// A client that took this long to send the head of a request is cut off.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// A client that took this long to send the body of a request is answered 408.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    /// A client that takes nothing of its answer for this long is cut off.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// Requests in work at the end of the process may take this long to end.
    #[serde(with = "duration")]
    pub shutdown_timeout: Duration,
    /// Origins (`https://app.example`) whose web pages may read answers; `*`, all, goes with tokens
    /// only.
    pub cors_origins: Vec<String>,
    /// A request that took this long is answered without a result.
    #[serde(with = "duration")]
    pub request_deadline: Duration,
    /// An idle connection is closed after this long.
    #[serde(with = "duration")]
    pub keep_alive: Duration,
    /// Certificate chain (PEM) for HTTPS; goes with `tls_key`. Both files are read again when they
    /// change.
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) for HTTPS; goes with `tls_cert`.
    pub tls_key: Option<PathBuf>,
    /// Authorities (PEM): with HTTPS, connections have to show a certificate that one of them issued.
    /// It lets nobody in by itself: tokens say who asks.
    pub client_ca: Option<PathBuf>,
    /// For how long browsers remember that HTTPS is spoken here (`Strict-Transport-Security`), where
    /// it is and other machines are let in; 0: they are not told.
    #[serde(with = "duration")]
    pub hsts: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: DEFAULT_PORT,
            admin_host: "127.0.0.1".into(),
            admin_port: None,
            workers: (cores() / 2).max(1),
            max_body_bytes: MAX_BODY_BYTES,
            max_in_flight: MAX_IN_FLIGHT,
            max_body_bytes_in_flight: MAX_BODY_BYTES_IN_FLIGHT,
            max_response_bytes_in_flight: MAX_RESPONSE_BYTES_IN_FLIGHT,
            max_connections: MAX_CONNECTIONS,
            max_streams: MAX_STREAMS,
            max_streams_per_principal: MAX_STREAMS_PER_PRINCIPAL,
            head_timeout: HEAD_TIMEOUT,
            body_timeout: BODY_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            cors_origins: Vec::new(),
            request_deadline: REQUEST_DEADLINE,
            keep_alive: KEEP_ALIVE,
            tls_cert: None,
            tls_key: None,
            client_ca: None,
            hsts: HSTS,
        }
    }
}

impl HttpConfig {
    /// Whether only this machine can reach the server.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host) && (self.admin_port.is_none() || is_loopback(&self.admin_host))
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        for (key, host) in [
            ("http.host", &self.host),
            ("http.admin_host", &self.admin_host),
        ] {
            let known = host == "localhost" || host.parse::<IpAddr>().is_ok();
            problems.require(known, key, "must be an IP address or `localhost`");
        }
        problems.require(
            self.admin_port
                .is_none_or(|port| port == 0 || port != self.port),
            "http.admin_port",
            "must be another one than http.port",
        );
        problems.require(self.workers > 0, "http.workers", "must be at least 1");
        if !(MIN_BODY_BYTES_LIMIT..=MAX_BODY_BYTES_LIMIT).contains(&self.max_body_bytes) {
            let message = format!(
                "must be between {MIN_BODY_BYTES_LIMIT} and {MAX_BODY_BYTES_LIMIT}, half of what \
                 one commit object can carry"
            );
            problems.add("http.max_body_bytes", message);
        }
        problems.require(
            self.max_body_bytes_in_flight >= self.max_body_bytes,
            "http.max_body_bytes_in_flight",
            "must be at least http.max_body_bytes, or the largest body would never be taken",
        );
        if self.max_response_bytes_in_flight < LARGEST_ANSWER {
            let message =
                format!("must be at least {LARGEST_ANSWER}, or some answers could never be given");
            problems.add("http.max_response_bytes_in_flight", message);
        }
        for (key, value) in [
            ("http.max_in_flight", self.max_in_flight),
            ("http.max_connections", self.max_connections),
            ("http.max_streams", self.max_streams),
            (
                "http.max_streams_per_principal",
                self.max_streams_per_principal,
            ),
        ] {
            problems.require(value > 0, key, "must be at least 1");
        }
        for (key, value) in [
            ("http.request_deadline", self.request_deadline),
            ("http.head_timeout", self.head_timeout),
            ("http.body_timeout", self.body_timeout),
            ("http.write_timeout", self.write_timeout),
        ] {
            problems.require(!value.is_zero(), key, "must be longer than 0");
        }
        for origin in &self.cors_origins {
            if origin != "*" && !is_origin(origin) {
                let message = format!(
                    "`{origin}` is no origin: scheme, host and port as a browser sends them, such \
                     as https://app.example or http://localhost:3000"
                );
                problems.add("http.cors_origins", message);
            }
        }
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
        if let Some(path) = &self.client_ca {
            problems.require(
                self.tls_cert.is_some(),
                "http.client_ca",
                "asks for certificates of clients, which need HTTPS: set http.tls_cert and \
                 http.tls_key",
            );
            if !path.is_file() {
                problems.add(
                    "http.client_ca",
                    format!("no such file: {}", path.display()),
                );
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost",
    }
}

/// Whether this is exactly what a browser sends as the origin of a page.
fn is_origin(text: &str) -> bool {
    let parsed = url::Url::parse(text);
    parsed.is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
    })
}
