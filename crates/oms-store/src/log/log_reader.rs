//! The partitioned log: reads commit objects by their offsets from either store, and verifies every
//! object it reads.
//!
//! * [`description`]: number of partitions and id of the log; [`identity`]: whether copies are of
//!   this log; [`opening`]: opens a partition from a checkpoint
//! * [`route`]: which store is read; [`places`]: seeks what is there; [`events`]: single events;
//!   [`shadow`]: compares both stores

mod description;
mod events;
mod identity;
mod opening;
mod places;
mod route;
mod shadow;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

pub use self::description::{StoreDescription, describe_store, log_id};
pub use self::events::StoredEvent;
pub use self::route::Routes;
pub use self::shadow::Shadow;
use crate::alarms::Alarms;
use crate::error::StoreError;
use crate::log::log_objects::{DerivedObjects, LogObjects};
use crate::log::object_cache::ObjectCache;
use crate::log::read_ahead::read_ahead;
use crate::log::s3_commit_store::{READ_AHEAD, S3CommitStore};
use crate::ports::commit_store::{CommitStore, LeadingTable, no_such_commit};
use crate::ports::object_store::ObjectStore;
use oms_core::domain::ids::{Offset, PartitionId, StreamName};
use oms_core::log::identity::LogId;
use oms_core::log::keys;
use oms_core::log::lead::Lead;
use oms_core::log::object::CommitObject;

/// Commits requested from PostgreSQL at a time.
const SPAN: u64 = 256;

/// Reads the log from both stores.
pub struct LogReader {
    store: Arc<dyn ObjectStore>,
    s3: S3CommitStore,
    postgres: Option<Arc<dyn LeadingTable>>,
    routes: Routes,
    fallbacks: AtomicU64,
    shadow: Shadow,
    cache: ObjectCache,
    bucket: String,
    partitions: u16,
    id: Option<LogId>,
    /// Whether the bucket was verified to be this log's.
    confirmed: AtomicBool,
    alarms: Alarms,
}

fn corrupt(operation: &'static str, what: impl Into<String>) -> StoreError {
    StoreError::corrupt("log", operation, what)
}

/// This store lacks it; the other one may have it.
fn not_there(partition: PartitionId, offset: Offset) -> StoreError {
    no_such_commit("log", "read log", partition, offset)
}

fn missing(partition: PartitionId, offset: Offset) -> StoreError {
    let message = format!("{} is missing", keys::commit(partition, offset));
    corrupt("read log", message)
}

impl LogReader {
    /// The log in `store` with `partitions` partitions; `bucket` is only a name for display.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        bucket: String,
        partitions: u16,
        cache_bytes: u64,
    ) -> Self {
        Self {
            s3: S3CommitStore::new(LogObjects::of(store.clone())),
            // Indexes, snapshots and other derived data must not overwrite the log.
            store: Arc::new(DerivedObjects::of(store)),
            postgres: None,
            routes: Routes::new(partitions),
            fallbacks: AtomicU64::new(0),
            shadow: Shadow::default(),
            cache: ObjectCache::new(cache_bytes),
            bucket,
            partitions,
            id: None,
            confirmed: AtomicBool::new(true),
            alarms: Alarms::default(),
        }
    }

    /// The same log with PostgreSQL as its second store.
    #[must_use]
    pub fn with_postgres(self, postgres: Arc<dyn LeadingTable>) -> Self {
        Self {
            postgres: Some(postgres),
            ..self
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

    /// From which store each partition is read.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The log in the bucket.
    pub fn s3(&self) -> &S3CommitStore {
        &self.s3
    }

    /// The log in PostgreSQL, if that is one of its stores.
    pub fn postgres(&self) -> Option<&Arc<dyn LeadingTable>> {
        self.postgres.as_ref()
    }

    /// The log in one of its stores, if it has that one.
    pub fn place(&self, place: Lead) -> Option<&dyn CommitStore> {
        match place {
            Lead::S3 => Some(&self.s3),
            Lead::Postgres => {
                let table = self.postgres.as_deref()?;
                Some(table as &dyn CommitStore)
            }
        }
    }

    /// Reads served by the second store because the first failed, since the process began.
    pub fn fallback_reads(&self) -> u64 {
        self.fallbacks.load(Ordering::Relaxed)
    }

    /// Bytes of the cached objects.
    pub fn cached_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Lets go of them once nobody has used any for so long.
    pub fn sweep_cache(&self, idle_after: Duration) {
        self.cache.sweep(idle_after);
    }

    /// Caches an object that is known to be in the log.
    pub fn remember(&self, object: Arc<CommitObject>) {
        self.cache.insert(object);
    }

    /// The commit object at an offset; `None` if the log ends before it, according to the store
    /// that leads.
    pub async fn commit(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Arc<CommitObject>>, StoreError> {
        if let Some(object) = self.cache.get(partition, offset) {
            return Ok(Some(object));
        }
        let lead = self.routes.lead(partition);
        let Some(object) = self.get_or_fall_back(lead, partition, offset).await? else {
            return Ok(None);
        };
        let object = Arc::new(object);
        self.cache.insert(object.clone());
        Ok(Some(object))
    }

    /// The commit objects `from..to`, in order, read ahead. They MUST exist: a gap is corruption.
    pub fn commits(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> BoxStream<'_, Result<Arc<CommitObject>, StoreError>> {
        self.commits_ahead(partition, from, to, READ_AHEAD)
    }

    /// [`Self::commits`] with at most `ahead` objects fetched in advance: for readers that may stop
    /// early.
    pub fn commits_ahead(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
        ahead: usize,
    ) -> BoxStream<'_, Result<Arc<CommitObject>, StoreError>> {
        match self.routes.order(partition, to) {
            [Lead::Postgres, ..] => self.spans(Lead::Postgres, partition, from, to).boxed(),
            _ => self.one_by_one(partition, from, to, ahead).boxed(),
        }
    }

    /// [`Self::commits`] from `place` first: PostgreSQL returns spans, S3 single objects.
    fn commits_of(
        &self,
        place: Lead,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> BoxStream<'_, Result<Arc<CommitObject>, StoreError>> {
        match place {
            Lead::Postgres => self.spans(place, partition, from, to).boxed(),
            Lead::S3 => self.one_by_one(partition, from, to, READ_AHEAD).boxed(),
        }
    }

    fn one_by_one(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
        ahead: usize,
    ) -> impl stream::Stream<Item = Result<Arc<CommitObject>, StoreError>> + '_ {
        let fetch = move |offset| async move {
            // Bypasses the cache: a long read must not evict what other readers need next.
            if let Some(object) = self.cache.get(partition, offset) {
                return Ok(object);
            }
            let get = |place| self.get_from(place, partition, offset);
            self.read_known(partition, offset, get).await
        };
        let size = |object: &Arc<CommitObject>| object.bytes.len();
        read_ahead(from..to, ahead, fetch, size)
    }

    /// Reads spans from a store that can return many objects at a time; objects that it lacks are
    /// read one by one.
    fn spans(
        &self,
        place: Lead,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> impl stream::Stream<Item = Result<Arc<CommitObject>, StoreError>> + '_ {
        let begin = (from, VecDeque::new());
        stream::try_unfold(begin, move |(next, mut read)| async move {
            if next == to {
                return Ok(None);
            }
            let mut object = read.pop_front().or_else(|| self.cache.get(partition, next));
            if object.is_none()
                && let Some(store) = self.place(place)
                && let Ok(span) = store.span(partition, next, to.min(next + SPAN)).await
            {
                read = span.into_iter().map(Arc::new).collect();
                object = read.pop_front();
            }
            let object = match object {
                Some(object) => object,
                None => {
                    let mut one = std::pin::pin!(self.one_by_one(partition, next, next + 1, 1));
                    let found = one.try_next().await?;
                    found.ok_or_else(|| missing(partition, next))?
                }
            };
            Ok(Some((object, (next + 1, read))))
        })
    }

    /// The offset after the last commit of a partition, at least `from`, according to the store
    /// that leads. Costs one request if nothing was added.
    pub async fn reach(&self, partition: PartitionId, from: Offset) -> Result<Offset, StoreError> {
        if self.commit(partition, from).await?.is_none() {
            return Ok(from);
        }
        match self.place(self.routes.lead(partition)) {
            Some(store) => store.end(partition, from + 1).await,
            None => Ok(from + 1),
        }
    }

    /// Reads a snapshot.
    pub async fn snapshot(
        &self,
        stream: &StreamName,
        interval: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        self.store.get(&keys::snapshot(stream, interval)).await
    }

    /// Stores a snapshot.
    pub async fn save_snapshot(
        &self,
        stream: &StreamName,
        interval: u64,
        body: Bytes,
    ) -> Result<(), StoreError> {
        self.store
            .put(&keys::snapshot(stream, interval), body)
            .await
    }
}

#[cfg(test)]
mod tests;
