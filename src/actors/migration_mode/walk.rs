//! Walks a switch edge by edge, each behind its gates. Progress is recorded, so that another
//! process can continue after this one is lost.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::figures::{FigureDeps, measure};
use super::handoff::{Moved, Mover};
use super::partition_registry::PartitionRegistry;
use crate::domain::ids::PartitionId;
use crate::flaws::{Flaw, flawed};
use crate::metrics;
use crate::migration::edge::{Edge, Move, next_move, path};
use crate::migration::gate::{GateKind, GateReport, GateSettings, GateState, evaluate, may_pass};
use crate::migration::record::Step;
use crate::migration::stage::StageKind;
use crate::migration::switch::{EdgeReport, Switch, SwitchState};
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::ports::migration_table::{MigrationTable, RowSeen};

/// Gates of data that begin to hold as the copy proceeds: the walk waits for them.
const HOLD_BY_THEMSELVES: [&str; 3] = ["backfill_remaining", "unmirrored", "mirror_behind"];

/// Whether waiting is enough for a gate to hold. Not so for a figure that cannot be measured.
fn holds_by_itself(gate: &GateReport) -> bool {
    gate.figure.is_some() && HOLD_BY_THEMSELVES.contains(&gate.name)
}

/// How often such gates are checked.
const LOOK: Duration = Duration::from_millis(200);

/// How often it is recorded that the walk is alive.
const RECORD: Duration = Duration::from_millis(500);

/// How long a driver may record nothing before another one takes over.
pub const PATIENCE: Duration = Duration::from_secs(3);

pub struct Walker {
    pub registry: Arc<PartitionRegistry>,
    pub table: Arc<dyn MigrationTable>,
    pub figures: FigureDeps,
    /// The thresholds of the gates.
    pub gates: GateSettings,
    /// How long a hand-off may take before it is undone.
    pub handoff_timeout: Duration,
    /// This process's name among drivers.
    pub driver: String,
    /// The switch that is to end at its next gate.
    pub cancelled: Mutex<Option<Uuid>>,
}

/// An edge on the way, with what its gates say now.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
#[schema(as = PlannedEdge)]
pub struct Planned {
    /// The step and its direction.
    #[serde(flatten)]
    pub step: Move,
    /// The stage it leaves.
    pub from: StageKind,
    /// The stage it reaches.
    pub to: StageKind,
    /// Its gates.
    pub gates: Vec<GateReport>,
}

impl Walker {
    /// The edges ahead of these partitions, with what their gates say now.
    pub async fn plan(
        &self,
        partitions: &[PartitionId],
        goal: StageKind,
        force: bool,
    ) -> Result<Vec<Planned>, StoreError> {
        let stages = self.stages_of(partitions).await?;
        // The longest way, taken by the partition that is furthest from the goal, has all the
        // edges.
        let longest = stages
            .iter()
            .map(|(_, from)| path(*from, goal))
            .max_by_key(Vec::len)
            .unwrap_or_default();
        let mut planned = Vec::new();
        for step in longest {
            // Partitions that are past this edge, or never reach it, are not measured.
            let walkers: Vec<PartitionId> = stages
                .iter()
                .filter(|(_, from)| path(*from, goal).contains(&step))
                .map(|(partition, _)| *partition)
                .collect();
            let figures = measure(&self.registry, &self.figures, step, &walkers).await;
            let force = force || flawed(Flaw::SkipGates);
            planned.push(Planned {
                step,
                from: step.from(),
                to: step.to(),
                gates: evaluate(step, &figures, &self.gates, force),
            });
        }
        Ok(planned)
    }

    /// Whether a walk along `planned` may begin: the gates of the first edge hold, or will by
    /// waiting, and gates of confidence further on hold already.
    pub fn may_begin(planned: &[Planned]) -> bool {
        planned.iter().enumerate().all(|(i, edge)| {
            edge.gates.iter().all(|gate| {
                gate.state != GateState::Fail
                    || holds_by_itself(gate)
                    || (i > 0 && gate.kind == GateKind::Data)
            })
        })
    }

    async fn stages_of(
        &self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, StageKind)>, StoreError> {
        let rows = self.table.rows().await?;
        partitions
            .iter()
            .map(|p| match rows.get(p) {
                Some(seen) => Ok((*p, seen.row.stage)),
                None => Err(StoreError::determinate(
                    StoreErrorKind::NotFound,
                    "postgres",
                    "walk",
                    format!("partition {p} has no row yet"),
                )),
            })
            .collect()
    }

    /// Walks a switch to its end, successful or not; `None` when another process has taken it over.
    pub async fn walk(&self, mut switch: Switch, seen: impl Fn(&Switch)) -> Option<Switch> {
        tracing::info!(id = %switch.id, goal = %switch.goal, by = switch.by,
            reason = switch.reason, force = switch.force, "a switch is walked");
        self.end_left_behind(&switch, &seen).await?;
        loop {
            let step = match self.next(&switch).await {
                Ok(Some(step)) => step,
                Ok(None) => return self.end(switch, SwitchState::Done, None, &seen).await,
                Err(_) if self.is_cancelled(&switch) => {
                    let why = Some("cancelled before its next edge".to_owned());
                    return self.end(switch, SwitchState::Failed, why, &seen).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the switch waits");
                    sleep(RECORD).await;
                    if !self.record(&switch, &seen).await {
                        return None;
                    }
                    continue;
                }
            };
            let (step, partitions) = step;
            switch.edges.push(EdgeReport {
                step,
                from: step.from(),
                to: step.to(),
                partitions: partitions.clone(),
                state: SwitchState::Walking,
                gates: serde_json::Value::Null,
                begun: self.registry.clock().now(),
                ended: None,
                pause_ms: Default::default(),
            });
            if !self.pass(&mut switch, step, &partitions, &seen).await? {
                let (state, why) = if self.is_cancelled(&switch) {
                    (SwitchState::Failed, Some("cancelled at a gate".to_owned()))
                } else {
                    (SwitchState::Refused, None)
                };
                return self.end(switch, state, why, &seen).await;
            }
            let walked = self.cross(&switch, step, &partitions, &seen).await?;
            let (state, error) = self.report(&mut switch, step, walked);
            match state {
                SwitchState::Done => {
                    if !self.record(&switch, &seen).await {
                        return None;
                    }
                }
                state => return self.end(switch, state, error, &seen).await,
            }
        }
    }

    /// The next edge, and the partitions that walk it: those that are furthest from the goal.
    async fn next(&self, switch: &Switch) -> Result<Option<(Move, Vec<PartitionId>)>, StoreError> {
        let stages = self.stages_of(&switch.partitions).await?;
        let far = |stage: StageKind| path(stage, switch.goal).len();
        let Some((_, from)) = stages.iter().max_by_key(|(_, stage)| far(*stage)) else {
            return Ok(None);
        };
        let Some(step) = next_move(*from, switch.goal) else {
            return Ok(None);
        };
        let there = stages.iter().filter(|(_, stage)| stage == from);
        Ok(Some((step, there.map(|(p, _)| *p).collect())))
    }

    fn is_cancelled(&self, switch: &Switch) -> bool {
        *self.cancelled.lock() == Some(switch.id)
    }

    /// Waits at the gates of an edge; false when one of them cannot open or the switch was
    /// cancelled. `None` when another process has taken the switch over.
    async fn pass(
        &self,
        switch: &mut Switch,
        step: Move,
        partitions: &[PartitionId],
        seen: &impl Fn(&Switch),
    ) -> Option<bool> {
        let mut recorded = Instant::now();
        let mut first = true;
        loop {
            let figures = measure(&self.registry, &self.figures, step, partitions).await;
            let force = switch.force || flawed(Flaw::SkipGates);
            let gates = evaluate(step, &figures, &self.gates, force);
            let open = may_pass(&gates);
            let closed =
                |gate: &GateReport| gate.state == GateState::Fail && !holds_by_itself(gate);
            let hopeless = gates.iter().any(closed) || (!open && self.is_cancelled(switch));
            if let Some(edge) = switch.edges.last_mut() {
                edge.gates = serde_json::to_value(&gates).unwrap_or_default();
                if hopeless {
                    edge.state = SwitchState::Refused;
                    edge.ended = Some(self.registry.clock().now());
                }
            }
            if std::mem::take(&mut first) || recorded.elapsed() > RECORD {
                if !self.record(switch, seen).await {
                    return None;
                }
                recorded = Instant::now();
            }
            if open || hopeless {
                return Some(open);
            }
            sleep(LOOK).await;
        }
    }

    /// Moves every partition across an edge, concurrently, recording meanwhile that the walk is
    /// alive.
    async fn cross(
        &self,
        switch: &Switch,
        step: Move,
        partitions: &[PartitionId],
        seen: &impl Fn(&Switch),
    ) -> Option<Vec<(PartitionId, Result<Moved, StoreError>)>> {
        let moves = partitions.iter().map(|partition| async move {
            let mover = Mover {
                registry: &self.registry,
                table: &*self.table,
                partition: *partition,
                max_lag: self.gates.max_lag,
            };
            (*partition, mover.walk(step, self.handoff_timeout).await)
        });
        self.while_recording(switch, join_all(moves), seen).await
    }

    /// Awaits something that takes long, recording meanwhile that the switch is driven. `None` when
    /// another process has taken it over.
    async fn while_recording<T>(
        &self,
        switch: &Switch,
        work: impl Future<Output = T>,
        seen: &impl Fn(&Switch),
    ) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            match timeout(RECORD, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if self.record(switch, seen).await => {}
                Err(_) => return None,
            }
        }
    }

    /// Ends the hand-offs that a previous driver left under way, concurrently and before any gate
    /// is checked: writers wait for them, whatever the gates say by now.
    async fn end_left_behind(&self, switch: &Switch, seen: &impl Fn(&Switch)) -> Option<()> {
        // If the rows cannot be read now, the walk of the edge meets these hand-offs.
        let rows = self.table.rows().await.unwrap_or_default();
        let mine = rows.iter().filter(|(p, _)| switch.partitions.contains(p));
        let left = mine.filter(|(_, seen)| seen.row.step != Step::Steady);
        let ends = join_all(left.map(|(partition, row)| self.settle(*partition, row)));
        self.while_recording(switch, ends, seen).await?;
        Some(())
    }

    /// Ends a hand-off that was found under way.
    pub(super) async fn settle(&self, partition: PartitionId, seen: &RowSeen) {
        tracing::warn!(%partition, step = %seen.row.step, "ending a hand-off that nobody drives");
        let mover = Mover {
            registry: &self.registry,
            table: &*self.table,
            partition,
            max_lag: self.gates.max_lag,
        };
        let age = seen.unchanged().unwrap_or_default();
        if let Err(error) = mover.settle(age, self.handoff_timeout).await {
            tracing::warn!(%partition, %error, "it is tried again");
        }
    }

    fn report(
        &self,
        switch: &mut Switch,
        step: Move,
        walked: Vec<(PartitionId, Result<Moved, StoreError>)>,
    ) -> (SwitchState, Option<String>) {
        let Some(edge) = switch.edges.last_mut() else {
            return (SwitchState::Done, None);
        };
        let (mut failed, mut undone) = (Vec::new(), Vec::new());
        for (partition, moved) in walked {
            match moved {
                Ok(moved) => {
                    if step.edge == Edge::B {
                        let pause = moved.pause.as_secs_f64() * 1e3;
                        edge.pause_ms.insert(partition, pause);
                    }
                    if moved.leadership.lead != step.to().lead() {
                        let timeout = self.handoff_timeout;
                        undone.push(format!(
                            "the hand-off of partition {partition} was not over after {timeout:?} \
                             and was undone"
                        ));
                    }
                }
                Err(error) => failed.push(format!("partition {partition}: {error}")),
            }
        }
        let state = match (failed.is_empty(), undone.is_empty()) {
            (false, _) => SwitchState::Failed,
            (true, false) => SwitchState::Undone,
            (true, true) => SwitchState::Done,
        };
        failed.append(&mut undone);
        edge.state = state;
        edge.ended = Some(self.registry.clock().now());
        (state, (!failed.is_empty()).then(|| failed.join("; ")))
    }

    /// Records how far the switch is; false when another process has taken it over. While
    /// PostgreSQL does not answer the walk goes on: nobody else can take it over either.
    async fn record(&self, switch: &Switch, seen: &impl Fn(&Switch)) -> bool {
        seen(switch);
        match self.table.record_switch(switch, &self.driver).await {
            Ok(ours) => ours,
            Err(error) => {
                tracing::warn!(%error, "the switch cannot be recorded");
                true
            }
        }
    }

    async fn end(
        &self,
        mut switch: Switch,
        state: SwitchState,
        error: Option<String>,
        seen: &impl Fn(&Switch),
    ) -> Option<Switch> {
        switch.state = state;
        switch.error = error;
        switch.ended = Some(self.registry.clock().now());
        metrics::switch_ended(switch.goal.as_str(), state.as_str());
        tracing::info!(id = %switch.id, goal = %switch.goal, state = state.as_str(),
            error = switch.error, "the switch has ended");
        loop {
            // Recorded before it is published: whoever sees the end may order the next switch.
            match self.table.record_switch(&switch, &self.driver).await {
                Ok(true) => {
                    seen(&switch);
                    return Some(switch);
                }
                Ok(false) => return None,
                Err(error) => {
                    tracing::warn!(%error, "the end of the switch cannot be recorded yet");
                    sleep(RECORD).await;
                }
            }
        }
    }
}
