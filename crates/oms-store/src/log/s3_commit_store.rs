//! The log in the bucket: one object per commit, under `events/`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::error::StoreError;
use crate::flaws::{Flaw, strikes};
use crate::log::log_objects::LogObjects;
use crate::log::read_ahead::read_ahead;
use crate::ports::commit_store::{CommitStore, no_such_commit};
use crate::ports::object_store::Created;
use oms_core::domain::ids::{Offset, PartitionId};
use oms_core::log::index::Location;
use oms_core::log::keys;
use oms_core::log::lead::Lead;
use oms_core::log::object::CommitObject;

/// Concurrent requests when many objects are read or copied: enough to hide a latency of tens of
/// milliseconds.
pub const READ_AHEAD: usize = 32;

/// Events with a gap of at most so many bytes in an object are read with one request.
const COALESCE_GAP_BYTES: u32 = 64 * 1024;

/// Bytes of a span, within one object: several of the largest objects.
const SPAN_BYTES: usize = 16 << 20;

/// Keys of one page of a listing.
const PAGE: usize = 1000;

/// The log in a bucket.
#[derive(Clone)]
pub struct S3CommitStore {
    store: LogObjects,
}

fn corrupt(operation: &'static str, what: impl Into<String>) -> StoreError {
    StoreError::corrupt("s3", operation, what)
}

impl S3CommitStore {
    /// The log in this bucket.
    pub fn new(store: LogObjects) -> Self {
        Self { store }
    }

    /// Bytes of one object; the result has exactly the requested length.
    /// [`NotFound`](crate::error::StoreErrorKind::NotFound) if the bucket does not have it.
    pub async fn range(
        &self,
        partition: PartitionId,
        offset: Offset,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let key = keys::commit(partition, offset);
        self.store
            .get_range(&key, range)
            .await?
            .ok_or_else(|| no_such_commit("s3", "read range", partition, offset))
    }

    async fn run(
        &self,
        partition: PartitionId,
        run: &[Location],
    ) -> Result<Vec<Bytes>, StoreError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(Vec::new());
        };
        let (begin, end) = (first.start, last.start + last.len);
        let range = u64::from(begin)..u64::from(end);
        let bytes = self.range(partition, first.offset, range).await?;
        let event = |at: &Location| {
            let from = (at.start - begin) as usize;
            bytes.slice(from..from + at.len as usize)
        };
        Ok(run.iter().map(event).collect())
    }

    /// Puts a copy; an object that is there already must be the same.
    async fn copy_one(&self, object: &CommitObject) -> Result<(), StoreError> {
        let header = &object.header;
        if strikes(Flaw::SkipCopy, 9) {
            return Ok(());
        }
        if self.put(object).await? == Created::Yes {
            return Ok(());
        }
        match self.get(header.partition, header.offset).await? {
            Some(found) if found.bytes == object.bytes => Ok(()),
            _ => Err(corrupt(
                "copy",
                format!(
                    "{} holds another object than the one that is to be copied there",
                    keys::commit(header.partition, header.offset)
                ),
            )),
        }
    }
}

#[async_trait]
impl CommitStore for S3CommitStore {
    fn place(&self) -> Lead {
        Lead::S3
    }

    async fn put(&self, object: &CommitObject) -> Result<Created, StoreError> {
        let key = keys::commit(object.header.partition, object.header.offset);
        self.store.create(&key, object.bytes.clone()).await
    }

    async fn copy(&self, objects: &[Arc<CommitObject>]) -> Result<Offset, StoreError> {
        let Some(first) = objects.first() else {
            return Ok(0);
        };
        // Concurrently: each object has its own offset, so that their order does not matter. Only
        // those without a gap before them count as copied.
        let mut next = first.header.offset;
        let mut copies = stream::iter(objects.to_vec())
            .map(|object| async move { self.copy_one(&object).await })
            .buffered(READ_AHEAD);
        while let Some(copied) = copies.next().await {
            match copied {
                Ok(()) => next += 1,
                Err(error) if next == first.header.offset => return Err(error),
                // The next call starts with this object.
                Err(_) => break,
            }
        }
        Ok(next)
    }

    async fn get(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<CommitObject>, StoreError> {
        const OPERATION: &str = "read commit";
        let key = keys::commit(partition, offset);
        let Some(bytes) = self.store.get(&key).await? else {
            return Ok(None);
        };
        let object =
            CommitObject::parse(bytes).map_err(|e| corrupt(OPERATION, format!("{key}: {e}")))?;
        if object.header.partition != partition || object.header.offset != offset {
            return Err(corrupt(OPERATION, format!("{key} says it is another")));
        }
        Ok(Some(object))
    }

    async fn span(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<CommitObject>, StoreError> {
        let mut bytes = 0;
        let fetch = |offset| self.get(partition, offset);
        let size = |found: &Option<CommitObject>| found.as_ref().map_or(0, |o| o.bytes.len());
        read_ahead(from..to, READ_AHEAD, fetch, size)
            .try_take_while(|found| {
                let goes_on = bytes < SPAN_BYTES;
                bytes += found.as_ref().map_or(0, |object| object.bytes.len());
                std::future::ready(Ok(goes_on && found.is_some()))
            })
            .try_filter_map(|found| std::future::ready(Ok(found)))
            .try_collect()
            .await
    }

    async fn end(&self, partition: PartitionId, from: Offset) -> Result<Offset, StoreError> {
        let mut next = from;
        loop {
            let after = next
                .checked_sub(1)
                .map(|last| keys::commit(partition, last));
            let prefix = keys::commits(partition);
            let page = self.store.list(&prefix, after.as_deref(), PAGE).await?;
            let begun = next;
            // Copies are put concurrently, so that there may be a gap that is still to be filled.
            for offset in page.iter().filter_map(|o| keys::parse_commit(&o.key)) {
                if offset != next {
                    return Ok(next);
                }
                next += 1;
            }
            if next == begun {
                return Ok(next);
            }
        }
    }

    async fn events(
        &self,
        partition: PartitionId,
        places: &[Location],
    ) -> Result<Vec<Bytes>, StoreError> {
        let runs = places.chunk_by(|a, b| {
            a.offset == b.offset
                && b.start >= a.start
                && b.start.saturating_sub(a.start + a.len) < COALESCE_GAP_BYTES
        });
        let runs: Vec<Vec<Location>> = runs.map(<[Location]>::to_vec).collect();
        let parts: Vec<Vec<Bytes>> = stream::iter(runs)
            .map(|run| async move { self.run(partition, &run).await })
            .buffered(READ_AHEAD)
            .try_collect()
            .await?;
        Ok(parts.into_iter().flatten().collect())
    }
}
