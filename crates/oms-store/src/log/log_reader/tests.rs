//! Opening a partition: index segments help, but only the log is believed.

use parking_lot::Mutex;

use jiff::Timestamp;

use super::*;
use crate::adapters::memory::MemoryObjectStore;
use crate::alarms::CopyKind;
use crate::error::StoreErrorKind;
use crate::ports::object_store::Created;
use crate::ports::object_store::ObjectInfo;
use oms_core::domain::ids::{Epoch, WriterId};
use oms_core::log::lead::Lead;
use oms_core::log::object::{CommitHeader, CommitKind, ControlRecord, FORMAT, ObjectHash};
use oms_core::log::partition::PartitionLog;
use oms_core::log::segment::Segment;

const PARTITION: PartitionId = PartitionId(0);

/// An id for a log that is made; no two are the same.
fn fresh() -> LogId {
    static MADE: AtomicU64 = AtomicU64::new(1);
    LogId(uuid::Uuid::from_u64_pair(
        0,
        MADE.fetch_add(1, Ordering::Relaxed),
    ))
}

/// A bucket that notes which keys are read.
#[derive(Default)]
struct Noting {
    objects: MemoryObjectStore,
    read: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl ObjectStore for Noting {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        self.objects.put_if_absent(key, body).await
    }
    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.objects.put(key, body).await
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.read.lock().push(key.to_owned());
        self.objects.get(key).await
    }
    async fn get_range(
        &self,
        key: &str,
        range: std::ops::Range<u64>,
    ) -> Result<Option<Bytes>, StoreError> {
        self.objects.get_range(key, range).await
    }
    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        self.objects.list(prefix, start_after, limit).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.objects.delete(key).await
    }
}

struct World {
    store: Arc<Noting>,
    log: LogReader,
    objects: Vec<CommitObject>,
}

/// A log of `count` control records, by the writer `writer`.
async fn world(count: u64, writer: u128) -> World {
    let store = Arc::new(Noting::default());
    let log = LogReader::new(store.clone(), "test".into(), 1, 1 << 20);
    let mut prev = ObjectHash::NONE;
    let mut objects = Vec::new();
    for offset in 0..count {
        let epoch = Epoch(offset + 1);
        let header = CommitHeader {
            format: FORMAT,
            partition: PARTITION,
            offset,
            epoch,
            writer: WriterId(uuid::Uuid::from_u128(writer)),
            batch: offset,
            prev,
            at: Timestamp::UNIX_EPOCH,
            count: 1,
            kind: CommitKind::Control,
        };
        let record = ControlRecord {
            lead: Lead::S3,
            epoch,
        };
        let object = CommitObject::control(header, record);
        prev = object.hash();
        log.s3().put(&object).await.unwrap();
        objects.push(object);
    }
    World {
        store,
        log,
        objects,
    }
}

impl World {
    fn segment(&self, from: u64, to: u64) -> Segment {
        let mut read = PartitionLog::new(PARTITION);
        for object in &self.objects[..to as usize] {
            read.apply(object).unwrap();
        }
        let commits = read.unsaved_commits()[from as usize..].to_vec();
        let controls = read.controls().to_vec();
        Segment::new(PARTITION, from, read.prev(), controls, commits)
    }

    async fn save(&self, stretches: &[(u64, u64)]) {
        for (from, to) in stretches {
            let segment = self.segment(*from, *to);
            self.log.save_segment(&segment).await.unwrap();
        }
    }

    /// Opens the partition; it must be what the log says. Gives how many commits were taken from
    /// segments.
    async fn open(&self) -> usize {
        self.store.read.lock().clear();
        let opened = self.log.open(PARTITION, Timestamp::MAX).await.unwrap();
        let last = self.objects.last().unwrap();
        assert_eq!(opened.next_offset(), self.objects.len() as u64);
        assert_eq!(opened.prev(), last.hash());
        assert_eq!(opened.leadership().unwrap().epoch, last.header.epoch);
        self.objects.len() - opened.unsaved()
    }
}

#[tokio::test]
async fn law_11_segments_beyond_the_end_of_the_log_are_not_believed() {
    let longer = world(12, 1).await;
    let restored = world(6, 1).await;
    let segment = longer.segment(0, 12);
    restored.log.save_segment(&segment).await.unwrap();
    assert_eq!(restored.open().await, 0);
    // They are what is left of commits that were acknowledged: named for as long as they are there.
    let named = || restored.log.alarms().of(CopyKind::Index, PARTITION);
    let alarm = named().unwrap();
    assert_eq!(alarm.code, "log_behind");
    assert!(alarm.message.contains("acknowledged"), "{}", alarm.message);
    // A segment that is of this log still helps.
    restored.save(&[(0, 4)]).await;
    assert_eq!(restored.open().await, 4);
    assert!(named().is_some());
    let key = keys::segment(PARTITION, 0, 12);
    restored.store.delete(&key).await.unwrap();
    assert_eq!(restored.open().await, 4);
    assert_eq!(named(), None);
}

#[tokio::test]
async fn law_11_segments_of_another_history_are_not_believed() {
    let other = world(8, 2).await;
    let ours = world(12, 1).await;
    let segment = other.segment(0, 8);
    ours.log.save_segment(&segment).await.unwrap();
    // One of ours that would go on from it, and end in a commit of ours, must not hide it.
    ours.save(&[(5, 10)]).await;
    assert_eq!(ours.open().await, 0);
    let key = keys::segment(PARTITION, 0, 8);
    assert_eq!(
        ours.store.get(&key).await.unwrap(),
        None,
        "it is in nobody's way"
    );
    ours.save(&[(0, 5)]).await;
    assert_eq!(ours.open().await, 10);
}

#[tokio::test]
async fn overlapping_segments_lead_as_far_as_any_of_them() {
    let world = world(14, 1).await;
    // The longest that begins at 0 ends where none begins.
    world.save(&[(0, 3), (0, 5), (3, 9), (4, 8), (9, 12)]).await;
    assert_eq!(world.open().await, 12);
    let read = world.store.read.lock();
    assert!(!read.contains(&keys::segment(PARTITION, 4, 8)));
}

#[tokio::test]
async fn a_damaged_segment_is_replaced_by_the_next_best() {
    let world = world(14, 1).await;
    world.save(&[(0, 3), (0, 5), (3, 9), (4, 8), (9, 12)]).await;
    let damage = async |from, to| {
        let key = keys::segment(PARTITION, from, to);
        world.store.put(&key, Bytes::from("rubbish")).await.unwrap();
    };
    damage(3, 9).await;
    assert_eq!(world.open().await, 8);
    damage(0, 5).await;
    assert_eq!(world.open().await, 3);
    damage(0, 3).await;
    assert_eq!(world.open().await, 0);
}

#[tokio::test]
async fn law_3_a_log_that_lost_its_description_gets_no_other_one() {
    let world = world(1, 1).await;
    let refused = describe_store(&*world.store, 4, Timestamp::UNIX_EPOCH, fresh()).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert!(error.to_string().contains(keys::STORE), "{error}");
    assert_eq!(world.store.get(keys::STORE).await.unwrap(), None);

    let empty = MemoryObjectStore::default();
    let made = describe_store(&empty, 4, Timestamp::UNIX_EPOCH, fresh()).await;
    let made = made.unwrap();
    let key = keys::commit(PARTITION, 0);
    empty.put(&key, Bytes::new()).await.unwrap();
    let found = describe_store(&empty, 9, Timestamp::UNIX_EPOCH, fresh()).await;
    assert_eq!(found.unwrap(), made);
}

#[tokio::test]
async fn law_11_a_bucket_has_an_id_that_its_replicas_share_and_no_other_bucket() {
    let made = async |bucket: &MemoryObjectStore| {
        let described = describe_store(bucket, 4, Timestamp::UNIX_EPOCH, fresh()).await;
        described.unwrap().id.unwrap()
    };
    let (one, other) = (MemoryObjectStore::default(), MemoryObjectStore::default());
    let id = made(&one).await;
    assert_eq!(made(&one).await, id);
    assert_ne!(made(&other).await, id);
    assert_eq!(log_id(&one).await.unwrap(), Some(id));
    // Described by the build before: no id, and it is never written again.
    let before =
        r#"{"format":1,"partitions":4,"hash":"sha256","created":"2026-01-02T03:04:05.123Z"}"#;
    let (old, replica) = (MemoryObjectStore::default(), MemoryObjectStore::default());
    for bucket in [&old, &replica] {
        bucket.put(keys::STORE, before.into()).await.unwrap();
    }
    let id = made(&old).await;
    assert_eq!(
        (made(&replica).await, log_id(&old).await.unwrap()),
        (id, Some(id))
    );
    assert_eq!(old.get(keys::STORE).await.unwrap().unwrap(), before);
    // Begun with the bucket away, by what PostgreSQL said.
    let begun = |id| {
        let log = LogReader::new(Arc::new(MemoryObjectStore::default()), "b".into(), 4, 0);
        log.with_id(id).with_bucket_unread()
    };
    let log = begun(id);
    assert!(log.confirm_bucket().await.is_ok(), "not there yet");
    made(&other).await;
    let bytes = other.get(keys::STORE).await.unwrap().unwrap();
    log.store.put(keys::STORE, bytes).await.unwrap();
    let error = log.confirm_bucket().await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert!(
        log.open(PARTITION, Timestamp::MAX).await.is_err(),
        "and nothing of it is read"
    );
}

#[tokio::test]
async fn a_bounded_reader_reads_little_ahead() {
    let world = world(12, 1).await;
    let commits_read = || world.store.read.lock().len();
    {
        let mut commits = std::pin::pin!(world.log.commits_ahead(PARTITION, 0, 12, 2));
        let first = commits.try_next().await.unwrap().unwrap();
        assert_eq!(first.header.offset, 0);
        assert!(commits_read() <= 2);
    }
}
