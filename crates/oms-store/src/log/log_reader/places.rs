//! Seeks an object in both stores, in the order that the routes name.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{LogReader, corrupt, not_there};
use crate::error::{StoreError, StoreErrorKind};
use crate::metrics;
use oms_core::domain::ids::{Offset, PartitionId};
use oms_core::log::lead::Lead;
use oms_core::log::object::CommitObject;

impl LogReader {
    /// Only the store that leads can tell that an object is absent; any store can tell that it is
    /// there.
    pub(super) async fn get_or_fall_back(
        &self,
        lead: Lead,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<CommitObject>, StoreError> {
        let Some(store) = self.place(lead) else {
            return Err(not_there(partition, offset));
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

    /// The commit object at an offset, in either store.
    pub(super) async fn find(
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

    /// An object that is known to be in the log, from the first store that has it.
    async fn one_of(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Arc<CommitObject>, StoreError> {
        if let Some(object) = self.cache.get(partition, offset) {
            return Ok(object);
        }
        let order = self.routes.order(partition, offset + 1);
        let get = |place| self.get_from(place, partition, offset);
        self.ask_places(partition, offset, order, get).await
    }

    pub(super) async fn get_from(
        &self,
        place: Lead,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Arc<CommitObject>, StoreError> {
        let found = match self.place(place) {
            Some(store) => store.get(partition, offset).await?,
            None => None,
        };
        found
            .map(Arc::new)
            .ok_or_else(|| not_there(partition, offset))
    }

    /// Reads what is known to be in the log, up to the commit `last`. Routes are hints: what is in
    /// none of their stores is sought in the other one. What is nowhere is lost.
    pub(super) async fn read_known<T, F>(
        &self,
        partition: PartitionId,
        last: Offset,
        read: impl Fn(Lead) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let is_lacking = |e: &StoreError| e.kind == StoreErrorKind::NotFound;
        let order = self.routes.order(partition, last + 1);
        let first = match self.ask_places(partition, last, order, &read).await {
            Err(error) if is_lacking(&error) => error,
            found => return found,
        };
        let rest: Vec<Lead> = [Lead::S3, Lead::Postgres]
            .into_iter()
            .filter(|place| !order.contains(place) && self.place(*place).is_some())
            .collect();
        match self.ask_places(partition, last, &rest, &read).await {
            // The first one names the commit; the second may not have been asked.
            Err(error) if is_lacking(&error) => Err(corrupt("read log", first.message)),
            Ok(found) => {
                if let ([asked, ..], [other, ..]) = (order, &rest[..]) {
                    self.fell_back(*asked, *other, &first);
                }
                Ok(found)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the stores in order: the next one only if one cannot be reached or lacks the object,
    /// never if what it has is damaged.
    async fn ask_places<T, F>(
        &self,
        partition: PartitionId,
        last: Offset,
        order: &[Lead],
        read: impl Fn(Lead) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut failed: Option<(Lead, StoreError)> = None;
        for place in order {
            match (read(*place).await, &failed) {
                (Ok(found), None) => return Ok(found),
                (Ok(found), Some((first, error))) => {
                    self.fell_back(*first, *place, error);
                    return Ok(found);
                }
                (Err(e), _) if e.is_transient() || e.kind == StoreErrorKind::NotFound => {
                    // Among failures, one to reach a store says more than a missing object.
                    let says_more = failed.as_ref().is_none_or(|(_, f)| !f.is_transient());
                    if says_more {
                        failed = Some((*place, e));
                    }
                }
                (Err(e), _) => return Err(e),
            }
        }
        Err(failed.map_or_else(|| not_there(partition, last), |(_, error)| error))
    }

    fn fell_back(&self, from: Lead, to: Lead, error: &StoreError) {
        // Not counted before the stage is known, because the order is arbitrary then.
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
        metrics::fallback_read(from, to, error.kind);
        tracing::debug!(?from, ?to, %error, "read from the other place");
    }
}
