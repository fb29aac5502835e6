//! Use cases: what the service does, independent of HTTP. Commands go to the actors, queries to the
//! read model or to the log; [`error`] is every answer other than a result.
//!
//! * [`context`]: principal, idempotency key and deadline of a request
//! * [`commands`], [`batch`], [`change`]: writes; [`class_context`] is what a write to an instance
//!   needs
//! * [`queries`], [`feed`], [`places`]: reads
//! * [`permits`], [`idempotency`]: checks and limits of every write
//! * [`lineage`]: keeps a class with children from being deleted
//! * [`operations`]: what operators see and do; [`migration`]: the migration between the stores,
//!   [`jobs`]: its jobs
//! * [`audit`]: administrators' requests and refused callers
//! * [`view`]: the types of answers
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
pub mod idempotency;
pub mod instance_commands;
pub mod jobs;
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

/// The parts of the service; wired by `boot`.
pub struct Parts {
    pub databases: Registry<Database>,
    pub classes: Registry<Class>,
    pub instances: Registry<Instance>,
    pub streams: Registry<PlainStream>,
    /// The write path and what entities need.
    pub entities: Arc<EntityDeps>,
    /// The source of queries.
    pub read_model: Arc<dyn ReadModel>,
    /// How far the read model is.
    pub projected: Arc<ProjectionProgress>,
    /// Keeps the read model; `None` if another process does.
    pub projection: Option<Handle<ProjectionActor>>,
    pub delivery: Arc<dyn DeliveryStore>,
    /// The recorded requests of administrators and refusals.
    pub audit: Arc<dyn AuditTable>,
    pub jobs: Option<Jobs>,
    pub tree: Arc<Tree>,
    /// The health of the dependencies.
    pub health: DependencyHealth,
    /// What does not go on, and why.
    pub halts: Halts,
    /// What the migration's use cases need.
    pub migration: MigrationParts,
    /// Space on the disk of the data directory; `None` if nothing embedded writes to it.
    pub room: Option<Arc<DiskSpace>>,
    /// Whether actors may be killed on request.
    pub chaos: bool,
    pub memory: MemoryLimits,
}

#[derive(Debug, Clone, Copy)]
pub struct MemoryLimits {
    /// Bytes of cached classes, prepared to check instances.
    pub class_contexts: u64,
    /// Bytes that heavy commands may hold together.
    pub commands: usize,
}

/// The health of each dependency, as its callers see it.
#[derive(Clone)]
pub struct DependencyHealth {
    pub s3: Arc<Health>,
    pub postgres: Arc<Health>,
    pub kafka: Arc<Health>,
}

/// Every use case. Cheap to clone.
pub struct Service {
    parts: Parts,
    contexts: ClassContexts,
    permits: CommandPermits,
    lineages: Lineages,
}

/// Bounds a read of what other processes have written by the time of a read. If it takes longer,
/// the caller goes on with what is known.
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
