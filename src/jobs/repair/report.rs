//! The result of a repair.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{Offset, PartitionId};
use crate::proof::divergence::{DivergenceKind, Remedy};
use crate::proof::order::LeaderOrder;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairOutcome {
    Repaired,
    /// It would be repaired without `dry_run`.
    WouldRepair,
    /// It is in the log that leads: a repair touches it only with an order that names it. `needed`
    /// is what to name.
    NeedsOrder,
    /// The difference did not exist any more.
    Gone,
    /// This program must not, or cannot, repair it; `reason` says why.
    NotRepairable,
}

impl RepairOutcome {
    /// The name as metric label and in reports.
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repaired {
    pub partition: PartitionId,
    pub offset: Offset,
    /// Kind of the difference.
    pub kind: DivergenceKind,
    /// The stream of the first event that differed.
    pub stream: Option<String>,
    /// What was done, or would be done.
    pub repair: Remedy,
    pub outcome: RepairOutcome,
    pub reason: String,
    /// Key in the bucket under which the wrong bytes were saved.
    pub kept: Option<String>,
    /// What an order (`replace_in_leader`) must name to have it repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<LeaderOrder>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepairReport {
    /// Whether nothing is left to repair.
    pub clean: bool,
    /// Whether it was a dry run.
    pub dry_run: bool,
    pub began: Timestamp,
    pub ended: Timestamp,
    pub repaired: u64,
    pub would_repair: u64,
    /// Not repaired: they are in the log that leads, and no order names them.
    #[serde(default)]
    pub needs_order: u64,
    /// Did not exist any more.
    pub gone: u64,
    /// Not repairable.
    pub not_repairable: u64,
    /// Each difference with its outcome, up to the limit of a verification's list.
    pub results: Vec<Repaired>,
}
