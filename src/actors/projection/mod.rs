//! ProjectionActor: keeps the read model. A shell around the [`projector`]'s loop; it also begins
//! rebuilds and tells how the projection stands.

mod follow;
mod gather;
mod progress;
mod projector;
mod proving;

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

/// How long a model may stand still, while the log goes on and another process is believed to
/// work on it, before this one does.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(2);

/// How the projection works.
#[derive(Debug, Clone, Copy)]
pub struct ProjectionSettings {
    /// How often to look for commits of other processes; those of this one wake it at once.
    pub poll: Duration,
    /// How much one transaction takes in.
    pub batch: BatchLimits,
}

impl Default for ProjectionSettings {
    /// 5,000 events are far beyond where a transaction's own cost matters and take a quarter of a
    /// second; 8 MiB bound what is in memory and what a statement carries.
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

/// What the projection works on.
#[derive(Clone)]
pub struct ProjectionDeps {
    /// The log.
    pub log: Arc<LogReader>,
    /// How far it reaches.
    pub heads: Arc<LogHeads>,
    /// Where the read model is kept.
    pub model: Arc<dyn ReadModel>,
    /// Where the projection tells how far it is.
    pub progress: Arc<ProjectionProgress>,
    /// Where reading and folding runs: neither must hold an arbiter up.
    pub io: IoRuntime,
    /// How it works.
    pub settings: ProjectionSettings,
    /// Where it is told that it does not go on.
    pub halts: Halts,
}

/// See the module.
pub struct ProjectionActor {
    deps: ProjectionDeps,
    changed: Arc<Notify>,
}

impl ProjectionActor {
    /// An actor that begins where the read model is.
    pub fn new(deps: ProjectionDeps) -> Self {
        Self {
            deps,
            changed: Arc::new(Notify::new()),
        }
    }
}

/// Starts the projection.
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

/// Begin to rebuild the read model beside the live one; answers with the generation that is being
/// built, which may have been begun before.
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

/// Tell how the projection stands.
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

/// Show events that the read model could not take in, at most `limit`.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Vec<ParkedEvent>, StoreError>")]
pub struct Parked {
    /// At most this many, 1 to 1,000.
    pub limit: u32,
}

impl Handler<Parked> for ProjectionActor {
    type Result = ResponseFuture<Result<Vec<ParkedEvent>, StoreError>>;

    fn handle(&mut self, message: Parked, _: &mut Self::Context) -> Self::Result {
        let model = self.deps.model.clone();
        Box::pin(async move { model.parked(message.limit).await })
    }
}
