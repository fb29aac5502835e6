//! Use cases of operators.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::Service;
use super::error::{RETRY_AFTER, ServiceError};
use crate::actors::event_store::WritesFail;
use crate::actors::projection;
use crate::actors::supervision::tree::{KillHow, NodeView};
use crate::clock::{self, MAX_SHIFT_SECONDS};
use crate::domain::ids::PartitionId;
use crate::domain::refusal::Refusal;
use crate::log::lead::Lead;
use crate::migration::stage::{Mode, Stage};
use crate::store::disk_space::{RoomState, RoomStatus};
use crate::store::failpoint::{self, Action, Point};
use crate::store::halts::{self, Halt};
use crate::store::health::{DependencyState, DependencyStatus};
use crate::store::ports::audit_table::{AuditEntry, AuditFilter};
use crate::store::ports::delivery::{DeadLetter, DeliveryStatus};
use crate::store::ports::read_model::ProjectionStatus;
use crate::store::ports::read_model::status::ONTOLOGY;

/// The dependencies as last seen.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Dependencies {
    /// The event store.
    pub s3: DependencyStatus,
    /// The outbox and the read model.
    pub postgres: DependencyStatus,
    /// The transport.
    pub kafka: DependencyStatus,
}

/// Whether the service serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// It does.
    Ok,
    /// It does, and something lags behind or does not go on.
    Degraded,
    /// It does not.
    Unavailable,
}

/// How the service is.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Health)]
pub struct HealthReport {
    /// `ok`, `degraded` (something lags behind or does not go on, or writes are refused for want of
    /// room while reads go on) or `unavailable`.
    pub status: HealthState,
    /// The mode.
    pub migration_mode: Mode,
    /// Which store leads.
    pub lead: Lead,
    /// The epoch of the lead: the number of hand-offs so far.
    pub epoch: u64,
    /// Why it is not `ok`, where a dependency's state does not say it: `storage_full` (commands are
    /// refused), `not_ready`, or `WHAT_halted` for the first of `halted`, or what is
    /// wrong with a copy of the log: `other_log`, `log_behind`, `diverged`, `bucket_unread`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "projection_halted")]
    pub reason: Option<String>,
    /// What does not go on, wholly or in a partition, since when and why; absent without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub halted: Vec<Halt>,
    /// Partitions that are not open yet, or whose leader is not known; absent without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_ready: Vec<PartitionId>,
    /// What is wrong with copies of the log, what follows and what to do, for people; absent if
    /// nothing is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<String>,
    /// Room on the disk of the data directory, where embedded parts keep their data on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub disk: Option<RoomStatus>,
    /// The dependencies as last seen.
    pub dependencies: Dependencies,
    /// Actors, entities apart, that failed beyond their limit or are stuck; absent without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actors_down: Vec<String>,
    /// Version of the program.
    pub version: &'static str,
}

/// How long the leading store may fail before the service reports that it is unavailable: the
/// writes' own retries bridge shorter outages.
const LEADER_PATIENCE: Duration = Duration::from_secs(5);

/// Children shown of one branch of the tree: there may be a hundred thousand entities.
const MAX_CHILDREN: usize = 100;

impl Service {
    /// The health of the service; `status: "unavailable"` is answered with 503.
    pub fn health(&self) -> HealthReport {
        let health = &self.parts.health;
        let dependencies = Dependencies {
            s3: health.s3.status(),
            postgres: health.postgres.status(),
            kafka: health.kafka.status(),
        };
        let down = |status: &DependencyStatus| status.state == DependencyState::Down;
        let store = &self.parts.entities.writer;
        let stage = self.least_advanced_stage();
        // Without the store that leads nothing can be written; without the other one writes work.
        let led_by_postgres = stage.is_some_and(|s| s.leadership.lead == Lead::Postgres);
        let leader = if led_by_postgres {
            &health.postgres
        } else {
            &health.s3
        };
        let gone = leader.down_for().is_some_and(|d| d > LEADER_PATIENCE);
        let actors_down = self.parts.tree.down();
        let disk = self.parts.room.as_ref().map(|room| room.status());
        let writes_fail = store.writes_fail();
        let no_room = writes_fail == Some(WritesFail::NoRoom)
            || disk.is_some_and(|disk| disk.state == RoomState::Low);
        let fail = writes_fail == Some(WritesFail::Otherwise);
        let not_ready = self.not_ready();
        let halted = self.halted();
        let alarms = store.log().alarms().all();
        let status = if !not_ready.is_empty() || gone || fail {
            HealthState::Unavailable
        } else if no_room
            || !halted.is_empty()
            || !alarms.is_empty()
            || !actors_down.is_empty()
            || [
                &dependencies.s3,
                &dependencies.postgres,
                &dependencies.kafka,
            ]
            .into_iter()
            .any(down)
        {
            HealthState::Degraded
        } else {
            HealthState::Ok
        };
        HealthReport {
            status,
            migration_mode: stage.map_or(Mode::S3Only, |s| s.mode),
            lead: stage.map_or(Lead::S3, |s| s.leadership.lead),
            epoch: stage.map_or(0, |s| s.leadership.epoch.0),
            reason: if no_room {
                Some("storage_full".into())
            } else if !not_ready.is_empty() {
                Some("not_ready".into())
            } else {
                let alarm = alarms.first().map(|alarm| alarm.code.to_owned());
                alarm.or_else(|| halted.first().map(|halt| format!("{}_halted", halt.what)))
            },
            halted,
            not_ready,
            copies: alarms.into_iter().map(|alarm| alarm.message).collect(),
            disk,
            dependencies,
            actors_down,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// The stage of the partition that is furthest behind on the way to S3.
    fn least_advanced_stage(&self) -> Option<Stage> {
        let writer = &self.parts.entities.writer;
        writer
            .log()
            .partition_ids()
            .filter_map(|p| writer.state_of(p))
            .map(|state| state.stage)
            .min_by(|a, b| a.mode.gauge().total_cmp(&b.mode.gauge()))
    }

    /// What does not go on; writes of partitions first.
    fn halted(&self) -> Vec<Halt> {
        let mut halted = self.parts.entities.writer.refusing();
        let named = |halted: &[Halt], halt: &Halt| {
            let mut those = halted.iter();
            those.any(|h| (h.what, h.partition) == (halt.what, halt.partition))
        };
        for halt in self.parts.halts.list() {
            if !named(&halted, &halt) {
                halted.push(halt);
            }
        }
        halted
    }

    /// Partitions that are not open yet, or whose leader is not known.
    pub fn not_ready(&self) -> Vec<PartitionId> {
        let writer = &self.parts.entities.writer;
        let closed = writer.not_open();
        let partitions = writer.log().partition_ids();
        partitions
            .filter(|p| closed.contains(p) || writer.state_of(*p).is_none())
            .collect()
    }

    /// Whether requests should be sent here: every partition is open and has a known leader.
    pub fn is_ready(&self) -> bool {
        self.not_ready().is_empty()
    }

    pub fn actors(&self) -> NodeView {
        self.parts.tree.view(MAX_CHILDREN)
    }

    /// Kills an actor; 403 `chaos_disabled` unless chaos is enabled, 404 `actor_not_found`, 409
    /// `actor_not_running` while it is being restarted.
    pub fn kill_actor(&self, path: &str, how: KillHow) -> Result<(), ServiceError> {
        if !self.parts.chaos {
            return Err(Refusal::forbidden(
                "chaos_disabled",
                "killing actors needs `chaos.enabled`",
            )
            .into());
        }
        let node = self.parts.tree.find(path).ok_or_else(|| {
            Refusal::not_found("actor_not_found", format!("there is no actor at {path}"))
        })?;
        tracing::warn!(%path, ?how, "killing an actor on request");
        if !node.kill(how) {
            let message = format!("{path} is just being started again");
            return Err(Refusal::conflict("actor_not_running", message).into());
        }
        Ok(())
    }

    /// Arms a fail point; 403 `chaos_disabled` unless chaos is enabled, 422 `invalid_failpoint`.
    pub fn arm_failpoint(
        &self,
        name: &str,
        action: Action,
        times: u32,
        delay: Duration,
    ) -> Result<(), ServiceError> {
        if !self.parts.chaos {
            let message = "fail points need `chaos.enabled`";
            return Err(Refusal::forbidden("chaos_disabled", message).into());
        }
        failpoint::arm(name, action, times, delay)
            .map_err(|e| Refusal::invalid("invalid_failpoint", e.to_string()))?;
        tracing::warn!(%name, ?action, times, "a fail point is armed on request");
        Ok(())
    }

    /// Every fail point that was reached since the start or is armed; none unless chaos is enabled.
    pub fn failpoints(&self) -> BTreeMap<String, Point> {
        failpoint::list()
    }

    /// Shifts the clock of this process by so many seconds; 403 `chaos_disabled` unless chaos is
    /// enabled, 422 `invalid_offset`.
    pub fn shift_clock(&self, seconds: i64) -> Result<(), ServiceError> {
        if !self.parts.chaos {
            let message = "shifting the clock needs `chaos.enabled`";
            return Err(Refusal::forbidden("chaos_disabled", message).into());
        }
        if seconds.unsigned_abs() > MAX_SHIFT_SECONDS.unsigned_abs() {
            let message = format!("at most {MAX_SHIFT_SECONDS} seconds in either direction");
            return Err(Refusal::invalid("invalid_offset", message).into());
        }
        clock::shift_clock(seconds);
        tracing::warn!(seconds, "the clock is shifted on request");
        Ok(())
    }

    /// Outbox depth, age, watermarks.
    pub async fn delivery(&self) -> Result<DeliveryStatus, ServiceError> {
        let mut status = self.parts.delivery.status().await?;
        status.halted = self.parts.halts.list();
        status
            .halted
            .retain(|halt| [halts::OUTBOX, halts::RELAY].contains(&halt.what));
        Ok(status.with_heads(self.parts.entities.writer.heads()))
    }

    /// Dead letters, oldest first.
    pub async fn dead_letters(
        &self,
        limit: usize,
        after: Option<i64>,
    ) -> Result<Vec<DeadLetter>, ServiceError> {
        Ok(self.parts.delivery.dead_letters(limit, after).await?)
    }

    /// Requeues a dead letter; 404 `dead_letter_not_found`.
    pub async fn requeue_dead_letter(&self, id: i64) -> Result<(), ServiceError> {
        let found = self.parts.delivery.requeue(id).await?;
        found.then_some(()).ok_or_else(|| no_dead_letter(id))
    }

    /// Removes a dead letter for good; 404 `dead_letter_not_found`.
    pub async fn discard_dead_letter(&self, id: i64) -> Result<(), ServiceError> {
        let found = self.parts.delivery.discard(id).await?;
        found.then_some(()).ok_or_else(|| no_dead_letter(id))
    }

    /// Entries of the audit trail, the newest first.
    pub async fn audit(
        &self,
        filter: AuditFilter,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, ServiceError> {
        Ok(self.parts.audit.entries(filter, limit).await?)
    }

    pub async fn projections(&self) -> Result<Vec<ProjectionStatus>, ServiceError> {
        let Some(projection) = &self.parts.projection else {
            return Ok(vec![]);
        };
        match projection.call(projection::Status).await {
            Ok(status) => Ok(vec![status?]),
            Err(_) => Err(projection_gone()),
        }
    }

    /// Starts to rebuild a projection beside the live one; 404 `projection_not_found`.
    pub async fn rebuild_projection(&self, name: &str) -> Result<(), ServiceError> {
        if name != ONTOLOGY {
            let message = format!("there is no projection {name}; there is {ONTOLOGY}");
            return Err(Refusal::not_found("projection_not_found", message).into());
        }
        let Some(projection) = &self.parts.projection else {
            let message = "this process does not have the role `projection`";
            return Err(Refusal::conflict("role_missing", message).into());
        };
        match projection.call(projection::Rebuild).await {
            Ok(begun) => {
                begun?;
                Ok(())
            }
            Err(_) => Err(projection_gone()),
        }
    }
}

fn no_dead_letter(id: i64) -> ServiceError {
    Refusal::not_found(
        "dead_letter_not_found",
        format!("there is no dead letter {id}"),
    )
    .into()
}

fn projection_gone() -> ServiceError {
    ServiceError::Unavailable {
        dependency: "projection",
        message: "the projection is being restarted".into(),
        retry_after: RETRY_AFTER,
    }
}
