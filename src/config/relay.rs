//! The relay: from the outbox to Kafka.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::problems::Problems;
use crate::actors::relay::RelaySettings;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayConfig {
    /// Rows taken at once.
    pub batch_size: usize,
    /// How often the outbox is looked at without being woken.
    #[serde(with = "duration")]
    pub poll_interval: Duration,
    /// Refusals by the broker after which a message becomes a dead letter.
    pub max_attempts: u32,
}

impl Default for RelayConfig {
    fn default() -> Self {
        let settings = RelaySettings::default();
        Self {
            batch_size: settings.limits.wave_rows,
            poll_interval: settings.poll,
            max_attempts: settings.limits.max_attempts,
        }
    }
}

impl RelayConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.require(
            (1..=10_000).contains(&self.batch_size),
            "relay.batch_size",
            "must be between 1 and 10000",
        );
        problems.require(
            self.poll_interval >= Duration::from_millis(5),
            "relay.poll_interval",
            "must be at least 5ms",
        );
        problems.require(
            self.max_attempts > 0,
            "relay.max_attempts",
            "must be at least 1",
        );
    }
}
