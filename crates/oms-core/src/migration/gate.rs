//! The gates of an edge, as data: the conditions that must hold before it is walked. Gates of
//! *data* are never skipped; gates of *confidence* are skipped by `force`, and the report says so.
//!
//! A figure that was not measured fails its gate: no proof, no cut-over.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::edge::{Direction, Edge, Move};

/// Whether `force` skips a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum GateKind {
    /// Its condition rests on experience; `force` skips it.
    Confidence,
    /// Without it data would be lost or unreachable; never skipped.
    Data,
}

/// The result of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum GateState {
    /// It holds.
    Pass,
    /// It does not hold, or its figure could not be measured.
    Fail,
    /// It does not hold, and `force` skipped it.
    Skipped,
}

/// A figure, in the unit that the suffix of the gate's name tells: `_s` seconds, `_share` 0 to 1,
/// otherwise a count.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum Figure {
    /// Yes or no.
    Holds(bool),
    /// A count.
    Count(u64),
    /// Seconds or a share.
    Real(f64),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figure::Holds(true) => f.write_str("yes"),
            Figure::Holds(false) => f.write_str("no"),
            Figure::Count(n) => n.fmt(f),
            Figure::Real(x) => x.fmt(f),
        }
    }
}

/// The condition on a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// The figure must not be greater.
    AtMost(Figure),
    /// The figure must not be smaller.
    AtLeast(Figure),
    /// The figure must be equal.
    Exactly(Figure),
}

impl Threshold {
    /// Whether the figure fulfils the condition.
    pub fn holds(self, figure: Figure) -> bool {
        match self {
            Threshold::AtMost(limit) => figure <= limit,
            Threshold::AtLeast(limit) => figure >= limit,
            Threshold::Exactly(value) => figure == value,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::AtMost(limit) => write!(f, "at most {limit}"),
            Threshold::AtLeast(limit) => write!(f, "at least {limit}"),
            Threshold::Exactly(value) => value.fmt(f),
        }
    }
}

/// The configured thresholds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateSettings {
    /// Maximum age of the last full verification. An hour: recent enough that plans have not
    /// changed, long enough to verify, read the report and switch.
    pub verification_max_age: Duration,
    /// Minimum share of writes to S3 that succeeded in `s3_success_window`. 99.9 %: less than S3's
    /// own service level promises.
    pub s3_success_share: f64,
    /// The window of that share. A quarter of an hour shows a bad deployment, but not last week's.
    pub s3_success_window: Duration,
    /// Commits at most that remain to be copied when a hand-off begins. Writers wait for them: at
    /// some hundred puts a second, well within the hand-off's timeout.
    pub max_lag: u64,
    /// How long S3 must have led before PostgreSQL's mirror is given up. A day includes every
    /// nightly job once.
    pub s3_led_for: Duration,
    /// Longest lag of the relay at which the mirror may be given up. With more than half a minute,
    /// delivery, which still goes through PostgreSQL, is in trouble already.
    pub relay_lag: Duration,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            verification_max_age: Duration::from_secs(3600),
            s3_success_share: 0.999,
            s3_success_window: Duration::from_secs(15 * 60),
            max_lag: 1000,
            s3_led_for: Duration::from_secs(24 * 3600),
            relay_lag: Duration::from_secs(30),
        }
    }
}

/// The measured figures, for the partitions that are to move; `None` if one could not be measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Whether S3 passes the probe: reachable, writable, and its conditional put really atomic.
    pub s3_probe: Option<bool>,
    /// Whether both stores hold the same object at the last offset that both have.
    pub same_history: Option<bool>,
    /// Age of the last full verification that completed.
    pub verification_age: Option<Duration>,
    /// Divergent streams it found.
    pub divergent_streams: Option<u64>,
    /// Share of writes to S3 that succeeded in the window; `None` if there were none.
    pub s3_success_share: Option<f64>,
    /// Shadow reads that differed since they were last checked.
    pub shadow_mismatches: Option<u64>,
    /// Events that the backfill has still to copy.
    pub backfill_remaining: Option<u64>,
    /// Commits in PostgreSQL that S3 lacks, in the partition where that is most.
    pub unmirrored: Option<u64>,
    /// For how long S3 has led without interruption, in the partition where that is shortest.
    pub s3_led_for: Option<Duration>,
    /// Fallback reads in that time.
    pub fallback_reads: Option<u64>,
    /// Lag of the relay.
    pub relay_lag: Option<Duration>,
    /// Commits in S3 that PostgreSQL lacks, in the partition where that is most.
    pub mirror_behind: Option<u64>,
    /// Whether PostgreSQL answers.
    pub postgres_reachable: Option<bool>,
}

/// One gate.
pub struct Gate {
    /// Its stable name.
    pub name: &'static str,
    /// Whether `force` skips it.
    pub kind: GateKind,
    /// The edge that it guards.
    pub edge: Edge,
    /// The direction in which it is checked.
    pub direction: Direction,
    /// The condition, for a person.
    pub asks: &'static str,
    measure: fn(&Figures, &GateSettings) -> (Option<Figure>, Threshold),
}

/// A gate with its result.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Gate))]
pub struct GateReport {
    /// Its stable name.
    pub name: &'static str,
    /// The condition, for a person.
    pub asks: &'static str,
    /// The result.
    pub state: GateState,
    /// The measured figure; null if it could not be measured.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub figure: Option<Figure>,
    /// The condition on the figure.
    pub threshold: Threshold,
    /// `confidence` (skipped by `force`) or `data`.
    pub kind: GateKind,
}

const YES: Threshold = Threshold::Exactly(Figure::Holds(true));
const NONE: Threshold = Threshold::Exactly(Figure::Count(0));

fn seconds(duration: Duration) -> Figure {
    Figure::Real(duration.as_secs_f64())
}

use Direction::{Backward, Forward};
use GateKind::{Confidence, Data};

/// Every gate.
pub const GATES: &[Gate] = &[
    Gate {
        name: "s3_probe",
        kind: Data,
        edge: Edge::A,
        direction: Forward,
        asks: "S3 is reachable and writable, and its conditional put is atomic",
        measure: |f, _| (f.s3_probe.map(Figure::Holds), YES),
    },
    Gate {
        name: "same_history",
        kind: Data,
        edge: Edge::A,
        direction: Forward,
        asks: "what S3 already holds of a partition is what PostgreSQL holds",
        measure: |f, _| (f.same_history.map(Figure::Holds), YES),
    },
    Gate {
        name: "verification_age_s",
        kind: Confidence,
        edge: Edge::B,
        direction: Forward,
        asks: "the last full verification is recent",
        measure: |f, s| {
            let limit = Threshold::AtMost(seconds(s.verification_max_age));
            (f.verification_age.map(seconds), limit)
        },
    },
    Gate {
        name: "divergent_streams",
        kind: Confidence,
        edge: Edge::B,
        direction: Forward,
        asks: "it found no divergent stream",
        measure: |f, _| (f.divergent_streams.map(Figure::Count), NONE),
    },
    Gate {
        name: "s3_success_share",
        kind: Confidence,
        edge: Edge::B,
        direction: Forward,
        asks: "writes to S3 have been succeeding",
        measure: |f, s| {
            let limit = Threshold::AtLeast(Figure::Real(s.s3_success_share));
            (f.s3_success_share.map(Figure::Real), limit)
        },
    },
    Gate {
        name: "shadow_mismatches",
        kind: Confidence,
        edge: Edge::B,
        direction: Forward,
        asks: "shadow reads agree",
        measure: |f, _| (f.shadow_mismatches.map(Figure::Count), NONE),
    },
    Gate {
        name: "backfill_remaining",
        kind: Data,
        edge: Edge::B,
        direction: Forward,
        asks: "the backfill is complete",
        measure: |f, _| (f.backfill_remaining.map(Figure::Count), NONE),
    },
    Gate {
        name: "unmirrored",
        kind: Data,
        edge: Edge::B,
        direction: Forward,
        asks: "few commits are left to drain; the hand-off itself drains the last",
        measure: |f, s| {
            let limit = Threshold::AtMost(Figure::Count(s.max_lag));
            (f.unmirrored.map(Figure::Count), limit)
        },
    },
    Gate {
        name: "s3_led_for_s",
        kind: Confidence,
        edge: Edge::C,
        direction: Forward,
        asks: "S3 has led for long enough",
        measure: |f, s| {
            let limit = Threshold::AtLeast(seconds(s.s3_led_for));
            (f.s3_led_for.map(seconds), limit)
        },
    },
    Gate {
        name: "fallback_reads",
        kind: Confidence,
        edge: Edge::C,
        direction: Forward,
        asks: "no read had to fall back on PostgreSQL in that time",
        measure: |f, _| (f.fallback_reads.map(Figure::Count), NONE),
    },
    Gate {
        name: "relay_lag_s",
        kind: Confidence,
        edge: Edge::C,
        direction: Forward,
        asks: "the relay keeps up",
        measure: |f, s| {
            let limit = Threshold::AtMost(seconds(s.relay_lag));
            (f.relay_lag.map(seconds), limit)
        },
    },
    Gate {
        name: "mirror_behind",
        kind: Data,
        edge: Edge::B,
        direction: Backward,
        asks: "few commits are left to copy; the hand-off itself copies up to the fence",
        measure: |f, s| {
            let limit = Threshold::AtMost(Figure::Count(s.max_lag));
            (f.mirror_behind.map(Figure::Count), limit)
        },
    },
    Gate {
        name: "postgres_reachable",
        kind: Data,
        edge: Edge::C,
        direction: Backward,
        asks: "PostgreSQL answers",
        measure: |f, _| (f.postgres_reachable.map(Figure::Holds), YES),
    },
    Gate {
        name: "postgres_reachable",
        kind: Data,
        edge: Edge::A,
        direction: Backward,
        asks: "PostgreSQL answers",
        measure: |f, _| (f.postgres_reachable.map(Figure::Holds), YES),
    },
];

/// The gates of a move.
pub fn gates_of(step: Move) -> impl Iterator<Item = &'static Gate> {
    GATES
        .iter()
        .filter(move |g| g.edge == step.edge && g.direction == step.direction)
}

/// Checks every gate of a move.
pub fn evaluate(
    step: Move,
    figures: &Figures,
    settings: &GateSettings,
    force: bool,
) -> Vec<GateReport> {
    gates_of(step)
        .map(|gate| {
            let (figure, threshold) = (gate.measure)(figures, settings);
            let state = match figure {
                Some(figure) if threshold.holds(figure) => GateState::Pass,
                _ if force && gate.kind == GateKind::Confidence => GateState::Skipped,
                _ => GateState::Fail,
            };
            GateReport {
                name: gate.name,
                asks: gate.asks,
                state,
                figure,
                threshold,
                kind: gate.kind,
            }
        })
        .collect()
}

/// Whether these results allow the move.
pub fn may_pass(reports: &[GateReport]) -> bool {
    reports.iter().all(|r| r.state != GateState::Fail)
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
