//! The four stages of the migration, in a line.

use serde::{Deserialize, Serialize};

use super::lead::{Lead, Leadership};
use crate::domain::ids::Epoch;

/// The mode as the API speaks it; `dual_write` has two halves, see [`Stage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// PostgreSQL alone.
    Legacy,
    /// Both, one of them leading.
    DualWrite,
    /// S3 alone.
    S3Only,
}

impl Mode {
    /// As in the API, in `/health` and in message headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Legacy => "legacy",
            Mode::DualWrite => "dual_write",
            Mode::S3Only => "s3_only",
        }
    }

    /// Value of the metric `event_store_migration_mode`.
    pub fn gauge(self) -> f64 {
        match self {
            Mode::Legacy => 0.0,
            Mode::DualWrite => 1.0,
            Mode::S3Only => 2.0,
        }
    }
}

/// Where on the road a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The mode.
    pub mode: Mode,
    /// Who leads, and since which epoch.
    pub leadership: Leadership,
}

impl Stage {
    /// S3 leads alone, under `epoch`.
    pub fn s3_only(epoch: Epoch) -> Self {
        Self {
            mode: Mode::S3Only,
            leadership: Leadership {
                lead: Lead::S3,
                epoch,
            },
        }
    }

    /// The stores that hold a write of this stage once it is acknowledged, for `stored_in`.
    pub fn stored_in(&self) -> &'static [&'static str] {
        match self.mode {
            Mode::Legacy => &["postgres"],
            Mode::DualWrite => &["s3", "postgres"],
            Mode::S3Only => &["s3"],
        }
    }
}
