//! MigrationModeActor: owns the stage of every partition, publishes it, and walks the switches that
//! operators order. The channel keeps the last stage, so the death of this actor interrupts
//! switches but no traffic; its next incarnation, here or in another process, continues them.
//!
//! * [`partition_registry`]: the partitions' states; [`walk`]: a switch, edge by edge
//! * [`handoff`]: the I/O of moving the lead; [`figures`]: the figures for the gates
//! * [`budgets`]: the budgets of a young stage

mod budgets;
pub mod figures;
pub mod handoff;
pub mod partition_registry;
pub mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

pub use self::figures::{FigureDeps, Verifications, Verified};
pub use self::partition_registry::{PartitionRegistry, PartitionRegistryDeps};
pub use self::walk::{PATIENCE, Planned, Walker};

use super::arbiters::ArbiterSlot;
use super::supervision::handle::Handle;
use super::supervision::policy::ActorKind;
use super::supervision::supervisor::Supervisor;
use super::write_stats::WriteStats;
use crate::clock::new_uuid;
use crate::metrics;
use crate::migration::record::Step;
use crate::migration::switch::{Switch, SwitchState};
use crate::migration::switch_order::{Errand, InvalidOrder, SwitchOrder};
use crate::store::backoff::Backoff;
use crate::store::error::StoreError;

/// Pauses between two queries while PostgreSQL fails.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Shortest time between two reads of what the log says.
const LOG_PAUSE: Duration = Duration::from_millis(10);

/// How long to wait for PostgreSQL's first answer before the log alone decides.
const FIRST_LOOK: Duration = Duration::from_secs(1);

pub struct MigrationModeDeps {
    pub registry: Arc<PartitionRegistry>,
    /// Walks switches; `None` where PostgreSQL is no place of the log.
    pub walker: Option<Arc<Walker>>,
    /// How many writes commit and fail, for the guardrail and the figures of a switch.
    pub write_stats: Arc<WriteStats>,
    /// How often PostgreSQL is read without a reason.
    pub poll: Duration,
    /// The switch that this process drives or drove last.
    pub current: watch::Sender<Option<Switch>>,
    /// Whether this process drives a switch; outlives a restart of the actor.
    pub driving: AtomicBool,
}

pub fn start(supervisor: &Supervisor, deps: Arc<MigrationModeDeps>) -> Handle<MigrationModeActor> {
    let (kind, slot) = (ActorKind::MigrationMode, ArbiterSlot::Background);
    supervisor.child("migration_mode", kind, slot, move || MigrationModeActor {
        deps: deps.clone(),
    })
}

pub struct MigrationModeActor {
    deps: Arc<MigrationModeDeps>,
}

/// Carries out an order to switch; answered when the walk has begun, or is refused.
#[derive(Message)]
#[rtype(result = "Result<SwitchAnswer, SwitchError>")]
pub struct SwitchMode {
    /// What is ordered.
    pub order: SwitchOrder,
    /// Who orders it.
    pub by: String,
    /// Ordered by the service itself.
    pub automatic: bool,
}

/// Why nothing became of an order.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// It cannot be meant.
    #[error(transparent)]
    Invalid(#[from] InvalidOrder),
    /// Not every partition is known to be led yet.
    #[error("not every partition is known to be led yet")]
    Unknown,
    /// A store failed; whether a switch was begun shows in the history.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Ends a switch at its next gate; false when this process does not drive it.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Cancel(pub Uuid);

/// What became of an order to switch.
#[derive(Debug, Clone)]
pub enum SwitchAnswer {
    /// Nothing was to be done, or only asked: what the gates say.
    Planned {
        /// The edges on the way, none when nothing is to be done.
        edges: Vec<Planned>,
        /// Whether the walk could begin now.
        may_begin: bool,
    },
    /// A gate does not hold; recorded in the history.
    Refused {
        switch: Switch,
        /// The edges on the way, with what their gates say.
        edges: Vec<Planned>,
    },
    Busy(Option<Switch>),
    /// The walk has begun.
    Walking(Switch),
    /// It was walked, and has ended while it was waited for.
    Ended(Switch),
}

impl Actor for MigrationModeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let deps = self.deps.clone();
        ctx.spawn(watch_stages(deps).into_actor(self));
        if let Some(walker) = self.deps.walker.clone() {
            let deps = self.deps.clone();
            ctx.spawn(adopt(deps, walker.clone()).into_actor(self));
            let deps = self.deps.clone();
            ctx.spawn(budgets::watch_budgets(deps, walker).into_actor(self));
        }
    }
}

impl Supervised for MigrationModeActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Self {
            deps: self.deps.clone(),
        };
    }
}

/// Keeps the registry up to date, for ever.
async fn watch_stages(deps: Arc<MigrationModeDeps>) {
    let mut heads = deps.registry.writer().heads().subscribe();
    let mut reachable = true;
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        heads.mark_unchanged();
        // With S3 leading nobody has to wait for PostgreSQL's answer.
        deps.registry.publish_from_log();
        let looked = match timeout(FIRST_LOOK, deps.registry.refresh()).await {
            Ok(looked) => looked.map_err(|e| e.to_string()),
            Err(_) => Err("no answer yet".to_owned()),
        };
        match &looked {
            Err(error) if reachable => {
                tracing::warn!(
                    error,
                    "the rows of the migration cannot be read; as far as the log \
                    says who leads, writes go on"
                );
            }
            _ => {}
        }
        reachable = looked.is_ok();
        let unknown = deps.registry.stages().is_none();
        // However often the published state is reported stale, PostgreSQL is asked at growing
        // intervals while it refuses at once. What the log says is published immediately all the
        // same.
        let not_before = match reachable {
            true => {
                backoff.reset();
                Instant::now()
            }
            false => Instant::now() + backoff.pause(),
        };
        let news = async {
            loop {
                tokio::select! {
                    () = deps.registry.stale().notified() => {}
                    // Heads move with every commit: they matter only while a partition waits to be
                    // opened.
                    Ok(()) = heads.changed(), if unknown => {}
                }
                if Instant::now() >= not_before {
                    return;
                }
                deps.registry.publish_from_log();
                tokio::time::sleep(LOG_PAUSE).await;
            }
        };
        // Read at this interval even without news.
        let until = not_before.max(Instant::now() + deps.poll);
        let _ = timeout_at(until, news).await;
    }
}

/// Takes over switches whose driver was lost, for ever; first one that this process drove before a
/// restart of the actor.
async fn adopt(deps: Arc<MigrationModeDeps>, walker: Arc<Walker>) {
    if deps.driving.load(Ordering::Acquire) {
        adopt_one(&deps, &walker, Duration::ZERO).await;
    }
    loop {
        tokio::time::sleep(PATIENCE / 2).await;
        if !deps.driving.load(Ordering::Acquire) {
            adopt_one(&deps, &walker, PATIENCE).await;
        }
    }
}

async fn adopt_one(deps: &MigrationModeDeps, walker: &Walker, patience: Duration) {
    match walker.table.adopt_switch(&walker.driver, patience).await {
        Ok(Some(switch)) => {
            tracing::warn!(id = %switch.id, goal = %switch.goal, "going on with a switch");
            drive(deps, walker, switch).await;
        }
        Ok(None) => {
            deps.driving.store(false, Ordering::Release);
            settle_orphans(deps, walker).await;
        }
        Err(error) => {
            // The switch is looked for again, whoever drives it by then.
            deps.driving.store(false, Ordering::Release);
            tracing::debug!(%error, "cannot look for switches");
        }
    }
}

/// Ends hand-offs that belong to no running switch, concurrently: one that cannot be ended now does
/// not hold up the others and is retried.
async fn settle_orphans(deps: &MigrationModeDeps, walker: &Walker) {
    if !matches!(walker.table.current_switch().await, Ok(None)) {
        return;
    }
    let rows = deps.registry.rows();
    let left = rows.iter().filter(|(_, seen)| {
        let young = seen.unchanged().is_some_and(|age| age < PATIENCE);
        seen.row.step != Step::Steady && !young
    });
    join_all(left.map(|(partition, seen)| walker.settle(*partition, seen))).await;
}

async fn drive(deps: &MigrationModeDeps, walker: &Walker, switch: Switch) {
    deps.driving.store(true, Ordering::Release);
    let seen = |switch: &Switch| {
        deps.current.send_replace(Some(switch.clone()));
    };
    walker.walk(switch, seen).await;
    deps.driving.store(false, Ordering::Release);
}

impl Handler<SwitchMode> for MigrationModeActor {
    type Result = ResponseActFuture<Self, Result<SwitchAnswer, SwitchError>>;

    fn handle(&mut self, message: SwitchMode, _: &mut Self::Context) -> Self::Result {
        let deps = self.deps.clone();
        let consider = async move { consider(&deps, message).await };
        Box::pin(consider.into_actor(self).map(|answer, actor, ctx| {
            if let (Ok(SwitchAnswer::Walking(switch)), Some(walker)) = (&answer, &actor.deps.walker)
            {
                let (deps, walker) = (actor.deps.clone(), walker.clone());
                let switch = switch.clone();
                // Set before the switch becomes visible to others.
                deps.driving.store(true, Ordering::Release);
                deps.current.send_replace(Some(switch.clone()));
                let walk = async move { drive(&deps, &walker, switch).await };
                ctx.spawn(walk.into_actor(actor));
            }
            answer
        }))
    }
}

async fn consider(
    deps: &MigrationModeDeps,
    SwitchMode {
        order,
        by,
        automatic,
    }: SwitchMode,
) -> Result<SwitchAnswer, SwitchError> {
    let Some(walker) = &deps.walker else {
        return Ok(SwitchAnswer::Busy(None));
    };
    // The rows decide: what was published may be old.
    deps.registry.refresh().await?;
    let stages = deps.registry.stages().ok_or(SwitchError::Unknown)?;
    let Errand { goal, partitions } = order.errand(&stages)?;
    let edges = walker.plan(&partitions, goal, order.force).await?;
    let may_begin = Walker::may_begin(&edges);
    if order.dry_run || edges.is_empty() {
        return Ok(SwitchAnswer::Planned { edges, may_begin });
    }
    let mut switch = Switch {
        id: new_uuid(),
        goal,
        partitions,
        by,
        reason: order.reason.trim().to_owned(),
        force: order.force,
        automatic,
        begun: deps.registry.clock().now(),
        ended: None,
        state: SwitchState::Walking,
        error: None,
        edges: Vec::new(),
    };
    if !may_begin {
        switch.state = SwitchState::Refused;
        switch.ended = Some(switch.begun);
        switch.error = Some("gates do not hold".into());
    }
    let begun = walker
        .table
        .begin_switch(&switch, &walker.driver, PATIENCE)
        .await?;
    if begun && !may_begin {
        metrics::switch_ended(switch.goal.as_str(), switch.state.as_str());
    }
    Ok(match (begun, may_begin) {
        (false, _) => SwitchAnswer::Busy(walker.table.current_switch().await?),
        (true, true) => SwitchAnswer::Walking(switch),
        (true, false) => SwitchAnswer::Refused { switch, edges },
    })
}

impl Handler<Cancel> for MigrationModeActor {
    type Result = bool;

    fn handle(&mut self, Cancel(id): Cancel, _: &mut Self::Context) -> bool {
        let current = self.deps.current.borrow().clone();
        let ours = current.is_some_and(|switch| switch.id == id && switch.ended.is_none());
        if let (true, Some(walker)) = (ours, &self.deps.walker) {
            *walker.cancelled.lock() = Some(id);
        }
        ours
    }
}
