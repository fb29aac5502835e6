//! What every request meets before it reaches the service: limits, tokens, ids. Knows nothing of
//! the service itself.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::auth::{Authenticator, Token};
use super::cors::Cors;
use super::sse::TURNS;
use crate::clock::new_uuid;
use crate::service::audit::AuditTrail;

/// How the API is served. `boot` makes it of the configuration, which has the defaults.
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
    /// Requests in work at once, over all workers, until their answers are written; more are told
    /// to come back.
    pub max_in_flight: usize,
    /// Bytes of the bodies that come in more than one piece, over all requests in work; a body
    /// that goes beyond it is told to come back. What comes in one piece, a buffer of a connection
    /// at most, is bounded by `max_in_flight`.
    pub max_body_bytes_in_flight: usize,
    /// Bytes of answers that are not written yet; beyond it callers are told to come back.
    pub max_response_bytes_in_flight: usize,
    /// Live streams at once.
    pub max_streams: usize,
    /// Live streams at once of one token.
    pub max_streams_per_principal: usize,
    /// Connections at once, over all workers; more wait in the system's queue.
    pub max_connections: usize,
    /// How long a request may take in all.
    pub request_deadline: Duration,
    /// How long a client may take to send the head of a request.
    pub head_timeout: Duration,
    /// How long a client may take to send the body of a request.
    pub body_timeout: Duration,
    /// How long a client may take to take a piece of an answer.
    pub write_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long requests in flight may take to end at shutdown.
    pub shutdown_timeout: Duration,
    /// Certificate and key; without them the API speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Origins whose pages may read answers.
    pub cors_origins: Vec<String>,
}

/// Where the certificate and its key are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM file with the certificate chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// See the module.
#[derive(Debug)]
pub struct HttpLimits {
    /// How the API is served.
    pub settings: HttpSettings,
    /// Who is who.
    pub auth: Authenticator,
    /// Where orders and refusals are recorded.
    pub audit: Option<Arc<AuditTrail>>,
    /// Which web pages may read answers.
    pub cors: Cors,
    in_flight: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    body_bytes: Arc<Budget>,
    response_bytes: Arc<Budget>,
    streams: Arc<AtomicUsize>,
    /// Live streams by principal: as many as there are tokens.
    streams_of: Mutex<HashMap<Arc<str>, Arc<AtomicUsize>>>,
    /// Of live streams that have more to look at than comes in a moment, see [`super::sse`].
    pub turns: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    id_prefix: u32,
    next_id: AtomicU64,
}

/// A place among a bounded number of them, given back when dropped.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Permit {
    fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        if taken.fetch_add(1, Ordering::AcqRel) >= limit {
            taken.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Self(taken.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A number of bytes that may be held.
#[derive(Debug)]
struct Budget {
    held: AtomicUsize,
    limit: usize,
}

impl Budget {
    fn new(limit: usize) -> Arc<Self> {
        let held = AtomicUsize::new(0);
        Arc::new(Self { held, limit })
    }
}

/// Bytes held of a bounded number of them, given back when dropped.
#[derive(Debug)]
pub struct HeldBytes {
    held: usize,
    of: Arc<Budget>,
}

impl HeldBytes {
    fn none(of: &Arc<Budget>) -> Self {
        let of = of.clone();
        Self { held: 0, of }
    }

    /// Holds so many more; false where that would be too many over all, and then nothing changes.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let fits = self.of.held.fetch_add(bytes, Ordering::AcqRel) + bytes <= self.of.limit;
        if fits {
            self.held += bytes;
        } else {
            self.of.held.fetch_sub(bytes, Ordering::AcqRel);
        }
        fits
    }

    /// Holds so many more, whatever the limit: they are there already, and others shall wait.
    pub fn grow_beyond(&mut self, bytes: usize) {
        self.of.held.fetch_add(bytes, Ordering::AcqRel);
        self.held += bytes;
    }

    /// Gives all of them back.
    pub fn release(&mut self) {
        self.of.held.fetch_sub(self.held, Ordering::AcqRel);
        self.held = 0;
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.release();
    }
}

/// Why a live stream is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRefused {
    /// All are taken.
    TooMany,
    /// The principal has its share.
    Share,
}

impl HttpLimits {
    /// Serves as `settings` say, to those who bring one of `tokens`.
    pub fn new(settings: HttpSettings, tokens: Vec<Token>) -> Self {
        Self {
            body_bytes: Budget::new(settings.max_body_bytes_in_flight),
            response_bytes: Budget::new(settings.max_response_bytes_in_flight),
            cors: Cors::new(settings.cors_origins.clone()),
            settings,
            auth: Authenticator::new(tokens),
            audit: None,
            in_flight: Arc::default(),
            connections: Arc::default(),
            streams: Arc::default(),
            streams_of: Mutex::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
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
    pub fn admit(&self) -> Option<Permit> {
        Permit::take(&self.in_flight, self.settings.max_in_flight)
    }

    /// An account of the bytes of one body.
    pub fn hold_bytes(&self) -> HeldBytes {
        HeldBytes::none(&self.body_bytes)
    }

    /// An account of the bytes of one answer.
    pub fn hold_response(&self) -> HeldBytes {
        HeldBytes::none(&self.response_bytes)
    }

    /// Whether no further answer can be held: then nothing is begun whose answer would be lost.
    pub fn is_full_of_responses(&self) -> bool {
        self.response_bytes.held.load(Ordering::Acquire) >= self.response_bytes.limit
    }

    /// Counts a connection, until what is returned is dropped. Never refused: the listener accepts no
    /// more than there may be.
    pub fn open_connection(&self) -> Permit {
        self.connections.fetch_add(1, Ordering::AcqRel);
        Permit(self.connections.clone())
    }

    /// Whether most of the connections there may be are open: then idle ones are kept for a moment
    /// only.
    pub fn is_short_of_connections(&self) -> bool {
        let limit = self.settings.max_connections;
        self.connections.load(Ordering::Relaxed) > limit - limit / 4
    }

    /// Sets the gauges of what clients hold.
    pub fn measure(&self) {
        crate::metrics::http_held(
            self.connections.load(Ordering::Relaxed),
            self.response_bytes.held.load(Ordering::Relaxed),
            self.streams.load(Ordering::Relaxed),
        );
    }

    /// Room for one more live stream of this principal. Who is nobody in particular, because there
    /// are no tokens, may have them all.
    pub fn open_stream(
        &self,
        principal: &Arc<str>,
    ) -> Result<(Permit, Option<Permit>), StreamRefused> {
        let mut own = None;
        if self.auth.knows_tokens() {
            let taken = self
                .streams_of
                .lock()
                .entry(principal.clone())
                .or_default()
                .clone();
            let limit = self.settings.max_streams_per_principal;
            own = Some(Permit::take(&taken, limit).ok_or(StreamRefused::Share)?);
        }
        let place = Permit::take(&self.streams, self.settings.max_streams);
        Ok((place.ok_or(StreamRefused::TooMany)?, own))
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
impl HttpLimits {
    /// Requests in work, bytes of answers on their way, connections.
    pub fn held(&self) -> (usize, usize, usize) {
        (
            self.in_flight.load(Ordering::Acquire),
            self.response_bytes.held.load(Ordering::Acquire),
            self.connections.load(Ordering::Acquire),
        )
    }
}

#[cfg(test)]
impl HttpSettings {
    /// What production has when nothing is configured, with room for as many cores everywhere.
    pub fn standard() -> Self {
        crate::boot::http_settings(&crate::config::Config::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::auth::Roles;

    #[test]
    fn law_13_places_are_bounded_and_given_back() {
        let settings = HttpSettings {
            max_in_flight: 2,
            ..HttpSettings::standard()
        };
        let limits = HttpLimits::new(settings, vec![]);
        let first = limits.admit().unwrap();
        let _second = limits.admit().unwrap();
        assert!(limits.admit().is_none());
        assert!(limits.admit().is_none());
        drop(first);
        let _third = limits.admit().unwrap();
        assert!(limits.admit().is_none());
    }

    #[test]
    fn law_13_bytes_are_bounded_and_given_back() {
        let settings = HttpSettings {
            max_response_bytes_in_flight: 10,
            ..HttpSettings::standard()
        };
        let limits = HttpLimits::new(settings, vec![]);
        let mut first = limits.hold_response();
        assert!(first.grow(6) && !first.grow(5) && !limits.is_full_of_responses());
        let mut second = limits.hold_response();
        second.grow_beyond(5);
        assert!(limits.is_full_of_responses() && !limits.hold_response().grow(1));
        drop(second);
        assert!(limits.hold_response().grow(4));
        first.release();
        assert!(limits.hold_response().grow(10));
    }

    #[test]
    fn law_13_one_token_cannot_take_all_live_streams() {
        let settings = HttpSettings {
            max_streams: 3,
            max_streams_per_principal: 2,
            ..HttpSettings::standard()
        };
        let token = Token::from_secret("a", "s", Roles::ALL);
        let limits = HttpLimits::new(settings.clone(), vec![token]);
        let (a, b, c): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "b".into(), "c".into());
        let first = limits.open_stream(&a).unwrap();
        let _second = limits.open_stream(&a).unwrap();
        assert_eq!(limits.open_stream(&a).unwrap_err(), StreamRefused::Share);
        let _other = limits.open_stream(&b).unwrap();
        assert_eq!(limits.open_stream(&c).unwrap_err(), StreamRefused::TooMany);
        drop(first);
        let _third = limits.open_stream(&a).unwrap();
        // Without tokens nobody's share needs protecting from anybody.
        let limits = HttpLimits::new(settings, vec![]);
        let all: Vec<_> = (0..3).map(|_| limits.open_stream(&a).unwrap()).collect();
        assert_eq!(limits.open_stream(&a).unwrap_err(), StreamRefused::TooMany);
        drop(all);
    }

    #[test]
    fn request_ids_differ() {
        let limits = HttpLimits::new(HttpSettings::standard(), vec![]);
        assert_ne!(limits.request_id(), limits.request_id());
    }
}
