//! Puts the write side together: writers of all partitions, the stage, the write path. Used by
//! `boot` and by tests, so both run the same wiring.

use std::sync::Arc;

use actix::Addr;
use tokio::sync::watch;

use super::aggregate::entity::EntityDeps;
use super::aggregate::fold::SnapshotEvery;
use super::arbiters::Arbiters;
use super::event_store::actor::{WriterDeps, start as start_writer};
use super::event_store::{EventStore, EventStoreSettings, Partition};
use super::migration_mode::{MigrationModeActor, MigrationModeDeps, start as start_migration_mode};
use super::supervision::guard::{GuardSettings, OnEscalation};
use super::supervision::policy::ActorKind;
use super::supervision::tree::Tree;
use super::write_path::WritePath;
use crate::domain::time::Clock;
use crate::store::event_log::EventLog;
use crate::store::io_runtime::IoRuntime;
use crate::store::log_heads::LogHeads;

/// What the write side needs.
pub struct WriteSideDeps {
    /// The log.
    pub log: Arc<EventLog>,
    /// How the writers work.
    pub event_store: EventStoreSettings,
    /// How often snapshots are taken.
    pub snapshot_every: SnapshotEvery,
    /// Stamps events and objects.
    pub clock: Arc<dyn Clock>,
    /// Where background work runs.
    pub io: IoRuntime,
    /// Who sees the actors.
    pub tree: Arc<Tree>,
    /// What follows when an actor fails beyond its limit.
    pub end_process: OnEscalation,
}

/// The running write side.
pub struct WriteSide {
    /// What every entity needs.
    pub entities: Arc<EntityDeps>,
    /// Where appends go.
    pub path: WritePath,
    /// Owns the stages; an actor nobody has the address of would not be restarted.
    pub migration_mode: Addr<MigrationModeActor>,
}

/// Starts the writers and the MigrationModeActor.
pub fn start(arbiters: &Arbiters, deps: WriteSideDeps) -> WriteSide {
    let guard = |path: String, kind| {
        GuardSettings::new(deps.tree.add(path, kind), deps.end_process.clone())
    };
    let heads = Arc::new(LogHeads::new(deps.log.partitions()));
    let writers = deps
        .log
        .partition_ids()
        .map(|id| {
            let shared = Arc::new(Partition::new(id));
            let writer = start_writer(
                &arbiters.log(),
                guard(format!("event_store/{id}"), ActorKind::EventStore),
                WriterDeps {
                    log: deps.log.clone(),
                    shared: shared.clone(),
                    heads: heads.clone(),
                    settings: deps.event_store,
                    clock: deps.clock.clone(),
                },
            );
            (shared, writer)
        })
        .collect();
    let store = EventStore::new(deps.log.clone(), heads, writers);
    let (stages_in, stages) = watch::channel(vec![None; usize::from(deps.log.partitions())]);
    let migration_mode = start_migration_mode(
        &arbiters.background(),
        guard("migration_mode".into(), ActorKind::MigrationMode),
        MigrationModeDeps {
            store: store.clone(),
            stages: stages_in,
        },
    );
    let path = WritePath::new(store, stages);
    let entities = Arc::new(EntityDeps {
        path: path.clone(),
        io: deps.io,
        clock: deps.clock,
        snapshot_every: deps.snapshot_every,
    });
    WriteSide {
        entities,
        path,
        migration_mode,
    }
}
