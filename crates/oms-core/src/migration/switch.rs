//! A switch: a request to bring partitions to another stage, edge by edge, and its outcome.
//! Switches are kept for ever, as the audit of the migration.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::edge::Move;
use super::stage::StageKind;
use crate::domain::ids::PartitionId;

/// The state of a switch, or of one of its edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SwitchState {
    /// Under way.
    Walking,
    /// Everything requested has happened.
    Done,
    /// A gate did not hold; nothing has happened.
    Refused,
    /// A hand-off took too long and was undone.
    Undone,
    /// It ended early; `error` says why. Completed edges stay.
    Failed,
}

impl SwitchState {
    /// The states in which a switch has ended.
    pub const ENDS: [Self; 4] = [Self::Done, Self::Refused, Self::Undone, Self::Failed];

    /// The name as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            SwitchState::Walking => "walking",
            SwitchState::Done => "done",
            SwitchState::Refused => "refused",
            SwitchState::Undone => "undone",
            SwitchState::Failed => "failed",
        }
    }
}

/// One edge of a switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = SwitchEdge))]
pub struct EdgeReport {
    /// The edge and its direction.
    #[serde(flatten)]
    pub step: Move,
    /// The stage it leaves.
    pub from: StageKind,
    /// The stage it reaches.
    pub to: StageKind,
    /// The partitions that walk it.
    pub partitions: Vec<PartitionId>,
    /// Its state.
    pub state: SwitchState,
    /// The results of its gates, as JSON.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<super::gate::GateReport>>, required))]
    pub gates: serde_json::Value,
    /// When it began.
    pub begun: Timestamp,
    /// When it ended.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub ended: Option<Timestamp>,
    /// For how long writes of each partition waited, in milliseconds, as measured by the driver;
    /// only for edges that move the lead.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, f64>))]
    pub pause_ms: BTreeMap<PartitionId, f64>,
}

/// A switch as recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Switch {
    /// Its id.
    pub id: Uuid,
    /// The requested stage.
    pub goal: StageKind,
    /// The partitions that are to reach it.
    pub partitions: Vec<PartitionId>,
    /// The principal who requested it.
    pub by: String,
    /// The reason given.
    pub reason: String,
    /// Whether gates of confidence were to be skipped.
    pub force: bool,
    /// Whether the guardrail requested it.
    pub automatic: bool,
    /// When it began.
    pub begun: Timestamp,
    /// When it ended.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub ended: Option<Timestamp>,
    /// Its state.
    pub state: SwitchState,
    /// Why it ended early.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub error: Option<String>,
    /// The edges begun so far, in order.
    pub edges: Vec<EdgeReport>,
}
