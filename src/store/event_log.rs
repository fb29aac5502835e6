//! The partitioned log on top of a bucket: commit objects, index segments and snapshots by their
//! keys, with what can be verified verified at every read.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{StoreError, StoreErrorKind};
use super::object_cache::ObjectCache;
use super::object_store::{Created, ObjectStore, list_all};
use crate::domain::event::Envelope;
use crate::domain::ids::{Offset, PartitionId, Position, StreamName, Version};
use crate::log::index::Location;
use crate::log::keys;
use crate::log::object::{CommitObject, CorruptObject};
use crate::log::partition::PartitionLog;
use crate::log::segment::Segment;

/// Requests in flight when many objects are read: enough to hide tens of milliseconds each.
const READ_AHEAD: usize = 32;

/// Events of one stream that lie this close in an object are read with one request.
const COALESCE_GAP_BYTES: u32 = 64 * 1024;

/// What `meta/store.json` says; written once, when the store is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreDescription {
    /// Format of the whole layout.
    pub format: u32,
    /// Number of partitions; a stream's partition depends on it, so it never changes.
    pub partitions: u16,
    /// Hash of the chain and of stream names.
    pub hash: String,
    /// When the store was made.
    pub created: Timestamp,
}

/// An event as it lies in the log.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Where.
    pub position: Position,
    /// Its number in its stream.
    pub version: Version,
    /// Its envelope's bytes.
    pub bytes: Bytes,
}

impl StoredEvent {
    /// When it was recorded.
    pub fn recorded_at(&self) -> Result<Timestamp, StoreError> {
        Envelope::parse(&self.bytes)
            .map(|event| event.time)
            .map_err(|e| StoreError::corrupt("s3", "read event", e.to_string()))
    }
}

/// See the module.
pub struct EventLog {
    store: Arc<dyn ObjectStore>,
    cache: ObjectCache,
    bucket: String,
    partitions: u16,
}

fn corrupt(operation: &'static str, error: &CorruptObject) -> StoreError {
    StoreError::corrupt("s3", operation, error.to_string())
}

/// Reads the store's description, making it with `partitions` if this is a new store.
pub async fn describe_store(
    store: &dyn ObjectStore,
    partitions: u16,
    now: Timestamp,
) -> Result<StoreDescription, StoreError> {
    let fresh = StoreDescription {
        format: crate::log::object::FORMAT,
        partitions: partitions.max(1),
        hash: "sha256".into(),
        created: now,
    };
    let bytes = match store.get(keys::STORE).await? {
        Some(bytes) => bytes,
        None => {
            // With another number of partitions every stream would look empty.
            if !store.list(keys::EVENTS, None, 1).await?.is_empty() {
                return Err(StoreError::corrupt(
                    "s3",
                    "describe store",
                    "the bucket holds a log, but meta/store.json is gone: restore it, since a \
                     stream's partition depends on the number of partitions in it",
                ));
            }
            let body = serde_json::to_vec(&fresh).map_err(|e| {
                StoreError::determinate(
                    StoreErrorKind::Invalid,
                    "s3",
                    "describe store",
                    e.to_string(),
                )
            })?;
            // Whoever is first describes the store; everyone reads back what that was.
            store.put_if_absent(keys::STORE, body.into()).await?;
            store.get(keys::STORE).await?.ok_or_else(|| {
                StoreError::corrupt("s3", "describe store", "meta/store.json vanished")
            })?
        }
    };
    let found: StoreDescription = serde_json::from_slice(&bytes).map_err(|e| {
        StoreError::corrupt("s3", "describe store", format!("meta/store.json: {e}"))
    })?;
    if found.format != fresh.format || found.hash != fresh.hash || found.partitions == 0 {
        let message =
            format!("meta/store.json describes a store this program does not know: {found:?}");
        return Err(StoreError::corrupt("s3", "describe store", message));
    }
    Ok(found)
}

impl EventLog {
    /// The log in `store`, which holds `partitions` partitions; `bucket` is only a name.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        bucket: String,
        partitions: u16,
        cache_bytes: u64,
    ) -> Self {
        Self {
            store,
            cache: ObjectCache::new(cache_bytes),
            bucket,
            partitions,
        }
    }

    /// Number of partitions.
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Every partition.
    pub fn partition_ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.partitions).map(PartitionId)
    }

    /// The partition of a stream.
    pub fn partition_of(&self, stream: &StreamName) -> PartitionId {
        stream.key().partition(self.partitions)
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Puts a commit object, if its offset is free.
    pub async fn put_commit(&self, object: &CommitObject) -> Result<Created, StoreError> {
        let key = keys::commit(object.header.partition, object.header.offset);
        self.store.put_if_absent(&key, object.bytes.clone()).await
    }

    /// Keeps an object that is known to be in the log close at hand.
    pub fn remember(&self, object: Arc<CommitObject>) {
        self.cache.insert(object);
    }

    /// The commit object at an offset; `None` when the log is shorter.
    pub async fn commit(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Arc<CommitObject>>, StoreError> {
        if let Some(object) = self.cache.get(partition, offset) {
            return Ok(Some(object));
        }
        let Some(object) = self.fetch(partition, offset).await? else {
            return Ok(None);
        };
        let object = Arc::new(object);
        self.cache.insert(object.clone());
        Ok(Some(object))
    }

    async fn fetch(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<CommitObject>, StoreError> {
        let Some(bytes) = self.store.get(&keys::commit(partition, offset)).await? else {
            return Ok(None);
        };
        let object = CommitObject::parse(bytes).map_err(|e| corrupt("read commit", &e))?;
        if object.header.partition != partition || object.header.offset != offset {
            let message = format!("{} says it is another", keys::commit(partition, offset));
            return Err(StoreError::corrupt("s3", "read commit", message));
        }
        Ok(Some(object))
    }

    /// The commit objects `from..to`, in order, read ahead. They MUST exist: a gap is corruption.
    pub fn commits(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> impl stream::Stream<Item = Result<Arc<CommitObject>, StoreError>> + '_ {
        self.commits_ahead(partition, from, to, READ_AHEAD)
    }

    /// The same, with at most `ahead` objects asked for before they are wanted: for readers that
    /// stop early.
    pub fn commits_ahead(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
        ahead: usize,
    ) -> impl stream::Stream<Item = Result<Arc<CommitObject>, StoreError>> + '_ {
        stream::iter(from..to)
            .map(move |offset| async move {
                // A long read must not push out what everyone else is about to read.
                if let Some(object) = self.cache.get(partition, offset) {
                    return Ok(object);
                }
                self.fetch(partition, offset)
                    .await?
                    .map(Arc::new)
                    .ok_or_else(|| {
                        let message = format!("{} is missing", keys::commit(partition, offset));
                        StoreError::corrupt("s3", "read log", message)
                    })
            })
            .buffered(ahead)
    }

    /// The offset after the last commit of a partition, known to be at least `from`. Costs one
    /// request when nothing was added.
    pub async fn reach(&self, partition: PartitionId, from: Offset) -> Result<Offset, StoreError> {
        if self.commit(partition, from).await?.is_none() {
            return Ok(from);
        }
        let mut next = from + 1;
        loop {
            let after = keys::commit(partition, next - 1);
            let prefix = keys::commits(partition);
            let page = self.store.list(&prefix, Some(&after), 1000).await?;
            match page.last().and_then(|o| keys::parse_commit(&o.key)) {
                Some(last) => next = last + 1,
                None => return Ok(next),
            }
        }
    }

    /// Opens a partition: the newest index segments, then the commits after them.
    pub async fn open(&self, partition: PartitionId) -> Result<PartitionLog, StoreError> {
        let mut log = PartitionLog::new(partition);
        self.restore_segments(&mut log).await?;
        if !self.is_in_log(&log).await? {
            tracing::warn!(%partition, offset = log.next_offset(),
                "the index belongs to another or a longer log; reading the log instead");
            log = PartitionLog::new(partition);
        }
        self.catch_up(&mut log).await?;
        Ok(log)
    }

    /// Whether what was restored of the index ends at a commit that the log has: a bucket may have
    /// been restored from a backup, or have lost its log and kept its index.
    async fn is_in_log(&self, log: &PartitionLog) -> Result<bool, StoreError> {
        let Some(last) = log.next_offset().checked_sub(1) else {
            return Ok(true);
        };
        let object = self.commit(log.id(), last).await?;
        Ok(object.is_some_and(|object| object.hash() == log.prev()))
    }

    async fn restore_segments(&self, log: &mut PartitionLog) -> Result<(), StoreError> {
        let listed = list_all(&*self.store, &keys::segments(log.id()), None).await?;
        let mut stretches: Vec<(Offset, Offset)> = listed
            .iter()
            .filter_map(|o| keys::parse_segment(&o.key))
            .collect();
        // Two processes may have covered the same stretch differently. The log is immutable, so
        // where they overlap they say the same: of those that go on from the end, the one that
        // reaches furthest.
        stretches.sort_unstable();
        let mut chain = Vec::new();
        let mut end = 0;
        loop {
            let next = stretches
                .iter()
                .filter(|(from, to)| *from <= end && *to > end);
            let Some(&stretch) = next.max_by_key(|(_, to)| *to) else {
                break;
            };
            chain.push(stretch);
            end = stretch.1;
        }
        let id = log.id();
        let mut segments = stream::iter(chain)
            .map(|(from, to)| async move { self.store.get(&keys::segment(id, from, to)).await })
            .buffered(READ_AHEAD);
        while let Some(bytes) = segments.try_next().await? {
            let next = log.next_offset();
            let segment = bytes.as_deref().and_then(Segment::decode);
            match segment {
                Some(s) if s.partition == id && s.from <= next && s.to > next => {
                    let known = (next - s.from) as usize;
                    log.restore(&s.commits[known..], s.prev(), s.leadership);
                }
                _ => {
                    tracing::warn!(partition = %id, offset = next,
                        "an index segment is damaged or gone; reading the log instead");
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads on from where `log` ends to the end of the partition.
    pub async fn catch_up(&self, log: &mut PartitionLog) -> Result<(), StoreError> {
        let id = log.id();
        loop {
            let from = log.next_offset();
            let after = from.checked_sub(1).map(|last| keys::commit(id, last));
            let page = self
                .store
                .list(&keys::commits(id), after.as_deref(), 1000)
                .await?;
            let offsets: Vec<Offset> = page
                .iter()
                .filter_map(|o| keys::parse_commit(&o.key))
                .collect();
            let Some(last) = offsets.last() else {
                return Ok(());
            };
            let mut objects = std::pin::pin!(self.commits(id, from, last + 1));
            while let Some(object) = objects.try_next().await? {
                log.apply(&object).map_err(|e| corrupt("read log", &e))?;
            }
        }
    }

    /// Stores a checkpoint of a stretch of the index.
    pub async fn save_segment(&self, segment: &Segment) -> Result<(), StoreError> {
        let bytes = segment.encode().map_err(|e| {
            StoreError::determinate(
                StoreErrorKind::Invalid,
                "s3",
                "save index segment",
                e.to_string(),
            )
        })?;
        let key = keys::segment(segment.partition, segment.from, segment.to);
        self.store.put(&key, bytes.into()).await
    }

    /// Reads a stream's events from the places the index gave. Each is checked to be what the
    /// index says it is.
    pub async fn read_events(
        &self,
        stream: &StreamName,
        locations: &[Location],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let partition = self.partition_of(stream);
        let runs: Vec<&[Location]> = locations
            .chunk_by(|a, b| {
                a.offset == b.offset && b.start.saturating_sub(a.start + a.len) < COALESCE_GAP_BYTES
            })
            .collect();
        let parts: Vec<Vec<StoredEvent>> = stream::iter(runs)
            .map(|run| self.read_run(stream, partition, run))
            .buffered(READ_AHEAD)
            .try_collect()
            .await?;
        Ok(parts.into_iter().flatten().collect())
    }

    async fn read_run(
        &self,
        stream: &StreamName,
        partition: PartitionId,
        run: &[Location],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(Vec::new());
        };
        let (begin, end) = (first.start, last.start + last.len);
        let bytes = match self.cache.get(partition, first.offset) {
            Some(object) if object.bytes.len() >= end as usize => {
                object.bytes.slice(begin as usize..end as usize)
            }
            _ => {
                let key = keys::commit(partition, first.offset);
                let range = u64::from(begin)..u64::from(end);
                self.store.get_range(&key, range).await?.ok_or_else(|| {
                    StoreError::corrupt("s3", "read stream", format!("{key} is missing"))
                })?
            }
        };
        run.iter()
            .map(|at| {
                let from = (at.start - begin) as usize;
                let event = bytes.slice(from..from + at.len as usize);
                verify(stream, at, &event)?;
                let position = Position {
                    partition,
                    offset: at.offset,
                    index: at.index,
                };
                Ok(StoredEvent {
                    position,
                    version: at.version,
                    bytes: event,
                })
            })
            .collect()
    }

    /// Reads bytes of one commit object, for whoever kept the address of an event.
    pub async fn read_range(
        &self,
        partition: PartitionId,
        offset: Offset,
        start: u32,
        len: u32,
    ) -> Result<Bytes, StoreError> {
        let end = start + len;
        if let Some(object) = self.cache.get(partition, offset)
            && object.bytes.len() >= end as usize
        {
            return Ok(object.bytes.slice(start as usize..end as usize));
        }
        let key = keys::commit(partition, offset);
        self.store
            .get_range(&key, u64::from(start)..u64::from(end))
            .await?
            .ok_or_else(|| StoreError::corrupt("s3", "read range", format!("{key} is missing")))
    }

    /// Reads a snapshot.
    pub async fn snapshot(
        &self,
        stream: &StreamName,
        bucket: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        self.store.get(&keys::snapshot(stream, bucket)).await
    }

    /// Stores a snapshot.
    pub async fn save_snapshot(
        &self,
        stream: &StreamName,
        bucket: u64,
        body: Bytes,
    ) -> Result<(), StoreError> {
        self.store.put(&keys::snapshot(stream, bucket), body).await
    }
}

fn verify(stream: &StreamName, at: &Location, bytes: &[u8]) -> Result<(), StoreError> {
    let wrong = |what: String| {
        Err(StoreError::corrupt(
            "s3",
            "read stream",
            format!("{stream} version {}: {what}", at.version),
        ))
    };
    match Envelope::parse(bytes) {
        Err(e) => wrong(e.to_string()),
        Ok(event)
            if event.version != at.version
                || event.stream_type != stream.stream_type()
                || event.stream_id != stream.id() =>
        {
            wrong(format!(
                "found {} version {}",
                event.stream(),
                event.version
            ))
        }
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{Epoch, WriterId};
    use crate::log::object::ControlRecord;
    use crate::log::partition::Stamp;
    use crate::migration::lead::Lead;
    use crate::store::memory::MemoryObjectStore;

    const P: PartitionId = PartitionId(0);

    async fn log_of(commits: u64) -> (Arc<MemoryObjectStore>, EventLog, PartitionLog) {
        let store = Arc::new(MemoryObjectStore::default());
        let log = EventLog::new(store.clone(), "b".into(), 1, 1 << 20);
        let mut partition = PartitionLog::new(P);
        for epoch in 1..=commits {
            let stamp = Stamp {
                writer: WriterId(uuid::Uuid::nil()),
                batch: epoch,
                at: Timestamp::UNIX_EPOCH,
            };
            let record = ControlRecord {
                lead: Lead::S3,
                epoch: Epoch(epoch),
            };
            let object = partition.control(stamp, record);
            log.put_commit(&object).await.unwrap();
            partition.apply(&object).unwrap();
        }
        (store, log, partition)
    }

    async fn save(log: &EventLog, partition: &PartitionLog, from: u64, to: u64) {
        let commits = &partition.unsaved_commits()[from as usize..to as usize];
        let last = log.commit(P, to - 1).await.unwrap().unwrap();
        let leadership = partition.leadership().unwrap();
        let segment = Segment::new(P, from, last.hash(), leadership, commits.to_vec());
        log.save_segment(&segment).await.unwrap();
    }

    #[tokio::test]
    async fn law_11_overlapping_and_damaged_index_segments_make_no_difference() {
        let (store, log, whole) = log_of(20).await;
        for (from, to) in [(0, 4), (4, 8), (4, 11), (8, 12), (12, 16)] {
            save(&log, &whole, from, to).await;
        }
        let opened = log.open(P).await.unwrap();
        assert_eq!((opened.next_offset(), opened.prev()), (20, whole.prev()));
        store
            .put(&keys::segment(P, 4, 11), Bytes::from_static(b"rubbish"))
            .await
            .unwrap();
        let opened = log.open(P).await.unwrap();
        assert_eq!((opened.next_offset(), opened.prev()), (20, whole.prev()));
    }

    #[tokio::test]
    async fn law_5_an_index_that_reaches_beyond_the_log_is_not_believed() {
        let (_, longer, whole) = log_of(20).await;
        let (store, log, shorter) = log_of(5).await;
        let commits = whole.unsaved_commits().to_vec();
        let last = longer.commit(P, 19).await.unwrap().unwrap();
        let leadership = whole.leadership().unwrap();
        let segment = Segment::new(P, 0, last.hash(), leadership, commits);
        log.save_segment(&segment).await.unwrap();
        let opened = log.open(P).await.unwrap();
        assert_eq!((opened.next_offset(), opened.prev()), (5, shorter.prev()));
        drop(store);
    }

    #[tokio::test]
    async fn a_log_without_its_description_is_not_described_anew() {
        let (store, _, _) = log_of(1).await;
        let refused = describe_store(&*store, 4, Timestamp::UNIX_EPOCH).await;
        assert!(refused.is_err());
        let fresh = MemoryObjectStore::default();
        let made = describe_store(&fresh, 4, Timestamp::UNIX_EPOCH).await;
        assert_eq!(made.unwrap().partitions, 4);
    }
}
