//! ProjectionActor: keeps the read model. A shell around the loop of the [`projector`]; it also
//! starts rebuilds and reports progress.

mod follow;
mod gather;
mod progress;
mod projector;
mod proving;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Notify;

pub use self::follow::follow;
pub use self::gather::BatchLimits;
pub use self::progress::ProjectionProgress;
pub use self::projector::Projector;
use super::arbiters::ArbiterSlot;
use super::supervision::handle::Handle;
use super::supervision::policy::ActorKind;
use super::supervision::supervisor::Supervisor;
use crate::projection::changes::ParkedEvent;
use crate::store::error::StoreError;
use crate::store::halts::Halts;
use crate::store::io_runtime::IoRuntime;
use crate::store::log::log_heads::LogHeads;
use crate::store::log::log_reader::LogReader;
use crate::store::ports::read_model::{Generation, ProjectionStatus, ReadModel};

/// How long a model may stand still while the log goes on and another process is believed to keep
/// it, before this process takes over.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub struct ProjectionSettings {
    /// How often to look for commits of other processes; commits of this one wake it at once.
    pub poll: Duration,
    pub batch: BatchLimits,
}

impl Default for ProjectionSettings {
    /// 5,000 events are far beyond where the cost of a transaction matters and take a quarter of a
    /// second; 8 MiB bound memory and the size of a statement.
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(1),
            batch: BatchLimits {
                events: 5_000,
                bytes: 8 * 1024 * 1024,
            },
        }
    }
}

#[derive(Clone)]
pub struct ProjectionDeps {
    pub log: Arc<LogReader>,
    /// How far the log reaches.
    pub heads: Arc<LogHeads>,
    pub model: Arc<dyn ReadModel>,
    /// Where progress is published.
    pub progress: Arc<ProjectionProgress>,
    /// The runtime for reading and folding, which would block an arbiter.
    pub io: IoRuntime,
    pub settings: ProjectionSettings,
    /// Where it reports that a partition does not go on.
    pub halts: Halts,
}

pub struct ProjectionActor {
    deps: ProjectionDeps,
    changed: Arc<Notify>,
}

impl ProjectionActor {
    pub fn new(deps: ProjectionDeps) -> Self {
        Self {
            deps,
            changed: Arc::new(Notify::new()),
        }
    }
}

pub fn start(supervisor: &Supervisor, deps: ProjectionDeps) -> Handle<ProjectionActor> {
    supervisor.child(
        "projection",
        ActorKind::Projection,
        ArbiterSlot::Background,
        move || ProjectionActor::new(deps.clone()),
    )
}

impl Actor for ProjectionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let projector = Projector::new(self.deps.clone(), self.changed.clone());
        ctx.spawn(projector.run().into_actor(self));
    }
}

impl Supervised for ProjectionActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Self::new(self.deps.clone());
    }
}

/// Starts to rebuild the read model beside the live one, unless a rebuild is under way; answers
/// with the generation that is being built.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Generation, StoreError>")]
pub struct Rebuild;

impl Handler<Rebuild> for ProjectionActor {
    type Result = ResponseFuture<Result<Generation, StoreError>>;

    fn handle(&mut self, _: Rebuild, _: &mut Self::Context) -> Self::Result {
        let (model, changed) = (self.deps.model.clone(), self.changed.clone());
        Box::pin(async move {
            let generation = model.begin_rebuild().await?;
            changed.notify_one();
            Ok(generation)
        })
    }
}

#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<ProjectionStatus, StoreError>")]
pub struct Status;

impl Handler<Status> for ProjectionActor {
    type Result = ResponseFuture<Result<ProjectionStatus, StoreError>>;

    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        let deps = self.deps.clone();
        Box::pin(async move {
            let generations = deps.model.generations(deps.log.partitions()).await?;
            let heads: Vec<_> = deps
                .log
                .partition_ids()
                .map(|partition| deps.heads.next_offset(partition))
                .collect();
            Ok(ProjectionStatus::new(&generations, &heads))
        })
    }
}

/// Lists events that the read model could not apply.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Vec<ParkedEvent>, StoreError>")]
pub struct Parked {
    /// Between 1 and 1,000.
    pub limit: u32,
}

impl Handler<Parked> for ProjectionActor {
    type Result = ResponseFuture<Result<Vec<ParkedEvent>, StoreError>>;

    fn handle(&mut self, message: Parked, _: &mut Self::Context) -> Self::Result {
        let model = self.deps.model.clone();
        Box::pin(async move { model.parked(message.limit).await })
    }
}
