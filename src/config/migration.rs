//! The migration: initial mode, gates, guardrail, the pace of copying history, and other event
//! stores to import from.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::problems::Problems;
use super::sources::{self, SourceConfig};
use crate::import::spec::MAX_EVENT_BYTES;
use crate::log::lead::Lead;
use crate::migration::gate::GateSettings;
use crate::migration::guardrail::GuardrailSettings;
use crate::migration::stage::{Mode, StageKind};
use crate::store::adapters::postgres::connection::environment::Environment;

/// Longer than any copy that keeps up takes to drain, shorter than most clients' timeouts.
const HANDOFF_TIMEOUT: Duration = Duration::from_secs(10);

/// Some tens of round trips: a copy that takes longer is in trouble.
const MIRROR_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MigrationConfig {
    /// The mode of a store that has none recorded; a recorded mode wins. Without it `legacy` where
    /// PostgreSQL holds events, else `s3_only`.
    pub mode: Option<Mode>,
    /// How long a hand-off of the lead may take before it is undone; writes wait meanwhile.
    #[serde(with = "duration")]
    pub handoff_timeout: Duration,
    /// How long an answer waits for the copy in the store that does not lead.
    #[serde(with = "duration")]
    pub mirror_patience: Duration,
    /// Events a second and partition at which history is copied; 0 is without limit.
    pub backfill_rate: u64,
    /// Largest event that is imported, its envelope included; larger ones are parked.
    pub max_event_bytes: usize,
    /// How long `s3_only` must have held before PostgreSQL's events may be archived.
    #[serde(with = "duration")]
    pub archive_after: Duration,
    /// Thresholds of the gates before a switch.
    pub gates: GatesConfig,
    /// When a young stage counts as failed: the service then alerts, or steps back.
    pub guardrail: GuardrailConfig,
    /// Let PostgreSQL lead by its row alone when the bucket cannot be read at start. Only if it is
    /// certain that no later hand-off has moved the lead to S3: its commits would be overwritten.
    pub lead_without_bucket: bool,
    /// Other event stores whose events may be imported, by name.
    pub sources: BTreeMap<String, SourceConfig>,
}

impl Default for MigrationConfig {
    fn default() -> Self {
        Self {
            mode: None,
            handoff_timeout: HANDOFF_TIMEOUT,
            mirror_patience: MIRROR_PATIENCE,
            backfill_rate: 0,
            max_event_bytes: MAX_EVENT_BYTES,
            archive_after: Duration::from_secs(7 * 24 * 3600),
            lead_without_bucket: false,
            gates: GatesConfig::default(),
            guardrail: GuardrailConfig::default(),
            sources: BTreeMap::new(),
        }
    }
}

/// Thresholds of the gates; see [`GateSettings`] for the reasons of the defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatesConfig {
    /// How old the last full verification may be.
    #[serde(with = "duration")]
    pub verification_max_age: Duration,
    /// Least share of calls to S3 that succeeded, 0 to 1.
    pub s3_success_share: f64,
    /// The period over which that share is measured.
    #[serde(with = "duration")]
    pub s3_success_window: Duration,
    /// How many commits may be left to copy when a hand-off begins.
    pub max_lag: u64,
    /// How long S3 must have led before PostgreSQL's copy is given up.
    #[serde(with = "duration")]
    pub s3_led_for: Duration,
    /// Longest lag of the relay before the copy is given up.
    #[serde(with = "duration")]
    pub relay_lag: Duration,
}

impl Default for GatesConfig {
    fn default() -> Self {
        let gates = GateSettings::default();
        Self {
            verification_max_age: gates.verification_max_age,
            s3_success_share: gates.s3_success_share,
            s3_success_window: gates.s3_success_window,
            max_lag: gates.max_lag,
            s3_led_for: gates.s3_led_for,
            relay_lag: gates.relay_lag,
        }
    }
}

/// When the guardrail acts on a young stage; see [`GuardrailSettings`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardrailConfig {
    /// How long a stage is young; after that nothing is judged.
    #[serde(with = "duration")]
    pub watch: Duration,
    /// The window over which budgets are judged.
    #[serde(with = "duration")]
    pub window: Duration,
    /// Fewest writes in a window from which anything is judged.
    pub min_writes: u64,
    /// Largest share of writes that may fail, 0 to 1.
    pub error_share: f64,
    /// Longest 99th percentile of writes' latency.
    #[serde(with = "duration")]
    pub p99: Duration,
    /// How long a budget must be exceeded without a break.
    #[serde(with = "duration")]
    pub patience: Duration,
    /// Whether the service steps one edge back by itself, or only alerts.
    pub auto_rollback: bool,
}

impl Default for GuardrailConfig {
    fn default() -> Self {
        let guardrail = GuardrailSettings::default();
        Self {
            watch: guardrail.watch,
            window: guardrail.window,
            min_writes: guardrail.min_writes,
            error_share: guardrail.error_share,
            p99: guardrail.p99,
            patience: guardrail.patience,
            auto_rollback: guardrail.auto_rollback,
        }
    }
}

impl MigrationConfig {
    /// The stage of a new store; `dual_write` begins with PostgreSQL leading.
    pub fn initial_stage(&self) -> Option<StageKind> {
        let stage = |mode| match mode {
            Mode::Legacy => StageKind::Legacy,
            Mode::DualWrite => StageKind::DualWritePostgres,
            Mode::S3Only => StageKind::S3Only,
        };
        debug_assert_eq!(stage(Mode::DualWrite).lead(), Lead::Postgres);
        self.mode.map(stage)
    }

    pub fn gate_settings(&self) -> GateSettings {
        let gates = &self.gates;
        GateSettings {
            verification_max_age: gates.verification_max_age,
            s3_success_share: gates.s3_success_share,
            s3_success_window: gates.s3_success_window,
            max_lag: gates.max_lag,
            s3_led_for: gates.s3_led_for,
            relay_lag: gates.relay_lag,
        }
    }

    pub fn guardrail_settings(&self) -> GuardrailSettings {
        let guardrail = &self.guardrail;
        GuardrailSettings {
            watch: guardrail.watch,
            window: guardrail.window,
            min_writes: guardrail.min_writes,
            error_share: guardrail.error_share,
            p99: guardrail.p99,
            patience: guardrail.patience,
            auto_rollback: guardrail.auto_rollback,
            ..GuardrailSettings::default()
        }
    }

    pub(super) fn check(&self, problems: &mut Problems, environment: &Environment) {
        sources::check(&self.sources, problems, environment);
        let second = Duration::from_secs(1);
        problems.require(
            self.handoff_timeout >= second,
            "migration.handoff_timeout",
            "must be at least 1s: a hand-off that is undone at once never ends",
        );
        for (key, share) in [
            (
                "migration.gates.s3_success_share",
                self.gates.s3_success_share,
            ),
            (
                "migration.guardrail.error_share",
                self.guardrail.error_share,
            ),
        ] {
            problems.require((0.0..=1.0).contains(&share), key, "must be between 0 and 1");
        }
        problems.require(
            self.guardrail.window >= second,
            "migration.guardrail.window",
            "must be at least 1s",
        );
    }
}
