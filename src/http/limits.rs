//! What applies to every request before it reaches the service: limits, tokens, request ids.
//! Independent of the service itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::auth::issuer::Issuer;
use super::auth::{Authenticator, Token};
use super::certificate::TlsFiles;
use super::cors::Cors;
use crate::clock::new_uuid;
use crate::service::audit::AuditTrail;

/// Live streams that may skip many events at the same time, see [`super::sse`].
const TURNS: usize = 1;

/// Settings of the HTTP server. `boot` takes them from the configuration, which has the defaults.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Address to listen on.
    pub host: String,
    /// Port; 0 lets the system choose one.
    pub port: u16,
    /// Address on which administrators are served, where they have a port of their own.
    pub admin_host: String,
    /// Port on which administrators are served; then what is theirs is not served on the other one.
    pub admin_port: Option<u16>,
    pub workers: usize,
    pub max_body_bytes: usize,
    /// Requests in progress, over all workers, until their answers are written; more are refused
    /// with 503.
    pub max_in_flight: usize,
    /// Bytes of bodies that arrive in more than one piece, over all requests in progress; a body
    /// that exceeds it is refused with 503. Bodies in one piece, at most a connection's buffer, are
    /// bounded by `max_in_flight`.
    pub max_body_bytes_in_flight: usize,
    /// Bytes of answers that are not written yet; beyond it requests are refused with 503.
    pub max_response_bytes_in_flight: usize,
    pub max_streams: usize,
    /// Live streams of one principal at once.
    pub max_streams_per_principal: usize,
    /// Connections at once, over all workers; more wait in the system's queue.
    pub max_connections: usize,
    pub request_deadline: Duration,
    /// How long a client may take to send the head of a request.
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    /// How long a client may take to receive a piece of an answer.
    pub write_timeout: Duration,
    pub keep_alive: Duration,
    /// How long requests in progress may take to end at shutdown.
    pub shutdown_timeout: Duration,
    /// Certificate and key; without them the API uses plain HTTP.
    pub tls: Option<TlsFiles>,
    /// For how long browsers remember that HTTPS is spoken here; `None`: they are not told.
    pub hsts: Option<Duration>,
    /// Origins whose pages may read answers.
    pub cors_origins: Vec<String>,
}

#[derive(Debug)]
pub struct HttpLimits {
    pub settings: HttpSettings,
    pub auth: Authenticator,
    /// Where administrators' requests and refusals are recorded.
    pub audit: Option<Arc<AuditTrail>>,
    pub cors: Cors,
    /// What browsers are told of HTTPS here.
    pub hsts: Option<HeaderValue>,
    in_flight: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    body_bytes: Arc<Budget>,
    response_bytes: Arc<Budget>,
    streams: Arc<AtomicUsize>,
    /// Live streams by principal: entries of those that have some.
    streams_of: Mutex<HashMap<Arc<str>, Arc<AtomicUsize>>>,
    /// Turns of live streams that have many events to skip, see [`super::sse`].
    pub turns: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    id_prefix: u32,
    next_id: AtomicU64,
}

/// One of a limited number of places, released when dropped.
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

/// A limit on bytes held.
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

/// A number of bytes counted against a limit, released when dropped.
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

    /// Adds `bytes`; false if that would exceed the limit, and then nothing changes.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let fits = self.of.held.fetch_add(bytes, Ordering::AcqRel) + bytes <= self.of.limit;
        if fits {
            self.held += bytes;
        } else {
            self.of.held.fetch_sub(bytes, Ordering::AcqRel);
        }
        fits
    }

    /// Adds `bytes` whatever the limit: they are in memory already, and others have to wait.
    pub fn grow_beyond(&mut self, bytes: usize) {
        self.of.held.fetch_add(bytes, Ordering::AcqRel);
        self.held += bytes;
    }

    /// Releases all of them.
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

/// Why a live stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRefused {
    /// The limit of all streams is reached.
    TooMany,
    /// The limit of the principal is reached.
    Share,
}

impl HttpLimits {
    /// Limits by `settings`, for callers with one of `tokens`.
    pub fn new(settings: HttpSettings, tokens: Vec<Token>) -> Self {
        Self {
            body_bytes: Budget::new(settings.max_body_bytes_in_flight),
            response_bytes: Budget::new(settings.max_response_bytes_in_flight),
            cors: Cors::new(settings.cors_origins.clone()),
            hsts: settings.hsts.and_then(|known_for| {
                HeaderValue::try_from(format!("max-age={}", known_for.as_secs())).ok()
            }),
            settings,
            auth: Authenticator::new(tokens),
            audit: None,
            in_flight: Arc::default(),
            connections: Arc::default(),
            streams: Arc::default(),
            streams_of: Mutex::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
            closing: watch::Sender::new(false),
            // From the UUID's random end rather than from the time at its beginning.
            id_prefix: new_uuid().as_u128() as u32,
            next_id: AtomicU64::new(1),
        }
    }

    /// [`Self::new`], with the tokens of a provider taken too.
    pub fn with_issuer(mut self, issuer: Option<Arc<Issuer>>) -> Self {
        self.auth = self.auth.with_issuer(issuer);
        self
    }

    /// [`Self::new`], where callers need a token even while none is known.
    pub fn with_required_token(mut self, required: bool) -> Self {
        self.auth = self.auth.with_required(required);
        self
    }

    /// [`Self::new`], with administrators' requests and refusals recorded in `audit`.
    pub fn with_audit(mut self, audit: Arc<AuditTrail>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// A place for one more request; `None` at the limit.
    pub fn admit(&self) -> Option<Permit> {
        Permit::take(&self.in_flight, self.settings.max_in_flight)
    }

    /// Counts the bytes of one body.
    pub fn hold_bytes(&self) -> HeldBytes {
        HeldBytes::none(&self.body_bytes)
    }

    /// Counts the bytes of one answer.
    pub fn hold_response(&self) -> HeldBytes {
        HeldBytes::none(&self.response_bytes)
    }

    /// Whether no further answer can be held: then no request is started whose answer would be
    /// lost.
    pub fn is_full_of_responses(&self) -> bool {
        self.response_bytes.held.load(Ordering::Acquire) >= self.response_bytes.limit
    }

    /// Counts a connection until the returned value is dropped. Never refused: the listener accepts
    /// no more than the limit.
    pub fn open_connection(&self) -> Permit {
        self.connections.fetch_add(1, Ordering::AcqRel);
        Permit(self.connections.clone())
    }

    /// Whether most of the allowed connections are open: then idle ones are closed early.
    pub fn is_short_of_connections(&self) -> bool {
        let limit = self.settings.max_connections;
        self.connections.load(Ordering::Relaxed) > limit - limit / 4
    }

    /// Sets the gauges of places, bytes and connections in use.
    pub fn measure(&self) {
        crate::metrics::http_held(
            self.connections.load(Ordering::Relaxed),
            self.response_bytes.held.load(Ordering::Relaxed),
            self.streams.load(Ordering::Relaxed),
        );
    }

    /// A place for one more live stream of this principal. Without tokens all callers are one
    /// principal, whose share is the whole limit.
    pub fn open_stream(
        &self,
        principal: &Arc<str>,
    ) -> Result<(Permit, Option<Permit>), StreamRefused> {
        let mut own = None;
        if self.auth.needs_token() {
            let mut streams_of = self.streams_of.lock();
            // A provider has any number of principals.
            streams_of.retain(|_, taken| taken.load(Ordering::Acquire) > 0);
            let taken = streams_of.entry(principal.clone()).or_default();
            let limit = self.settings.max_streams_per_principal;
            own = Some(Permit::take(taken, limit).ok_or(StreamRefused::Share)?);
        }
        let place = Permit::take(&self.streams, self.settings.max_streams);
        Ok((place.ok_or(StreamRefused::TooMany)?, own))
    }

    /// A fresh request id: a prefix unique to this process and a number within it.
    pub fn request_id(&self) -> String {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}-{number:x}", self.id_prefix)
    }

    /// Ends live streams, which would otherwise delay a graceful shutdown until its timeout.
    pub fn close_streams(&self) {
        self.closing.send_replace(true);
    }

    /// Becomes true when live streams must end.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}

#[cfg(test)]
impl HttpLimits {
    /// Requests in progress, bytes of answers in flight, connections.
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
    /// The configuration's defaults, without the dependence on the number of cores.
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
        // Without tokens there is one principal, whose share is the whole limit.
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
