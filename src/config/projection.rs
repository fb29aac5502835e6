//! The projection: from the log into the read model.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::problems::Problems;

/// One round trip and one fsync for a thousand events; larger batches gain little and keep a
/// transaction open longer.
const BATCH_EVENTS: usize = 1000;

/// Finds commits of other processes; for those of this one the in-process wake-up is faster.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectionConfig {
    /// Most events applied in one transaction.
    pub batch_events: usize,
    /// How often the log is looked at without being woken.
    #[serde(with = "duration")]
    pub poll_interval: Duration,
}

impl Default for ProjectionConfig {
    fn default() -> Self {
        Self {
            batch_events: BATCH_EVENTS,
            poll_interval: POLL_INTERVAL,
        }
    }
}

impl ProjectionConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.require(
            (1..=100_000).contains(&self.batch_events),
            "projection.batch_events",
            "must be between 1 and 100000",
        );
        problems.require(
            self.poll_interval >= Duration::from_millis(5),
            "projection.poll_interval",
            "must be at least 5ms",
        );
    }
}
