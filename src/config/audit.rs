//! The audit trail: what administrators ordered, and who was turned away.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::problems::Problems;

const DAY: Duration = Duration::from_secs(86_400);

/// More than a year, so that last year's audit finds what it asks for.
const KEEP: Duration = DAY.saturating_mul(400);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// For how long entries are kept in PostgreSQL.
    #[serde(with = "duration")]
    pub keep: Duration,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { keep: KEEP }
    }
}

impl AuditConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.require(self.keep >= DAY, "audit.keep", "must be at least 24h");
    }
}
