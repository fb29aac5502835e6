//! Time and id sources are handed in, never ambient, so that tests and the model own them.

use jiff::Timestamp;
use uuid::Uuid;

/// Where the current time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The current UTC time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A fresh UUIDv7: sortable by creation time, unique across processes.
#[allow(clippy::disallowed_methods, reason = "the one place that makes ids")]
pub fn new_uuid() -> Uuid {
    Uuid::now_v7()
}
