//! What every request meets before it reaches the service: limits, tokens, ids. Knows nothing of
//! the service itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::auth::{Authenticator, Token};
use crate::domain::time::new_uuid;
use crate::service::audit::AuditTrail;

/// How the API is served. `boot` maps the configuration into it.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Address to listen on.
    pub host: String,
    /// Port; 0 lets the system choose one.
    pub port: u16,
    /// Threads that serve requests.
    pub workers: usize,
    /// Largest body in bytes.
    pub max_body_bytes: usize,
    /// Requests handled at once, over all workers; more are told to come back.
    pub max_in_flight: usize,
    /// Bytes of the bodies that come in more than one piece, over all requests in work; a body
    /// that goes beyond it is told to come back. What comes in one piece, a buffer of a connection
    /// at most, is bounded by `max_in_flight`.
    pub max_body_bytes_in_flight: usize,
    /// Live streams at once.
    pub max_streams: usize,
    /// Connections at once, per worker; more wait in the system's queue.
    pub max_connections: usize,
    /// How long a request may take in all.
    pub request_deadline: Duration,
    /// How long a client may take to send the head of a request.
    pub head_timeout: Duration,
    /// How long a client may take to send the body of a request.
    pub body_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long requests in flight may take to end at shutdown.
    pub shutdown_timeout: Duration,
    /// Certificate and key; without them the API speaks plain HTTP.
    pub tls: Option<TlsFiles>,
}

/// Where the certificate and its key are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM file with the certificate chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8000,
            workers: 2,
            max_body_bytes: 1 << 20,
            // At 12,000 writes a second and 25 ms each, 300 are in flight; this leaves room for
            // bursts and for stores that answer in 100 ms.
            max_in_flight: 4_096,
            max_body_bytes_in_flight: 256 << 20,
            max_streams: 256,
            max_connections: 8_192,
            request_deadline: Duration::from_secs(10),
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            shutdown_timeout: Duration::from_secs(15),
            tls: None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Edge {
    /// How the API is served.
    pub settings: HttpSettings,
    /// Who is who.
    pub auth: Authenticator,
    /// Where orders and refusals are recorded.
    pub audit: Option<Arc<AuditTrail>>,
    in_flight: Arc<AtomicUsize>,
    body_bytes: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
    closing: watch::Sender<bool>,
    id_prefix: u32,
    next_id: AtomicU64,
}

/// A place among a bounded number of them, given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        if taken.fetch_add(1, Ordering::AcqRel) >= limit {
            taken.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Self(taken.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Bytes held of a bounded number of them, given back when dropped.
#[derive(Debug)]
pub struct HeldBytes {
    held: usize,
    all: Arc<AtomicUsize>,
}

impl HeldBytes {
    /// Holds so many more; false where that would be too many over all, and then nothing changes.
    pub fn grow(&mut self, bytes: usize, limit: usize) -> bool {
        let fits = self.all.fetch_add(bytes, Ordering::AcqRel) + bytes <= limit;
        if fits {
            self.held += bytes;
        } else {
            self.all.fetch_sub(bytes, Ordering::AcqRel);
        }
        fits
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.all.fetch_sub(self.held, Ordering::AcqRel);
    }
}

impl Edge {
    /// Serves as `settings` say, to those who bring one of `tokens`.
    pub fn new(settings: HttpSettings, tokens: Vec<Token>) -> Self {
        Self {
            settings,
            auth: Authenticator::new(tokens),
            audit: None,
            in_flight: Arc::default(),
            body_bytes: Arc::default(),
            streams: Arc::default(),
            closing: watch::Sender::new(false),
            // The random end of the UUID, not the time at its beginning.
            id_prefix: new_uuid().as_u128() as u32,
            next_id: AtomicU64::new(1),
        }
    }

    /// The same, with what administrators order and who is refused recorded in `audit`.
    pub fn with_audit(mut self, audit: Arc<AuditTrail>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Room for one more request; `None` at the limit.
    pub fn admit(&self) -> Option<Place> {
        Place::take(&self.in_flight, self.settings.max_in_flight)
    }

    /// An account of the bytes of one body.
    pub fn hold_bytes(&self) -> HeldBytes {
        HeldBytes {
            held: 0,
            all: self.body_bytes.clone(),
        }
    }

    /// Room for one more live stream; `None` at the limit.
    pub fn open_stream(&self) -> Option<Place> {
        Place::take(&self.streams, self.settings.max_streams)
    }

    /// A fresh request id: unique to this process by its prefix, within it by its number.
    pub fn request_id(&self) -> String {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}-{number:x}", self.id_prefix)
    }

    /// Ends live streams; they would otherwise hold a graceful shutdown up until its timeout.
    pub fn close_streams(&self) {
        self.closing.send_replace(true);
    }

    /// Tells when live streams must end.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_13_places_are_bounded_and_given_back() {
        let settings = HttpSettings {
            max_in_flight: 2,
            ..HttpSettings::default()
        };
        let edge = Edge::new(settings, vec![]);
        let first = edge.admit().unwrap();
        let _second = edge.admit().unwrap();
        assert!(edge.admit().is_none());
        assert!(edge.admit().is_none());
        drop(first);
        let _third = edge.admit().unwrap();
        assert!(edge.admit().is_none());
    }

    #[test]
    fn request_ids_differ() {
        let edge = Edge::new(HttpSettings::default(), vec![]);
        assert_ne!(edge.request_id(), edge.request_id());
    }
}
