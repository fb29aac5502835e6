//! Time is handed in, never ambient, so that tests and the model own it.

use jiff::Timestamp;

/// Where the current time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The current UTC time.
    fn now(&self) -> Timestamp;
}
