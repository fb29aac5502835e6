//! The crash between the broker's acknowledgement and the deletion, made to happen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use oms_core::domain::ids::{Offset, PartitionId, Position};
use oms_core::log::identity::Mark;
use oms_core::log::object::ObjectHash;
use oms_store::adapters::postgres::outbox::PostgresOutbox;
use oms_store::error::{StoreError, StoreErrorKind};
use oms_store::ports::delivery::*;

/// An outbox in which deletions do not happen while told so: the crash between the broker's
/// acknowledgement and the deletion.
pub struct Undeleting {
    /// The real one.
    pub inner: Arc<PostgresOutbox>,
    /// While this is set, nothing is deleted.
    pub broken: AtomicBool,
}

#[async_trait]
impl DeliveryStore for Undeleting {
    async fn delivered(&self, positions: Vec<Position>) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            let kind = StoreErrorKind::Unavailable;
            return Err(StoreError::indeterminate(
                kind,
                "postgres",
                "delivered",
                "injected",
            ));
        }
        self.inner.delivered(positions).await
    }
    async fn watermarks(&self) -> Result<BTreeMap<PartitionId, Mark>, StoreError> {
        self.inner.watermarks().await
    }
    async fn begin(&self, starts: Vec<(PartitionId, Mark)>) -> Result<(), StoreError> {
        self.inner.begin(starts).await
    }
    async fn mark(
        &self,
        partition: PartitionId,
        from: Mark,
        hash: ObjectHash,
    ) -> Result<(), StoreError> {
        self.inner.mark(partition, from, hash).await
    }
    async fn record(&self, groups: Vec<CommitGroup>) -> Result<Vec<PartitionId>, StoreError> {
        self.inner.record(groups).await
    }
    async fn pending(
        &self,
        after: Vec<(PartitionId, Option<Position>)>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.inner.pending(after, limit).await
    }
    async fn refused(&self, rows: Vec<Refused>) -> Result<(), StoreError> {
        self.inner.refused(rows).await
    }
    async fn lease(
        &self,
        node: &str,
        partitions: u16,
        ttl: Duration,
    ) -> Result<Leases, StoreError> {
        self.inner.lease(node, partitions, ttl).await
    }
    async fn release(&self, node: &str) -> Result<(), StoreError> {
        self.inner.release(node).await
    }
    async fn delivered_watermarks(&self) -> Result<BTreeMap<PartitionId, Offset>, StoreError> {
        self.inner.delivered_watermarks().await
    }
    async fn status(&self) -> Result<DeliveryStatus, StoreError> {
        self.inner.status().await
    }
    async fn dead_letters(
        &self,
        limit: usize,
        after: Option<i64>,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.inner.dead_letters(limit, after).await
    }
    async fn requeue(&self, id: i64) -> Result<bool, StoreError> {
        self.inner.requeue(id).await
    }
    async fn discard(&self, id: i64) -> Result<bool, StoreError> {
        self.inner.discard(id).await
    }
}
