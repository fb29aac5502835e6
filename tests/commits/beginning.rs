//! How a log begins, with the actors that begin it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use oms::actors::aggregate::fold::SnapshotEvery;
use oms::actors::arbiters::Arbiters;
use oms::actors::event_store::EventStoreSettings;
use oms::actors::migration_mode::{Verifications, Verified};
use oms::actors::supervision::supervisor::Supervisor;
use oms::actors::supervision::tree::Tree;
use oms::actors::write_side::{self, MigrationSetup, WriteSide, WriteSideDeps};
use oms::domain::ids::Epoch;
use oms::domain::time::SystemClock;
use oms::migration::gate::GateSettings;
use oms::migration::guardrail::GuardrailSettings;
use oms::migration::lead::{Lead, Leadership};
use oms::migration::record::MigrationRow;
use oms::migration::stage::StageKind;
use oms::store::error::StoreError;
use oms::store::event_log::EventLog;
use oms::store::health::Health;
use oms::store::memory::MemoryObjectStore;
use oms::store::migration_table::MigrationTable;
use oms::store::postgres::outbox::PostgresOutbox;
use oms::store::transport::TopicNames;

use crate::support;
use crate::{P0, World};

struct Nothing;

#[async_trait]
impl Verifications for Nothing {
    async fn last(&self) -> Result<Option<Verified>, StoreError> {
        Ok(None)
    }
}

/// The write side of a process on the world's database and a bucket of its own.
fn process(world: &World, initial: Option<StageKind>) -> (WriteSide, Supervisor) {
    let bucket = Arc::new(MemoryObjectStore::default());
    let log = EventLog::new(bucket.clone(), "test".into(), 1, 1 << 20)
        .with_postgres(Arc::new(world.commits.clone()));
    let supervisor = Supervisor::start(
        Arc::new(Arbiters::start(1)),
        Arc::new(Tree::default()),
        Arc::new(|node| panic!("{} failed beyond its limit", node.path)),
    );
    let side = write_side::start(
        &supervisor,
        WriteSideDeps {
            log: Arc::new(log),
            event_store: EventStoreSettings::default(),
            snapshot_every: SnapshotEvery(100),
            topics: TopicNames::new("oms"),
            migration: Some(MigrationSetup {
                table: Arc::new(world.table.clone()),
                initial,
                objects: bucket,
                s3_health: Arc::new(Health::new(support::now)),
                delivery: Arc::new(PostgresOutbox::new(world.postgres.clone())),
                verifications: Arc::new(Nothing),
                gates: GateSettings::default(),
                guardrail: GuardrailSettings::default(),
                handoff_timeout: Duration::from_secs(10),
                backfill_rate: 0,
                node: "test".into(),
            }),
            clock: Arc::new(SystemClock),
            io: support::io(),
        },
    );
    (side, supervisor)
}

async fn opened(side: &WriteSide) -> Leadership {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(Some(led)) = side.path.store().with_log(P0, |log| log.leadership()) {
            return led;
        }
        assert!(Instant::now() < deadline, "the partition is not opened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn led(lead: Lead) -> Leadership {
    Leadership {
        lead,
        epoch: Epoch(1),
    }
}

#[test]
fn law_14_a_beginning_that_was_cut_off_after_the_row_is_finished() {
    actix::System::new().block_on(async {
        let world = World::new();
        let row = MigrationRow::new(StageKind::S3Only, Epoch(1));
        world.table.begin(P0, &row, None).await.unwrap();
        let (side, supervisor) = process(&world, None);
        assert_eq!(opened(&side).await, led(Lead::S3));
        supervisor.arbiters().stop();
    });
}

#[test]
fn law_14_whoever_was_first_decides_how_a_log_begins() {
    actix::System::new().block_on(async {
        let world = World::new();
        let (one, one_supervisor) = process(&world, Some(StageKind::Legacy));
        assert_eq!(opened(&one).await, led(Lead::Postgres));
        // Started with another wish, and even on another bucket: the row stands.
        let (two, two_supervisor) = process(&world, Some(StageKind::S3Only));
        assert_eq!(opened(&two).await, led(Lead::Postgres));
        for supervisor in [one_supervisor, two_supervisor] {
            supervisor.arbiters().stop();
        }
    });
}
