//! Limits the rate of failures, in a sliding window.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Counts failures within a window against a limit.
#[derive(Debug)]
pub struct Intensity {
    max: usize,
    window: Duration,
    failures: VecDeque<Instant>,
}

impl Intensity {
    /// Tolerates at most `max` failures within `window`.
    pub fn new(max: usize, window: Duration) -> Self {
        Self {
            max,
            window,
            failures: VecDeque::new(),
        }
    }

    /// Records a failure. Returns the number of failures in the window, or `None` if they exceed
    /// the limit.
    pub fn note(&mut self, at: Instant) -> Option<usize> {
        let window = self.window;
        self.failures
            .retain(|f| at.saturating_duration_since(*f) <= window);
        self.failures.push_back(at);
        let failures = self.failures.len();
        (failures <= self.max).then_some(failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_12_what_is_older_than_the_window_is_forgiven_one_by_one() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut intensity = Intensity::new(2, Duration::from_secs(10));
        assert_eq!(intensity.note(at(0)), Some(1));
        assert_eq!(intensity.note(at(6)), Some(2));
        assert_eq!(intensity.note(at(9)), None);
        // The first is out of the window, the others are not: no quiet moment forgives all.
        assert_eq!(intensity.note(at(11)), None);
        assert_eq!(intensity.note(at(40)), Some(1));
    }
}
