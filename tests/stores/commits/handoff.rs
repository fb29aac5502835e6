//! Hand-offs that a driver left behind, while the bucket refuses everything of one partition.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use oms::domain::ids::{Epoch, PartitionId};
use oms::log::lead::Lead;
use oms::migration::record::{Change, MigrationRow, Step};
use oms::migration::stage::StageKind;
use oms::migration::unread::UnreadBucket;
use oms::store::adapters::memory::MemoryObjectStore;
use oms::store::error::{StoreError, StoreErrorKind};
use oms::store::log::log_objects::LogObjects;
use oms::store::log::s3_commit_store::S3CommitStore;
use oms::store::ports::commit_store::CommitStore;
use oms::store::ports::migration_table::MigrationTable;
use oms::store::ports::object_store::{Created, ObjectInfo, ObjectStore};

use super::beginning::process_on;
use super::chain::Chain;
use super::{P0, World};

const P1: PartitionId = PartitionId(1);

/// Far above what is normal.
const PATIENCE: Duration = Duration::from_secs(40);

/// Refuses at once whatever concerns the log of partition 0.
#[derive(Default)]
struct Refusing {
    objects: MemoryObjectStore,
    refuses: AtomicBool,
    refused: AtomicU64,
}

impl Refusing {
    fn ask(&self, key: &str) -> Result<(), StoreError> {
        if !self.refuses.load(Ordering::Relaxed) || !key.starts_with("events/0000/") {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        let kind = StoreErrorKind::Unavailable;
        Err(StoreError::determinate(
            kind,
            "s3",
            "test",
            "connection refused",
        ))
    }
}

#[async_trait]
impl ObjectStore for Refusing {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        self.ask(key)?;
        self.objects.put_if_absent(key, body).await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.ask(key)?;
        self.objects.put(key, body).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.ask(key)?;
        self.objects.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        self.ask(key)?;
        self.objects.get_range(key, range).await
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        self.ask(prefix)?;
        self.objects.list(prefix, start_after, limit).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.ask(key)?;
        self.objects.delete(key).await
    }
}

async fn row(world: &World, partition: PartitionId) -> MigrationRow {
    world.table.view(partition).await.unwrap().unwrap().row
}

async fn settled(world: &World, partition: PartitionId) -> MigrationRow {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let row = row(world, partition).await;
        if row.step == Step::Steady {
            return row;
        }
        assert!(
            Instant::now() < deadline,
            "partition {partition} waits: {row:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn law_14_a_partition_that_cannot_be_settled_holds_up_no_other_and_is_not_asked_without_pause() {
    actix::System::new().block_on(async {
        let world = World::new();
        let bucket = Arc::new(Refusing::default());
        let copy = S3CommitStore::new(LogObjects::of(bucket.clone()));
        // What a driver that died leaves behind: both sealed, neither decided.
        for partition in [P0, P1] {
            let first = Chain::new(partition).control();
            let mut row = MigrationRow::new(StageKind::DualWritePostgres, Epoch(1));
            world
                .table
                .begin(partition, &row, Some(&first))
                .await
                .unwrap();
            copy.put(&first).await.unwrap();
            for change in [Change::DrainToS3, Change::SealToS3] {
                let next = row.after(change).unwrap();
                assert!(
                    world
                        .table
                        .compare_and_set(partition, &row, &next)
                        .await
                        .unwrap()
                );
                row = next;
            }
        }
        bucket.refuses.store(true, Ordering::Relaxed);
        let (_side, supervisor) =
            process_on(bucket.clone(), 2, UnreadBucket::default(), &world, None);

        let done = settled(&world, P1).await;
        assert_eq!(done.stage.lead(), Lead::S3);
        assert_ne!(row(&world, P0).await.step, Step::Steady);

        // Refused at once, it is asked ever more seldom.
        let before = bucket.refused.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let asked = bucket.refused.load(Ordering::Relaxed) - before;
        assert!(asked < 60, "{asked} requests in 3 s");
        assert_ne!(row(&world, P0).await.step, Step::Steady);

        bucket.refuses.store(false, Ordering::Relaxed);
        settled(&world, P0).await;
        supervisor.arbiters().stop();
    });
}
