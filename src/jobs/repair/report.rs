//! What came of a repair.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{Offset, PartitionId};
use crate::proof::divergence::{DivergenceKind, Remedy};
use crate::proof::order::LeaderOrder;

/// What became of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairOutcome {
    /// It is right now.
    Repaired,
    /// It would be, without `dry_run`.
    WouldRepair,
    /// It lies in the log that leads: only an order that names it lets a repair touch it. `needed`
    /// is what has to be named.
    NeedsOrder,
    /// It was not there any more.
    Gone,
    /// This program must not, or cannot, put it right; `reason` says why.
    NotRepairable,
}

impl RepairOutcome {
    /// As a metric's label and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repaired => "repaired",
            Self::WouldRepair => "would_repair",
            Self::NeedsOrder => "needs_order",
            Self::Gone => "gone",
            Self::NotRepairable => "not_repairable",
        }
    }
}

/// A difference and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repaired {
    /// The partition.
    pub partition: PartitionId,
    /// The offset.
    pub offset: Offset,
    /// What it was.
    pub kind: DivergenceKind,
    /// The stream of the first event that differed.
    pub stream: Option<String>,
    /// What was done, or would be.
    pub repair: Remedy,
    /// What became of it.
    pub outcome: RepairOutcome,
    /// Why.
    pub reason: String,
    /// Where in the bucket the wrong bytes are kept.
    pub kept: Option<String>,
    /// What an order (`replace_in_leader`) must name to have it done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<LeaderOrder>,
}

/// What came of a repair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepairReport {
    /// Whether nothing is left to repair.
    pub clean: bool,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Put right.
    pub repaired: u64,
    /// Would be put right.
    pub would_repair: u64,
    /// Left as they are: they lie in the log that leads, and no order names them.
    #[serde(default)]
    pub needs_order: u64,
    /// Not there any more.
    pub gone: u64,
    /// Left as they are.
    pub not_repairable: u64,
    /// Each of them, up to as many as a report of a verification lists.
    pub results: Vec<Repaired>,
}
