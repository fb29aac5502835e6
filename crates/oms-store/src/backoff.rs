//! Pauses of a retry loop: doubling, bounded, with jitter.

use std::time::Duration;

use rand::Rng;

/// Counts failures and computes the pause after each.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses from `min` to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            failures: 0,
        }
    }

    /// Records a success: the next pause is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Number of failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Records a failure; returns how long to pause. Between half of the doubled pause and all of
    /// it, so that processes that failed together do not retry together.
    pub fn pause(&mut self) -> Duration {
        let doubled = self.min.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled
            .min(self.max)
            .mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_13_pauses_grow_and_are_bounded() {
        let (min, max) = (Duration::from_millis(10), Duration::from_secs(2));
        let mut backoff = Backoff::new(min, max);
        let first = backoff.pause();
        assert!(first >= min / 2 && first <= min);
        for _ in 0..200 {
            backoff.pause();
        }
        let later = backoff.pause();
        assert!(later >= max / 2 && later <= max);
        backoff.reset();
        assert!(backoff.pause() <= min);
    }
}
