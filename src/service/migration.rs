//! The migration as operators see it, and requests to switch.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Service;
use super::error::{RETRY_AFTER, ServiceError};
use crate::actors::migration_mode::{
    Cancel, MigrationModeActor, PartitionRegistry, SwitchError, SwitchMode,
};
use crate::actors::mirror_progress::Mirrors;
use crate::actors::supervision::handle::Handle;
use crate::domain::ids::{Offset, PartitionId};
use crate::domain::refusal::{Refusal, Violation};
use crate::log::lead::Lead;
use crate::migration::record::Step;
use crate::migration::stage::{Mode, StageKind, Whole};
use crate::migration::switch::Switch;
use crate::migration::switch_order::{InvalidOrder, SwitchOrder};
use crate::store::ports::migration_table::MigrationTable;

pub use crate::actors::migration_mode::{Planned, SwitchAnswer};

/// Switches on a page of the history at most.
pub const HISTORY_PAGE: usize = 100;

/// What the migration's use cases need.
pub struct MigrationParts {
    pub actor: Handle<MigrationModeActor>,
    pub registry: Arc<PartitionRegistry>,
    /// How far the copies are.
    pub mirrors: Arc<Mirrors>,
    /// The switch that this process drives or drove last.
    pub switches: watch::Receiver<Option<Switch>>,
}

/// A partition on the road between the stores.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: PartitionId,
    /// Its stage; during a hand-off the one it comes from.
    #[schema(required)]
    pub stage: Option<StageKind>,
    /// Which store leads it.
    #[schema(required)]
    pub lead: Option<Lead>,
    /// The epoch of its lead: the number of hand-offs so far.
    pub epoch: u64,
    /// How far a hand-off is, `steady` when none is under way; absent where PostgreSQL has not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub step: Option<Step>,
    /// Whether its writes wait for the end of a hand-off.
    pub moving: bool,
    /// Since when it is in its stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub since: Option<Timestamp>,
    /// Offset after its last commit, as far as this process has read.
    #[schema(value_type = u64)]
    pub next_offset: Offset,
    /// While both stores are kept: the offset before which the store that does not lead has
    /// everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64)]
    pub mirrored: Option<Offset>,
    /// Commits that the store that does not lead lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub unmirrored: Option<u64>,
    /// Whether answers wait for that store.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub in_step: Option<bool>,
}

/// How the migration stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Migration)]
pub struct MigrationReport {
    /// The mode of the partition that is furthest behind.
    pub mode: Mode,
    /// The store that leads it.
    pub lead: Lead,
    /// Its epoch.
    pub epoch: u64,
    /// Its stage.
    #[schema(required)]
    pub stage: Option<StageKind>,
    /// Share of the partitions that are further on the way to S3, 0 to 1.
    pub share_ahead: f64,
    /// Whether writes of some partition wait for the end of a hand-off.
    pub moving: bool,
    /// Each partition.
    pub partitions: Vec<PartitionStatus>,
    /// Reads of this process that were served by the second store because the first failed.
    pub fallback_reads: u64,
    /// The switch that is walked, or that was walked last by this process.
    #[schema(required)]
    pub switch: Option<Switch>,
}

impl Service {
    /// The state of the migration as this process knows it.
    pub fn migration(&self) -> MigrationReport {
        let parts = &self.parts.migration;
        let rows = parts.registry.rows();
        let states = parts.registry.states();
        let store = parts.registry.writer();
        let partitions: Vec<PartitionStatus> = store
            .log()
            .partition_ids()
            .zip(&states)
            .map(|(partition, state)| {
                let row = rows.get(&partition);
                let next_offset = store.heads().next_offset(partition);
                let dual = state.is_some_and(|s| s.stage.mode == Mode::DualWrite);
                let copy = state
                    .filter(|_| dual)
                    .map(|s| s.stage.leadership.lead.other());
                let mirror = copy.and_then(|copy| parts.mirrors.known(partition, copy));
                let head = store.heads().known(partition);
                PartitionStatus {
                    partition,
                    stage: state.and_then(|s| s.kind()),
                    lead: state.map(|s| s.stage.leadership.lead),
                    epoch: state.map_or(0, |s| s.stage.leadership.epoch.0),
                    step: row.map(|seen| seen.row.step),
                    moving: state.is_some_and(|s| s.moving),
                    since: row.map(|seen| seen.since),
                    next_offset,
                    mirrored: mirror.map(|m| m.next),
                    unmirrored: mirror
                        .zip(head)
                        .map(|(m, head)| head.saturating_sub(m.next)),
                    in_step: mirror.map(|m| m.in_step),
                }
            })
            .collect();
        let stages: Vec<StageKind> = partitions.iter().filter_map(|p| p.stage).collect();
        let whole = Whole::of(&stages);
        let behind = partitions
            .iter()
            .filter(|p| p.stage.is_some())
            .min_by_key(|p| p.stage);
        MigrationReport {
            mode: whole.map_or(Mode::S3Only, |w| w.stage.mode()),
            lead: whole.map_or(Lead::S3, |w| w.stage.lead()),
            epoch: behind.map_or(0, |p| p.epoch),
            stage: whole.map(|w| w.stage),
            share_ahead: whole.map_or(0.0, |w| w.share_ahead),
            moving: partitions.iter().any(|p| p.moving),
            partitions,
            fallback_reads: store.log().fallback_reads(),
            switch: parts.switches.borrow().clone(),
        }
    }

    fn migration_table(&self) -> Result<&Arc<dyn MigrationTable>, ServiceError> {
        self.parts.migration.registry.table().ok_or_else(|| {
            let message = "this service has no PostgreSQL to migrate from or to";
            Refusal::conflict("no_postgres", message).into()
        })
    }

    /// Carries out an order of `by`, and waits up to `wait` for its end; an order that cannot be meant
    /// is refused.
    pub async fn switch_mode(
        &self,
        order: SwitchOrder,
        by: &str,
        wait: Duration,
    ) -> Result<SwitchAnswer, ServiceError> {
        self.migration_table()?;
        let message = SwitchMode {
            order,
            by: by.to_owned(),
            automatic: false,
        };
        let answered = self.parts.migration.actor.call(message).await;
        let answered = answered
            .map_err(|_| unavailable("the actor that walks switches is being restarted"))?;
        match answered {
            Ok(SwitchAnswer::Walking(switch)) => Ok(self.await_switch(switch, wait).await),
            Ok(answer) => Ok(answer),
            Err(SwitchError::Store(error)) => Err(error.into()),
            Err(SwitchError::Unknown) => Err(unavailable(&SwitchError::Unknown.to_string())),
            Err(SwitchError::Invalid(error)) => Err(invalid_order(&error).into()),
        }
    }

    /// Waits at most `wait` for the end of a switch that this process drives.
    async fn await_switch(&self, switch: Switch, wait: Duration) -> SwitchAnswer {
        let mut seen = self.parts.migration.switches.clone();
        let ended = seen.wait_for(|current| match current {
            Some(current) => current.id != switch.id || current.ended.is_some(),
            None => false,
        });
        match timeout(wait, ended).await {
            Ok(Ok(current)) => match &*current {
                Some(current) if current.id == switch.id => SwitchAnswer::Ended(current.clone()),
                _ => SwitchAnswer::Walking(switch),
            },
            _ => {
                let current = self.parts.migration.switches.borrow().clone();
                let ours = current.filter(|c| c.id == switch.id);
                SwitchAnswer::Walking(ours.unwrap_or(switch))
            }
        }
    }

    /// Ends a switch at its next gate: a step that has begun is walked to its end. 404
    /// `switch_not_found`, 409 `switch_elsewhere` when it has ended or another process drives it.
    pub async fn cancel_switch(&self, id: Uuid) -> Result<Switch, ServiceError> {
        let switch = self.find_switch(id).await?;
        let actor = &self.parts.migration.actor;
        if actor.call(Cancel(id)).await.unwrap_or(false) {
            return Ok(switch);
        }
        let what = match switch.ended {
            Some(_) => format!("switch {id} has ended"),
            None => format!("switch {id} is driven by another process: cancel it there"),
        };
        Err(Refusal::conflict("switch_elsewhere", what).into())
    }

    /// A switch; 404 `switch_not_found`.
    pub async fn find_switch(&self, id: Uuid) -> Result<Switch, ServiceError> {
        let found = self.migration_table()?.switch(id).await?;
        found.ok_or_else(|| {
            Refusal::not_found("switch_not_found", format!("there is no switch {id}")).into()
        })
    }

    /// Switches, the newest first, those begun before `before`.
    pub async fn switch_history(
        &self,
        limit: usize,
        before: Option<Timestamp>,
    ) -> Result<Vec<Switch>, ServiceError> {
        Ok(self.migration_table()?.switches(limit, before).await?)
    }
}

fn unavailable(message: &str) -> ServiceError {
    ServiceError::Unavailable {
        dependency: "migration",
        message: message.to_owned(),
        retry_after: RETRY_AFTER,
    }
}

fn invalid_order(error: &InvalidOrder) -> Refusal {
    let message = error.to_string();
    let (field, code) = match error {
        InvalidOrder::Stage(_) => return Refusal::invalid("no_such_stage", message),
        InvalidOrder::Share(_) => return Refusal::invalid("invalid_share", message),
        InvalidOrder::Reason => ("reason", "length"),
        InvalidOrder::TwoShares => ("percent", "exclusive"),
    };
    Refusal::violations(vec![Violation {
        field: field.into(),
        code,
        message,
    }])
}
