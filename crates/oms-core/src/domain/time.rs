//! The clock as a trait: time is passed in, so that tests and the model checker control it.

use jiff::Timestamp;

/// Source of the current time.
pub trait Clock: Send + Sync + 'static {
    /// The current UTC time.
    fn now(&self) -> Timestamp;
}
