//! How fast history is copied: an operator's throttle, so that a backfill leaves room for the traffic.
//! What keeps up with the writes is never held back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How often a paused copier looks whether it may go on.
const LOOK: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug, Default)]
pub struct Throttle {
    /// Events a second and partition; 0 is without limit.
    rate: AtomicU64,
    paused: AtomicBool,
    /// Events copied, whether held back or not.
    copied: AtomicU64,
}

impl Throttle {
    /// At most `rate` events a second in each partition; 0 is without limit.
    pub fn new(rate: u64) -> Self {
        Self {
            rate: AtomicU64::new(rate),
            paused: AtomicBool::new(false),
            copied: AtomicU64::new(0),
        }
    }

    /// Sets the limit.
    pub fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// The limit; 0 is none.
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Holds history back, or lets it go on.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Whether history is held back.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Events were copied.
    pub fn count(&self, events: u64) {
        self.copied.fetch_add(events, Ordering::Relaxed);
    }

    /// Events copied since the process began.
    pub fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// Waits while paused.
    pub async fn may_begin(&self) {
        while self.is_paused() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits as long as `events` copied since `begun` are too many.
    pub async fn spend(&self, events: u64, begun: Instant) {
        let rate = self.rate();
        if rate > 0 {
            sleep_until(begun + Duration::from_secs_f64(events as f64 / rate as f64)).await;
        }
    }
}
