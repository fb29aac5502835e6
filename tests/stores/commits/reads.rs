//! The log over both places: which is read, when the other one steps in, and what is compared.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oms::domain::event::Envelope;
use oms::log::keys;
use oms::log::lead::Lead;
use oms::migration::stage::StageKind;
use oms::store::adapters::memory::MemoryObjectStore;
use oms::store::error::StoreErrorKind;
use oms::store::log::log_reader::LogReader;
use oms::store::ports::commit_store::CommitStore;
use oms::store::ports::object_store::ObjectStore;
use oms_testkit::faulty::{FaultRates, FaultyObjectStore};

use super::chain::places;
use super::{P0, World};

const COMMITS: u64 = 5;

const NOTHING_GETS_THROUGH: FaultRates = FaultRates {
    lost_request: 0.0,
    lost_reply: 0.0,
    refused: 1.0,
};

struct Both {
    world: World,
    objects: Vec<Arc<oms::log::object::CommitObject>>,
    memory: Arc<MemoryObjectStore>,
    bucket: Arc<FaultyObjectStore>,
    log: LogReader,
}

/// The same five commits in both places; nothing of them is kept close at hand.
async fn both(stage: StageKind) -> Both {
    let world = World::new();
    let (mut chain, _) = world.led().await;
    let first = world.commits.get(P0, 0).await.unwrap().unwrap();
    let mut objects = vec![Arc::new(first)];
    for _ in 1..COMMITS {
        objects.push(chain.events(&["1", "2", "3"]));
    }
    assert_eq!(world.commits.copy(&objects).await.unwrap(), COMMITS);
    let memory = Arc::new(MemoryObjectStore::default());
    let bucket = Arc::new(FaultyObjectStore::new(memory.clone(), 1));
    let log = LogReader::new(bucket.clone(), "test".into(), 1, 0)
        .with_postgres(Arc::new(world.commits.clone()));
    assert_eq!(log.s3().copy(&objects).await.unwrap(), COMMITS);
    log.routes().set_stage(P0, stage);
    log.routes().set_mirrored(P0, COMMITS);
    Both {
        world,
        objects,
        memory,
        bucket,
        log,
    }
}

impl Both {
    async fn read(&self) -> Result<Vec<Bytes>, oms::store::error::StoreError> {
        let commits = self.log.commits(P0, 0, COMMITS);
        commits
            .map_ok(|object| object.bytes.clone())
            .try_collect()
            .await
    }

    /// The one commit that [`Both::read_all_ways`] reads is not in this place.
    async fn take_from(&self, place: Lead) {
        match place {
            Lead::S3 => self.memory.delete(&keys::commit(P0, 2)).await.unwrap(),
            Lead::Postgres => {
                let gone = "DELETE FROM events WHERE commit_offset = 2;
                            DELETE FROM commits WHERE commit_offset = 2";
                self.world.other().await.batch_execute(gone).await.unwrap();
            }
        }
    }

    async fn read_all_ways(&self) -> Result<(), oms::store::error::StoreError> {
        let object = &self.objects[2];
        let places = places(object);
        let stream = Envelope::parse(&object.line(0)).unwrap().stream();
        let events = self.log.read_events(&stream, &places[..1]).await?;
        assert_eq!(events[0].bytes, object.line(0));
        let (start, len) = (places[0].start, places[0].len);
        let range = self.log.read_range(P0, 2, start, len).await?;
        assert_eq!(range, object.line(0));
        let commits: Vec<_> = self.log.commits(P0, 2, 3).try_collect().await?;
        assert_eq!(commits[0].bytes, object.bytes);
        Ok(())
    }

    fn expected(&self) -> Vec<Bytes> {
        self.objects.iter().map(|o| o.bytes.clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_reads_fall_back_on_the_other_place_and_are_counted() {
    for stage in [StageKind::DualWritePostgres, StageKind::DualWriteS3] {
        let both = both(stage).await;
        assert_eq!(both.read().await.unwrap(), both.expected());
        assert_eq!(both.log.fallback_reads(), 0, "{stage}");
        both.bucket.set(NOTHING_GETS_THROUGH);
        assert_eq!(both.read().await.unwrap(), both.expected());
        assert_eq!(both.log.fallback_reads(), COMMITS, "{stage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_what_is_known_to_lie_in_one_place_only_is_not_sought_in_the_other() {
    let both = both(StageKind::DualWritePostgres).await;
    both.bucket.set(NOTHING_GETS_THROUGH);
    both.log.routes().set_mirrored(P0, 0);
    assert_eq!(both.read().await.unwrap(), both.expected());
    assert_eq!(both.log.fallback_reads(), 0);
    // And in `s3_only` PostgreSQL is no place to fall back on.
    both.log.routes().set_stage(P0, StageKind::S3Only);
    assert!(both.read().await.unwrap_err().is_transient());
}

/// Another process has led the partition elsewhere, and this one has not heard of it: what it knows
/// to be in the log is found, whatever it believes of the stages, and by every way of reading.
#[tokio::test(flavor = "multi_thread")]
async fn law_14_what_is_in_the_log_is_found_with_an_outdated_stage() {
    for stage in StageKind::ROAD {
        for lacks in [Lead::S3, Lead::Postgres] {
            let both = both(stage).await;
            both.take_from(lacks).await;
            both.read_all_ways()
                .await
                .unwrap_or_else(|e| panic!("{stage}, {lacks:?} lacks one: {e}"));
        }
        let both = both(stage).await;
        both.take_from(Lead::S3).await;
        both.take_from(Lead::Postgres).await;
        let lost = both.read_all_ways().await.unwrap_err();
        assert_eq!(lost.kind, StoreErrorKind::Corrupt, "{stage}: {lost}");
        assert!(lost.message.contains("is missing"), "{lost}");
    }
}

/// Whoever cannot ask the place that has it has to say so, not that it is damaged.
#[tokio::test(flavor = "multi_thread")]
async fn law_4_what_one_place_lacks_and_the_other_does_not_tell_is_not_called_damaged() {
    for stage in [StageKind::DualWritePostgres, StageKind::DualWriteS3] {
        let both = both(stage).await;
        both.take_from(Lead::Postgres).await;
        both.bucket.set(NOTHING_GETS_THROUGH);
        let error = both.read_all_ways().await.unwrap_err();
        assert!(error.is_transient(), "{stage}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_damage_is_told_and_never_read_around() {
    let both = both(StageKind::DualWriteS3).await;
    let rubbish = Bytes::from_static(b"rubbish\n");
    both.memory
        .put(&keys::commit(P0, 2), rubbish)
        .await
        .unwrap();
    assert_eq!(both.read().await.unwrap_err().kind, StoreErrorKind::Corrupt);
    assert_eq!(both.log.fallback_reads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_reads_find_what_differs_and_only_that() {
    let both = both(StageKind::DualWriteS3).await;
    let wanted = places(&both.objects[2]);
    assert!(both.log.is_in_both(P0, &wanted));
    both.log.compare(P0, &wanted).await.unwrap();
    let shadow = both.log.shadow();
    assert_eq!((shadow.compared(), shadow.mismatches()), (1, 0));
    let changed = "UPDATE events SET envelope = replace(envelope::text, 'ann', 'bob')::json
                   WHERE commit_offset = 2 AND idx = 1";
    let client = both.world.other().await;
    assert_eq!(client.execute(changed, &[]).await.unwrap(), 1);
    both.log.compare(P0, &wanted).await.unwrap();
    assert_eq!((shadow.compared(), shadow.mismatches()), (2, 1));
    assert_eq!(shadow.take_new_mismatches(), 1);
    assert_eq!(shadow.take_new_mismatches(), 0);
    // A store that cannot be asked has told nothing.
    both.bucket.set(NOTHING_GETS_THROUGH);
    assert!(both.log.compare(P0, &wanted).await.is_err());
    assert_eq!(shadow.mismatches(), 1);
    both.log.routes().set_stage(P0, StageKind::Legacy);
    assert!(!both.log.is_in_both(P0, &wanted));
    assert_eq!(both.log.routes().lead(P0), Lead::Postgres);
}
