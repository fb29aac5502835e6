//! Wires adapters, actors and use cases together.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::backfill::{History, Imports};
use super::ending::Escalations;
use super::jobs::{self, RecordedVerifications};
use super::stores::Stores;
use super::{housekeeping, imports, known_leads};
use crate::actors::aggregate::fold::SnapshotEvery;
use crate::actors::aggregate::registry::{Registry, RegistrySettings};
use crate::actors::arbiters::Arbiters;
use crate::actors::event_store::{EventStoreSettings, LogWriter};
use crate::actors::outbox::{self, OutboxDeps};
use crate::actors::projection::{
    self, BatchLimits, ProjectionDeps, ProjectionProgress, ProjectionSettings,
};
use crate::actors::relay::{self, QueueLimits, RelayDeps, RelaySettings};
use crate::actors::supervision::health;
use crate::actors::supervision::policy::{ActorKind, POLICIES};
use crate::actors::supervision::supervisor::Supervisor;
use crate::actors::supervision::tree::Tree;
use crate::actors::write_side::{self, MigrationSetup, WriteSideDeps};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::config::roles::Role;
use crate::domain::aggregate::Aggregate;
use crate::jobs::runner::Runner;
use crate::log::recent_commands::KeyBounds;
use crate::metrics::{self, start::Labels};
use crate::service::audit::AuditTrail;
use crate::service::migration::MigrationParts;
use crate::service::{MemoryLimits, Parts, Service};
use crate::store::adapters::kafka::KafkaTransport;
use crate::store::adapters::postgres::audit::PostgresAudit;
use crate::store::adapters::postgres::migration::PostgresMigration;
use crate::store::adapters::postgres::outbox::PostgresOutbox;
use crate::store::adapters::postgres::read_model::PostgresReadModel;
use crate::store::disk_space::DiskSpace;
use crate::store::io_runtime::IoRuntime;
use crate::store::ports::audit_table::AuditTable;
use crate::store::ports::delivery::DeliveryStore;
use crate::store::ports::read_model::ReadModel;

pub struct Running {
    pub service: Arc<Service>,
    pub store: LogWriter,
    /// The outbox, whose leases are released at shutdown.
    pub delivery: Arc<dyn DeliveryStore>,
    /// Records orders and refusals.
    pub audit: Arc<AuditTrail>,
    pub kafka: Arc<KafkaTransport>,
    pub supervisor: Supervisor,
    /// This process's name among the relays.
    pub node: String,
    /// Periodic tasks; aborted at shutdown.
    pub housekeeping: Vec<JoinHandle<()>>,
}

pub fn start(
    config: &Config,
    stores: Stores,
    io: IoRuntime,
    escalations: &Escalations,
    node: String,
) -> Running {
    for policy in &POLICIES {
        tracing::debug!(?policy, "restart policy");
    }
    let arbiters = Arc::new(Arbiters::start(config.actors.entity_arbiters));
    metrics::start::begin(&Labels {
        actors: ActorKind::ALL.map(ActorKind::as_str).to_vec(),
        arbiters: arbiters.slots().iter().map(ToString::to_string).collect(),
        topics: stores.topics.all().to_vec(),
        sources: config.migration.sources.keys().cloned().collect(),
        partitions: stores.log.partitions(),
    });
    metrics::identity(stores.log.id());
    let tree = Arc::new(Tree::default());
    let supervisor = Supervisor::start(arbiters, tree.clone(), escalations.end_process());
    let clock = Arc::new(SystemClock);
    let log_id = stores.log.id();
    let delivery: Arc<dyn DeliveryStore> =
        Arc::new(PostgresOutbox::new(stores.postgres.clone()).of_log(log_id));
    let write_side = write_side::start(
        &supervisor,
        WriteSideDeps {
            log: stores.log.clone(),
            event_store: event_store_settings(config, stores.log.partitions()),
            snapshot_every: SnapshotEvery(config.actors.snapshot_every),
            topics: stores.topics.clone(),
            migration: Some(MigrationSetup {
                table: Arc::new(PostgresMigration::new(stores.postgres.clone()).of_log(log_id)),
                initial: config.migration.initial_stage(),
                unread: stores.unread.clone(),
                objects: stores.objects.clone(),
                s3_health: stores.health.s3.clone(),
                delivery: delivery.clone(),
                verifications: Arc::new(RecordedVerifications::new(
                    stores.postgres.clone(),
                    config.migration.gates.max_lag,
                )),
                gates: config.migration.gate_settings(),
                guardrail: config.migration.guardrail_settings(),
                handoff_timeout: config.migration.handoff_timeout,
                backfill_rate: config.migration.backfill_rate,
                node: node.clone(),
            }),
            clock: clock.clone(),
            io: io.clone(),
            halts: stores.halts.clone(),
        },
    );
    let store = write_side.writer.clone();
    if config.roles.has(Role::Relay) {
        let recorded = Arc::new(Notify::new());
        outbox::start(
            &supervisor,
            OutboxDeps {
                log: stores.log.clone(),
                heads: store.heads().clone(),
                store: delivery.clone(),
                objects: stores.objects.clone(),
                topics: stores.topics.clone(),
                stages: write_side.writer.states(),
                recorded: recorded.clone(),
                look_every: config.relay.poll_interval,
                halts: stores.halts.clone(),
            },
        );
        relay::start(
            &supervisor,
            RelayDeps {
                store: delivery.clone(),
                transport: stores.kafka.clone(),
                log: stores.log.clone(),
                objects: stores.objects.clone(),
                clock,
                recorded,
                node: node.clone(),
                settings: relay_settings(config),
                halts: stores.halts.clone(),
            },
        );
    }
    let read_model: Arc<dyn ReadModel> =
        Arc::new(PostgresReadModel::new(stores.postgres.clone()).of_log(log_id));
    let projected = Arc::new(ProjectionProgress::default());
    let projection = config.roles.has(Role::Projection).then(|| {
        projection::start(
            &supervisor,
            ProjectionDeps {
                log: stores.log.clone(),
                heads: store.heads().clone(),
                model: read_model.clone(),
                progress: projected.clone(),
                io: io.clone(),
                settings: ProjectionSettings {
                    poll: config.projection.poll_interval,
                    batch: BatchLimits {
                        events: config.projection.batch_events,
                        ..ProjectionSettings::default().batch
                    },
                },
                halts: stores.halts.clone(),
            },
        )
    });

    let mut housekeeping = Vec::new();
    if projection.is_none() {
        let partitions = stores.log.partitions();
        let follow = projection::follow(read_model.clone(), projected.clone(), partitions);
        housekeeping.push(io.spawn(follow));
    }
    let mut backfills: Vec<Arc<dyn Runner>> = vec![Arc::new(History {
        writer: write_side.writer.clone(),
        mirrors: write_side.mirrors.clone(),
        throttle: write_side.throttle.clone(),
    })];
    let appender = Arc::new(write_side.writer.clone());
    let importer = imports::importer(config, stores.postgres.clone(), appender, &io);
    backfills.push(Arc::new(Imports { importer }));
    let audit_table: Arc<dyn AuditTable> = Arc::new(PostgresAudit::new(stores.postgres.clone()));
    let (audit, audit_writer) = AuditTrail::new(
        node.clone(),
        Arc::new(SystemClock),
        audit_table.clone(),
        config.audit.keep,
    );
    housekeeping.push(io.spawn(audit_writer.run()));
    let jobs = jobs::jobs(config, &stores, &store, &io, &node, backfills);
    housekeeping.push(jobs.watch());
    let mut entities = Entities {
        housekeeping: &mut housekeeping,
        config,
        write_side: &write_side,
        supervisor: &supervisor,
        io: &io,
    };
    let embedded = config.s3.is_embedded() || config.postgres.is_embedded();
    let room = embedded.then(|| Arc::new(DiskSpace::new(config.embedded.reserve_bytes)));
    if let Some(room) = &room {
        housekeeping::measure_room(room, &config.data_dir);
    }
    let service = Arc::new(Service::new(Parts {
        databases: entities.registry("database"),
        classes: entities.registry("class"),
        instances: entities.registry("instance"),
        streams: entities.registry("stream"),
        entities: write_side.entities.clone(),
        read_model,
        projected,
        projection,
        delivery: delivery.clone(),
        audit: audit_table,
        jobs: Some(jobs),
        tree: tree.clone(),
        health: stores.health,
        halts: stores.halts.clone(),
        migration: MigrationParts {
            actor: write_side.migration_mode.clone(),
            registry: write_side.registry.clone(),
            mirrors: write_side.mirrors.clone(),
            switches: write_side.switches.clone(),
        },
        room: room.clone(),
        chaos: config.chaos.enabled,
        memory: MemoryLimits {
            class_contexts: config.actors.class_cache_bytes,
            commands: config.actors.max_command_bytes,
        },
    }));
    let idle_after = config.actors.idle_after;
    housekeeping.push(housekeeping::sweep_caches(&io, service.clone(), idle_after));
    if let Some(room) = room {
        let watch = housekeeping::watch_room(&io, room, config.data_dir.clone());
        housekeeping.push(watch);
    }
    let states = write_side.writer.states();
    housekeeping.push(known_leads::keep(&io, &config.data_dir, states));
    housekeeping.push(housekeeping::measure_store(
        &io,
        store.clone(),
        stores.postgres.clone(),
        stores.halts,
    ));
    housekeeping.push(io.spawn(health::watch(supervisor.clone())));
    Running {
        service,
        store,
        delivery,
        audit,
        kafka: stores.kafka,
        supervisor,
        node,
        housekeeping,
    }
}

struct Entities<'a> {
    housekeeping: &'a mut Vec<JoinHandle<()>>,
    config: &'a Config,
    write_side: &'a write_side::WriteSide,
    supervisor: &'a Supervisor,
    io: &'a IoRuntime,
}

impl Entities<'_> {
    fn registry<A: Aggregate + Unpin>(&mut self, label: &'static str) -> Registry<A> {
        let actors = &self.config.actors;
        let registry = Registry::new(
            label,
            RegistrySettings {
                max_live: actors.max_live_aggregates,
                max_live_bytes: actors.max_live_bytes,
                per_entity: u32::try_from(actors.per_entity_limit).unwrap_or(u32::MAX),
                idle_after: actors.idle_after,
            },
            self.write_side.entities.clone(),
            self.supervisor.clone(),
        );
        let sweep = housekeeping::sweep(self.io, registry.clone(), actors.idle_after);
        self.housekeeping.push(sweep);
        registry
    }
}

/// `partitions` are the store's: those of the configuration are for a store that is made.
fn event_store_settings(config: &Config, partitions: u16) -> EventStoreSettings {
    let log = &config.log;
    EventStoreSettings {
        batch_events: log.batch_events,
        batch_bytes: log.batch_bytes,
        read_bytes: config.actors.max_read_bytes,
        max_event_bytes: log.max_event_bytes,
        linger: log.linger,
        append_deadline: log.append_deadline,
        tail_interval: log.tail_interval,
        checkpoint_commits: usize::try_from(log.checkpoint_commits).unwrap_or(usize::MAX),
        mirror_patience: config.migration.mirror_patience,
        keys: KeyBounds::share(
            i64::try_from(log.key_window.as_millis()).unwrap_or(i64::MAX),
            log.key_bytes,
            log.key_bytes_per_principal,
            partitions,
        ),
    }
}

fn relay_settings(config: &Config) -> RelaySettings {
    RelaySettings {
        limits: QueueLimits {
            wave_rows: config.relay.batch_size,
            max_attempts: config.relay.max_attempts,
            ..QueueLimits::default()
        },
        poll: config.relay.poll_interval,
        ..RelaySettings::default()
    }
}
