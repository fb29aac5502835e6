//! The partitioned log: commit objects by their offsets, from whichever of its two places holds
//! them, with what can be verified verified at every read.
//!
//! * [`description`]: how many partitions there are, and which log it is; [`identity`]: whether
//!   copies are of it; [`opening`]: from a checkpoint to the end
//! * [`route`]: which place is read; [`events`]: single events; [`shadow`]: both compared

mod description;
mod events;
mod identity;
mod opening;
mod route;
mod shadow;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

pub use self::description::{StoreDescription, describe_store, log_id};
pub use self::events::StoredEvent;
use self::events::not_there;
pub use self::route::Routes;
pub use self::shadow::Shadow;
use crate::alarms::Alarms;
use crate::error::{StoreError, StoreErrorKind};
use crate::log::log_objects::{DerivedObjects, LogObjects};
use crate::log::object_cache::ObjectCache;
use crate::log::s3_commit_store::{READ_AHEAD, S3CommitStore};
use crate::metrics;
use crate::ports::commit_store::{CommitStore, LeadingTable};
use crate::ports::object_store::ObjectStore;
use oms_core::domain::ids::{Offset, PartitionId, StreamName};
use oms_core::log::identity::LogId;
use oms_core::log::keys;
use oms_core::log::lead::Lead;
use oms_core::log::object::CommitObject;

/// Commits asked of PostgreSQL at a time.
const SPAN: u64 = 256;

/// See the module.
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
    /// Whether the bucket is known to be this log's.
    confirmed: AtomicBool,
    alarms: Alarms,
}

fn corrupt(operation: &'static str, what: impl Into<String>) -> StoreError {
    StoreError::corrupt("log", operation, what)
}

fn missing(partition: PartitionId, offset: Offset) -> StoreError {
    let message = format!("{} is missing", keys::commit(partition, offset));
    corrupt("read log", message)
}

impl LogReader {
    /// The log in `store`, which holds `partitions` partitions; `bucket` is only a name.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        bucket: String,
        partitions: u16,
        cache_bytes: u64,
    ) -> Self {
        Self {
            s3: S3CommitStore::new(LogObjects::of(store.clone())),
            // Index, snapshots and whatever else is derived never touch the log itself.
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

    /// The same log with PostgreSQL as its second place.
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

    /// From which place each partition is read.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The bucket.
    pub fn s3(&self) -> &S3CommitStore {
        &self.s3
    }

    /// PostgreSQL, where it is a place of the log.
    pub fn postgres(&self) -> Option<&Arc<dyn LeadingTable>> {
        self.postgres.as_ref()
    }

    /// One of the places, if the log has it.
    pub fn place(&self, place: Lead) -> Option<&dyn CommitStore> {
        match place {
            Lead::S3 => Some(&self.s3),
            Lead::Postgres => {
                let table = self.postgres.as_deref()?;
                Some(table as &dyn CommitStore)
            }
        }
    }

    /// Reads served by another place than the first since the process began.
    pub fn fallback_reads(&self) -> u64 {
        self.fallbacks.load(Ordering::Relaxed)
    }

    /// Bytes of the objects kept close at hand.
    pub fn cached_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Lets go of them once nobody has used any for so long.
    pub fn sweep_cache(&self, idle_after: Duration) {
        self.cache.sweep(idle_after);
    }

    /// Keeps an object that is known to be in the log close at hand.
    pub fn remember(&self, object: Arc<CommitObject>) {
        self.cache.insert(object);
    }

    /// The commit object at an offset; `None` when the log is shorter, as far as the place that
    /// leads knows.
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

    /// Only the place that leads can say that there is nothing; that there is something, any can.
    async fn get_or_fall_back(
        &self,
        lead: Lead,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<CommitObject>, StoreError> {
        let Some(store) = self.place(lead) else {
            return Err(not_there(partition));
        };
        let error = match store.get(partition, offset).await {
            Err(error) if error.is_transient() => error,
            found => return found,
        };
        let order = self.routes.order(partition, offset + 1);
        for other in order.iter().filter(|place| **place != lead) {
            if let Some(store) = self.place(*other)
                && let Ok(Some(object)) = store.get(partition, offset).await
            {
                self.fell_back(lead, *other, &error);
                return Ok(Some(object));
            }
        }
        Err(error)
    }

    /// The commit object at an offset, in whichever place.
    async fn find(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Arc<CommitObject>>, StoreError> {
        match self.one_of(partition, offset).await {
            Ok(object) => Ok(Some(object)),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What is known to be in the log, from the first place that has it.
    async fn one_of(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Arc<CommitObject>, StoreError> {
        if let Some(object) = self.cache.get(partition, offset) {
            return Ok(object);
        }
        self.ask_places(partition, offset + 1, |place| async move {
            let found = match self.place(place) {
                Some(store) => store.get(partition, offset).await?,
                None => None,
            };
            found.map(Arc::new).ok_or_else(|| not_there(partition))
        })
        .await
    }

    /// Asks the places in order: the next one only when one cannot be reached or does not have it,
    /// never when what it has cannot be read.
    async fn ask_places<T, F>(
        &self,
        partition: PartitionId,
        end: Offset,
        read: impl Fn(Lead) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut failed: Option<(Lead, StoreError)> = None;
        for place in self.routes.order(partition, end) {
            match (read(*place).await, &failed) {
                (Ok(found), None) => return Ok(found),
                (Ok(found), Some((first, error))) => {
                    self.fell_back(*first, *place, error);
                    return Ok(found);
                }
                (Err(e), _) if e.is_transient() || e.kind == StoreErrorKind::NotFound => {
                    // What could not be asked says more than what was not there.
                    let says_more = failed.as_ref().is_none_or(|(_, f)| !f.is_transient());
                    if says_more {
                        failed = Some((*place, e));
                    }
                }
                (Err(e), _) => return Err(e),
            }
        }
        Err(failed.map_or_else(|| not_there(partition), |(_, error)| error))
    }

    fn fell_back(&self, from: Lead, to: Lead, error: &StoreError) {
        // Before a stage is known nobody was asked first.
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
        metrics::fallback_read(from, to, error.kind);
        tracing::debug!(?from, ?to, %error, "read from the other place");
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

    /// The same, with at most `ahead` objects asked for before they are wanted: for readers that
    /// stop early.
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

    /// The same, of one place alone where that is PostgreSQL.
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
        stream::iter(from..to)
            .map(move |offset| async move {
                // A long read must not push out what everyone else is about to read.
                match self.one_of(partition, offset).await {
                    Err(e) if e.kind == StoreErrorKind::NotFound => Err(missing(partition, offset)),
                    found => found,
                }
            })
            .buffered(ahead.max(1))
    }

    /// Spans of a place that answers many at a time; what it cannot give is read one by one.
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

    /// The offset after the last commit of a partition, known to be at least `from`, as far as the
    /// place that leads knows. Costs one request when nothing was added.
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

#[cfg(test)]
mod tests;
