//! An order to switch, in the one shape in which it travels: from the command line through HTTP to the
//! actor that walks it.

use serde::{Deserialize, Serialize};

use super::ramp::{InvalidShare, Share, to_move};
use super::stage::{Mode, StageKind, UnknownStage, Whole};
use crate::domain::ids::PartitionId;
use crate::log::lead::Lead;

/// Longest reason in bytes.
pub const MAX_REASON_BYTES: usize = 1_000;

/// An order to bring partitions to another stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SwitchOrder {
    /// The mode to reach. One that is further off is walked to edge by edge.
    pub mode: Mode,
    /// Of `dual_write`, which store is to lead; when absent the one that leads now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<Lead>,
    /// Only these partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<PartitionId>>,
    /// Only so many of the partitions, 1 to 100; those already there count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 100))]
    pub percent: Option<u8>,
    /// Why; recorded.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 1000))]
    pub reason: String,
    /// Skip gates of confidence (never those of data); recorded.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(default = false))]
    pub force: bool,
    /// Only say what the gates say.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(default = false))]
    pub dry_run: bool,
}

/// An order that cannot be meant; nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrder {
    /// The history keeps why.
    #[error("reason must have 1 to {MAX_REASON_BYTES} bytes: it is kept in the history")]
    Reason,
    /// Two different shares.
    #[error("partitions and percent exclude each other")]
    TwoShares,
    /// A mode that the named store cannot lead.
    #[error(transparent)]
    Stage(#[from] UnknownStage),
    /// Partitions that are not there.
    #[error(transparent)]
    Share(#[from] InvalidShare),
}

/// What an order comes to, where the partitions are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// The stage to reach.
    pub goal: StageKind,
    /// Those that are not there yet, of those that are meant.
    pub partitions: Vec<PartitionId>,
}

impl SwitchOrder {
    /// An order to bring all partitions to `goal`.
    pub fn to(goal: StageKind, reason: impl Into<String>) -> Self {
        Self {
            mode: goal.mode(),
            lead: Some(goal.lead()),
            partitions: None,
            percent: None,
            reason: reason.into(),
            force: false,
            dry_run: false,
        }
    }

    /// What it comes to while the partitions are in `stages`.
    pub fn errand(&self, stages: &[StageKind]) -> Result<Errand, InvalidOrder> {
        if !(1..=MAX_REASON_BYTES).contains(&self.reason.trim().len()) {
            return Err(InvalidOrder::Reason);
        }
        let from = Whole::of(stages).map_or(StageKind::S3Only, |whole| whole.stage);
        let goal = StageKind::asked(self.mode, self.lead, from)?;
        let share = match (&self.partitions, self.percent) {
            (None, None) => Share::All,
            (Some(partitions), None) => Share::Partitions(partitions.clone()),
            (None, Some(percent)) => Share::Percent(percent),
            (Some(_), Some(_)) => return Err(InvalidOrder::TwoShares),
        };
        let partitions = to_move(stages, goal, &share)?;
        Ok(Errand { goal, partitions })
    }
}

#[cfg(test)]
mod tests {
    use super::StageKind::*;
    use super::*;

    fn order(json: &str) -> SwitchOrder {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_order_comes_to_a_goal_and_to_those_that_are_not_there() {
        let ids = |n: &[u16]| n.iter().copied().map(PartitionId).collect::<Vec<_>>();
        let stages = [DualWriteS3, Legacy, DualWriteS3];
        for (json, goal, partitions) in [
            (r#"{"mode":"s3_only","reason":"r"}"#, S3Only, &[0, 1, 2][..]),
            // The one that leads the whole, which is as far as its last partition.
            (
                r#"{"mode":"dual_write","reason":"r"}"#,
                DualWritePostgres,
                &[0, 1, 2],
            ),
            (
                r#"{"mode":"dual_write","lead":"s3","reason":"r"}"#,
                DualWriteS3,
                &[1],
            ),
            (
                r#"{"mode":"s3_only","partitions":[2],"reason":" r "}"#,
                S3Only,
                &[2],
            ),
            (
                r#"{"mode":"s3_only","percent":1,"reason":"r"}"#,
                S3Only,
                &[0],
            ),
        ] {
            let errand = order(json).errand(&stages).unwrap();
            assert_eq!(
                (errand.goal, errand.partitions),
                (goal, ids(partitions)),
                "{json}"
            );
        }
        let back = SwitchOrder::to(Legacy, "budget").errand(&stages).unwrap();
        assert_eq!((back.goal, back.partitions), (Legacy, ids(&[0, 2])));
    }

    #[test]
    fn an_order_that_cannot_be_meant_is_refused_by_name() {
        let refused = |json: &str| order(json).errand(&[S3Only; 2]).unwrap_err().to_string();
        for (json, says) in [
            (r#"{"mode":"legacy","reason":"  "}"#, "reason"),
            (r#"{"mode":"legacy","lead":"s3","reason":"r"}"#, "legacy/s3"),
            (
                r#"{"mode":"legacy","partitions":[0],"percent":5,"reason":"r"}"#,
                "exclude",
            ),
            (
                r#"{"mode":"legacy","partitions":[7],"reason":"r"}"#,
                "no partition 7",
            ),
            (r#"{"mode":"legacy","percent":0,"reason":"r"}"#, "0 percent"),
        ] {
            assert!(refused(json).contains(says), "{json}: {}", refused(json));
        }
        let long = "x".repeat(MAX_REASON_BYTES + 1);
        let order = SwitchOrder::to(Legacy, long);
        assert_eq!(order.errand(&[S3Only]), Err(InvalidOrder::Reason));
        let unknown = r#"{"mode":"legacy","reason":"r","who":"me"}"#;
        assert!(serde_json::from_str::<SwitchOrder>(unknown).is_err());
    }
}
