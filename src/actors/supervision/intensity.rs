//! How often something fails, in a true sliding window.

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
    /// At most `max` failures within `window` are borne.
    pub fn new(max: usize, window: Duration) -> Self {
        Self {
            max,
            window,
            failures: VecDeque::new(),
        }
    }

    /// Notes a failure; how many there are in the window with it, or `None` when that is more than
    /// are borne.
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
