//! Starts everything on the write path: the writers of all partitions, the copies, the stages. Used
//! by `boot` and by tests, so that both run the same wiring.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::aggregate::entity::EntityDeps;
use super::aggregate::fold::SnapshotEvery;
use super::event_store::actor::start as start_writer;
use super::event_store::writer_deps::WriterDeps;
use super::event_store::{EventStoreSettings, LogWriter, Partition};
use super::migration_mode::{
    FigureDeps, MigrationModeActor, MigrationModeDeps, PartitionRegistry, PartitionRegistryDeps,
    Verifications, Walker, start as start_migration_mode,
};
use super::mirror::{self, MirrorDeps, Throttle};
use super::mirror_progress::Mirrors;
use super::supervision::handle::Handle;
use super::supervision::supervisor::Supervisor;
use super::write_stats::WriteStats;
use crate::domain::time::Clock;
use crate::domain::weight::Limits;
use crate::migration::gate::GateSettings;
use crate::migration::guardrail::GuardrailSettings;
use crate::migration::partition_state::PartitionStates;
use crate::migration::stage::StageKind;
use crate::migration::switch::Switch;
use crate::migration::unread::UnreadBucket;
use crate::store::halts::Halts;
use crate::store::health::Health;
use crate::store::io_runtime::IoRuntime;
use crate::store::log::log_heads::LogHeads;
use crate::store::log::log_reader::LogReader;
use crate::store::ports::delivery::DeliveryStore;
use crate::store::ports::migration_table::MigrationTable;
use crate::store::ports::object_store::ObjectStore;
use crate::store::ports::transport::TopicNames;

/// How often PostgreSQL is asked for news of the stages without a reason.
const POLL: Duration = Duration::from_millis(250);

pub struct WriteSideDeps {
    pub log: Arc<LogReader>,
    pub event_store: EventStoreSettings,
    pub snapshot_every: SnapshotEvery,
    pub topics: TopicNames,
    /// What the migration needs; without it S3 always leads.
    pub migration: Option<MigrationSetup>,
    pub clock: Arc<dyn Clock>,
    pub io: IoRuntime,
    pub halts: Halts,
}

/// What the migration between the stages needs.
pub struct MigrationSetup {
    /// The migration rows and the switches in PostgreSQL.
    pub table: Arc<dyn MigrationTable>,
    /// The stage of a new store.
    pub initial: Option<StageKind>,
    /// Whether PostgreSQL may lead while the bucket has not been read.
    pub unread: UnreadBucket,
    /// The bucket, to be probed.
    pub objects: Arc<dyn ObjectStore>,
    /// Success of the calls to S3.
    pub s3_health: Arc<Health>,
    /// How far the relay is.
    pub delivery: Arc<dyn DeliveryStore>,
    /// Records of verifications.
    pub verifications: Arc<dyn Verifications>,
    /// Thresholds of the gates.
    pub gates: GateSettings,
    /// When the guardrail leads partitions back by itself, and on which budgets.
    pub guardrail: GuardrailSettings,
    /// How long a hand-off may take before it is undone.
    pub handoff_timeout: Duration,
    /// Events per second and partition at which history is copied; 0: no limit.
    pub backfill_rate: u64,
    /// This process's name among those that drive switches.
    pub node: String,
}

pub struct WriteSide {
    pub entities: Arc<EntityDeps>,
    pub writer: LogWriter,
    /// How far the copies are.
    pub mirrors: Arc<Mirrors>,
    pub throttle: Arc<Throttle>,
    pub registry: Arc<PartitionRegistry>,
    /// The switch that this process drives or drove last.
    pub switches: watch::Receiver<Option<Switch>>,
    pub migration_mode: Handle<MigrationModeActor>,
}

/// Starts the writers, the copies and the MigrationModeActor.
pub fn start(supervisor: &Supervisor, deps: WriteSideDeps) -> WriteSide {
    let partitions = deps.log.partitions();
    let heads = Arc::new(LogHeads::new(partitions));
    let mirrors = Arc::new(Mirrors::new(partitions));
    let stale = Arc::new(Notify::new());
    let unknown: PartitionStates = vec![None; usize::from(partitions)];
    let (states_in, states) = watch::channel(unknown);
    let table = deps.migration.as_ref().map(|m| m.table.clone());
    let writers = deps
        .log
        .partition_ids()
        .map(|id| {
            let shared = Arc::new(Partition::new(id));
            let writer = start_writer(
                supervisor,
                WriterDeps {
                    log: deps.log.clone(),
                    shared: shared.clone(),
                    heads: heads.clone(),
                    stages: states.clone(),
                    stale: stale.clone(),
                    mirrors: mirrors.clone(),
                    table: table.clone(),
                    topics: deps.topics.clone(),
                    settings: deps.event_store,
                    clock: deps.clock.clone(),
                    halts: deps.halts.clone(),
                },
            );
            (shared, writer)
        })
        .collect();
    let writer = LogWriter::new(
        deps.log.clone(),
        heads.clone(),
        writers,
        states.clone(),
        &deps.event_store,
    );
    let registry = Arc::new(PartitionRegistry::new(PartitionRegistryDeps {
        writer: writer.clone(),
        table,
        states: states_in,
        initial: deps.migration.as_ref().and_then(|m| m.initial),
        unread: (deps.migration.as_ref())
            .map(|m| m.unread.clone())
            .unwrap_or_default(),
        clock: deps.clock.clone(),
        stale,
        halts: deps.halts.clone(),
    }));
    let rate = deps.migration.as_ref().map_or(0, |m| m.backfill_rate);
    let throttle = Arc::new(Throttle::new(rate));
    mirror::start(
        supervisor,
        MirrorDeps {
            log: deps.log.clone(),
            heads,
            stages: states.clone(),
            mirrors: mirrors.clone(),
            throttle: throttle.clone(),
            halts: deps.halts.clone(),
        },
    );
    let budgets = deps.migration.as_ref().map(|m| m.guardrail);
    let write_stats = Arc::new(WriteStats::new(budgets.unwrap_or_default()));
    let (current, switches) = watch::channel(None);
    let walker = deps
        .migration
        .map(|setup| walker(setup, &registry, &mirrors));
    let migration_mode = start_migration_mode(
        supervisor,
        Arc::new(MigrationModeDeps {
            registry: registry.clone(),
            walker,
            write_stats: write_stats.clone(),
            poll: POLL,
            current,
            driving: AtomicBool::new(false),
        }),
    );
    let entities = Arc::new(EntityDeps {
        writer: writer.clone(),
        write_stats,
        io: deps.io,
        clock: deps.clock,
        snapshot_every: deps.snapshot_every,
        limits: Limits {
            event: deps.event_store.max_event_bytes,
            append: deps.event_store.batch_bytes,
        },
    });
    WriteSide {
        entities,
        writer,
        mirrors,
        throttle,
        registry,
        switches,
        migration_mode,
    }
}

fn walker(
    setup: MigrationSetup,
    registry: &Arc<PartitionRegistry>,
    mirrors: &Arc<Mirrors>,
) -> Arc<Walker> {
    Arc::new(Walker {
        registry: registry.clone(),
        table: setup.table,
        figures: FigureDeps {
            objects: setup.objects,
            s3_health: setup.s3_health,
            delivery: setup.delivery,
            mirrors: mirrors.clone(),
            verifications: setup.verifications,
            s3_window: setup.gates.s3_success_window,
        },
        gates: setup.gates,
        handoff_timeout: setup.handoff_timeout,
        driver: setup.node,
        cancelled: Mutex::new(None),
    })
}
