//! Limits how fast history is copied, so that a backfill leaves capacity for traffic. Copies that
//! keep up with the writes are never delayed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How often a paused copier checks whether it may go on.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
pub struct Throttle {
    /// Events per second and partition; 0: no limit.
    rate: AtomicU64,
    paused: AtomicBool,
    /// Events copied, limited or not.
    copied: AtomicU64,
}

impl Throttle {
    /// At most `rate` events per second in each partition; 0: no limit.
    pub fn new(rate: u64) -> Self {
        Self {
            rate: AtomicU64::new(rate),
            paused: AtomicBool::new(false),
            copied: AtomicU64::new(0),
        }
    }

    /// Sets the limit, in events per second and partition; 0: none.
    pub fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// The limit, in events per second and partition; 0: none.
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Pauses or resumes the copying of history.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Counts copied events.
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

    /// Waits until `events`, copied since `begun`, are within the limit.
    pub async fn spend(&self, events: u64, begun: Instant) {
        let rate = self.rate();
        if rate > 0 {
            sleep_until(begun + Duration::from_secs_f64(events as f64 / rate as f64)).await;
        }
    }
}
