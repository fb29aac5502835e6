//! How a log begins, with the actors that begin it.

use std::collections::BTreeMap;
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
use oms::clock::{SystemClock, new_uuid};
use oms::domain::ids::{Epoch, WriterId};
use oms::log::batch::Stamp;
use oms::log::lead::{Lead, Leadership};
use oms::log::object::ControlRecord;
use oms::log::partition::PartitionLog;
use oms::migration::gate::GateSettings;
use oms::migration::guardrail::GuardrailSettings;
use oms::migration::record::MigrationRow;
use oms::migration::stage::StageKind;
use oms::migration::unread::UnreadBucket;
use oms::store::adapters::memory::MemoryObjectStore;
use oms::store::adapters::postgres::outbox::PostgresOutbox;
use oms::store::error::StoreError;
use oms::store::halts::Halts;
use oms::store::health::Health;
use oms::store::log::log_reader::LogReader;
use oms::store::ports::commit_store::CommitStore as _;
use oms::store::ports::migration_table::MigrationTable;
use oms::store::ports::object_store::ObjectStore;
use oms::store::ports::transport::TopicNames;
use oms_testkit::faulty::{FaultRates, FaultyObjectStore};

use super::{P0, World};

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
    process_on(bucket, 1, UnreadBucket::default(), world, initial)
}

/// The same on this bucket.
pub fn process_on(
    bucket: Arc<dyn ObjectStore>,
    partitions: u16,
    unread: UnreadBucket,
    world: &World,
    initial: Option<StageKind>,
) -> (WriteSide, Supervisor) {
    let log = LogReader::new(bucket.clone(), "test".into(), partitions, 1 << 20)
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
                unread,
                table: Arc::new(world.table.clone()),
                initial,
                objects: bucket,
                s3_health: Arc::new(Health::new(oms_testkit::now)),
                delivery: Arc::new(PostgresOutbox::new(world.postgres.clone())),
                verifications: Arc::new(Nothing),
                gates: GateSettings::default(),
                guardrail: GuardrailSettings::default(),
                handoff_timeout: Duration::from_secs(10),
                backfill_rate: 0,
                node: "test".into(),
            }),
            clock: Arc::new(SystemClock),
            io: oms_testkit::io(),
            halts: Halts::new(oms::clock::now),
        },
    );
    (side, supervisor)
}

async fn opened(side: &WriteSide) -> Leadership {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(Some(led)) = side.writer.with_log(P0, |log| log.leadership()) {
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

/// A database in which PostgreSQL leads, as a process that ends here has begun it.
async fn begun(stage: StageKind) -> World {
    let world = World::new();
    let (first, supervisor) = process(&world, Some(stage));
    assert_eq!(opened(&first).await, led(Lead::Postgres));
    supervisor.arbiters().stop();
    world
}

/// This bucket, away.
fn away(bucket: Arc<dyn ObjectStore>) -> Arc<FaultyObjectStore> {
    let away = Arc::new(FaultyObjectStore::new(bucket, 1));
    away.set(FaultRates {
        refused: 1.0,
        ..FaultRates::default()
    });
    away
}

/// A database from a backup says that PostgreSQL leads, in this stage; the bucket, which is away,
/// that S3 does since.
fn waits_for_the_bucket(stage: StageKind) {
    actix::System::new().block_on(async {
        let world = begun(stage).await;
        let bucket: Arc<dyn ObjectStore> = Arc::new(MemoryObjectStore::default());
        let record = ControlRecord {
            lead: Lead::S3,
            epoch: Epoch(5),
        };
        let stamp = Stamp {
            writer: WriterId(new_uuid()),
            batch: 0,
            at: oms_testkit::now(),
        };
        let handed_over = PartitionLog::new(P0).control(stamp, record);
        LogReader::new(bucket.clone(), "test".into(), 1, 0)
            .s3()
            .put(&handed_over)
            .await
            .unwrap();
        let away = away(bucket);
        let unread = UnreadBucket::default();
        let (side, supervisor) = process_on(away.clone(), 1, unread, &world, None);
        let alarms = async || loop {
            let all = side.writer.log().alarms().all();
            if !all.is_empty() {
                return all;
            }
            assert!(side.writer.state_of(P0).is_none(), "nobody leads yet");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let told = tokio::time::timeout(Duration::from_secs(20), alarms()).await;
        assert_eq!(told.unwrap()[0].code, "bucket_unread");
        assert!(side.writer.state_of(P0).is_none());
        away.set(FaultRates::default());
        let s3 = Leadership {
            epoch: Epoch(5),
            ..led(Lead::S3)
        };
        assert_eq!(opened(&side).await, s3);
        supervisor.arbiters().stop();
    });
}

#[test]
fn law_14_postgres_does_not_lead_on_an_unread_bucket_without_an_order() {
    waits_for_the_bucket(StageKind::DualWritePostgres);
}

/// Its row is one that was never changed.
#[test]
fn law_14_a_database_from_before_the_first_hand_off_does_not_lead_on_an_unread_bucket() {
    waits_for_the_bucket(StageKind::Legacy);
}

/// PostgreSQL leads, in this stage, on a bucket that is away.
fn leads_without_the_bucket(stage: StageKind, unread: UnreadBucket) {
    actix::System::new().block_on(async {
        let world = begun(stage).await;
        let bucket = away(Arc::new(MemoryObjectStore::default()));
        let (side, supervisor) = process_on(bucket, 1, unread, &world, None);
        assert_eq!(opened(&side).await, led(Lead::Postgres));
        supervisor.arbiters().stop();
    });
}

#[test]
fn an_order_has_postgres_lead_on_an_unread_bucket() {
    let ordered = UnreadBucket {
        ordered: true,
        ..UnreadBucket::default()
    };
    leads_without_the_bucket(StageKind::DualWritePostgres, ordered);
}

#[test]
fn a_database_never_handed_over_leads_on_an_unread_bucket_where_that_is_remembered() {
    let remembering = UnreadBucket {
        known_leads: BTreeMap::from([(P0, led(Lead::Postgres))]),
        ..UnreadBucket::default()
    };
    leads_without_the_bucket(StageKind::Legacy, remembering);
}
