//! Use cases: what the service does for whoever asks, free of HTTP. Commands go to the actors,
//! queries to the read model or to the log; [`error`] is everything a caller can be told.
//!
//! * [`context`]: who asks, and under which promises
//! * [`commands`], [`batch`], [`change`]: writes; [`class_context`] is what a write to an instance must know
//! * [`queries`], [`feed`], [`places`]: reads
//! * [`permits`], [`keys`]: what every write passes first
//! * [`lineage`]: no class is deleted under its children
//! * [`operations`]: what operators see and do; [`migration`]: the road between the stores,
//!   [`jobs`]: its jobs
//! * [`audit`]: what administrators ordered, and who was turned away
//! * [`view`]: what callers get to see
//! * [`error`], [`call`]: refusals and failures

pub mod audit;
pub mod batch;
mod call;
mod change;
pub mod class_context;
pub mod commands;
pub mod context;
pub mod error;
pub mod feed;
pub mod instance_commands;
pub mod jobs;
pub mod keys;
mod lineage;
pub mod migration;
mod openapi;
pub mod operations;
pub mod permits;
pub mod places;
pub mod queries;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::class_context::ClassContexts;
use self::error::{RETRY_AFTER, ServiceError};
use self::lineage::Lineages;
use self::migration::MigrationParts;
use self::permits::{CommandPermits, MAX_COMMANDS};
use crate::actors::aggregate::entity::EntityDeps;
use crate::actors::aggregate::registry::Registry;
use crate::actors::aggregate::{Read, Seen};
use crate::actors::projection::{ProjectionActor, ProjectionProgress};
use crate::actors::supervision::handle::Handle;
use crate::actors::supervision::tree::Tree;
use crate::domain::aggregate::Aggregate;
use crate::domain::class::Class;
use crate::domain::database::Database;
use crate::domain::ids::StreamName;
use crate::domain::instance::Instance;
use crate::domain::plain::PlainStream;
use crate::jobs::manager::Jobs;
use crate::store::disk_space::DiskSpace;
use crate::store::error::StoreError;
use crate::store::failpoint;
use crate::store::halts::Halts;
use crate::store::health::Health;
use crate::store::ports::audit_table::AuditTable;
use crate::store::ports::delivery::DeliveryStore;
use crate::store::ports::read_model::ReadModel;

/// How long a read waits for an entity to be loaded.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// What the service stands on; put together by `boot`.
pub struct Parts {
    /// Live databases.
    pub databases: Registry<Database>,
    /// Live classes.
    pub classes: Registry<Class>,
    /// Live instances.
    pub instances: Registry<Instance>,
    /// Live plain streams.
    pub streams: Registry<PlainStream>,
    /// The write path and what goes with it.
    pub entities: Arc<EntityDeps>,
    /// What queries read.
    pub read_model: Arc<dyn ReadModel>,
    /// How far the read model is.
    pub projected: Arc<ProjectionProgress>,
    /// Keeps the read model; `None` where another process does.
    pub projection: Option<Handle<ProjectionActor>>,
    /// The outbox.
    pub delivery: Arc<dyn DeliveryStore>,
    /// What administrators ordered, and who was turned away.
    pub audit: Arc<dyn AuditTable>,
    /// The jobs of the migration, where this process runs any.
    pub jobs: Option<Jobs>,
    /// Every actor.
    pub tree: Arc<Tree>,
    /// How the dependencies are.
    pub health: DependencyHealth,
    /// What does not go on.
    pub halts: Halts,
    /// What orders to switch go through.
    pub migration: MigrationParts,
    /// Room on the disk of the data directory; `None` where nothing embedded writes to it.
    pub room: Option<Arc<DiskSpace>>,
    /// Whether actors may be killed on request.
    pub chaos: bool,
    /// What may be held in memory.
    pub memory: MemoryLimits,
}

/// What may be held in memory.
#[derive(Debug, Clone, Copy)]
pub struct MemoryLimits {
    /// Bytes of classes made ready to check instances.
    pub class_contexts: u64,
    /// Bytes that heavy commands hold together.
    pub commands: usize,
}

/// The health of each dependency, as those who call it see it.
#[derive(Clone)]
pub struct DependencyHealth {
    /// The event store.
    pub s3: Arc<Health>,
    /// The outbox and the read model.
    pub postgres: Arc<Health>,
    /// The transport.
    pub kafka: Arc<Health>,
}

/// Everything the service can do. Cheap to share.
pub struct Service {
    parts: Parts,
    contexts: ClassContexts,
    permits: CommandPermits,
    lineages: Lineages,
}

/// A look at what other processes have written, which must not take longer than a read may: what
/// cannot be known in time is not known yet.
async fn within_bound<T>(
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, ServiceError> {
    match tokio::time::timeout(READ_DEADLINE, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(ServiceError::Unavailable {
            dependency: "log",
            message: "it is not known yet: what other processes have written cannot be read".into(),
            retry_after: RETRY_AFTER,
        }),
    }
}

impl Service {
    /// The service on its parts.
    pub fn new(parts: Parts) -> Self {
        if parts.chaos {
            failpoint::open();
        }
        Self {
            contexts: ClassContexts::new(parts.memory.class_contexts),
            permits: CommandPermits::new(MAX_COMMANDS, parts.memory.commands),
            parts,
            lineages: Lineages::default(),
        }
    }

    /// Lets go of what is kept for a next time that did not come within `idle_after`.
    pub fn sweep_caches(&self, idle_after: Duration) {
        self.contexts.sweep(idle_after);
        self.parts.entities.writer.log().sweep_cache(idle_after);
    }

    async fn read<A: Aggregate + Unpin>(
        &self,
        registry: &Registry<A>,
        stream: &StreamName,
        catch_up: bool,
    ) -> Result<Seen<A>, ServiceError> {
        let wanted = Read {
            deadline: Instant::now() + READ_DEADLINE,
            catch_up,
        };
        let seen = registry.read(stream, wanted).await?;
        crate::metrics::read(stream.stream_type(), "get");
        Ok(seen)
    }
}
