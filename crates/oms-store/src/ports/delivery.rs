//! The port to the outbox: what still has to reach Kafka, and how far the log has been taken in.
//!
//! A commit is taken in by one transaction that writes a row for each of its events and moves the
//! partition's *watermark*; a row leaves only after the broker acknowledged it, or by an operator's
//! hand. So an event that is in the log and not in the outbox is either beyond the watermark or
//! delivered (law 9).

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use crate::error::StoreError;
use crate::halts::Halt;
use crate::log::log_heads::LogHeads;
use oms_core::domain::ids::{Epoch, EventId, Offset, PartitionId, Position, StreamName, Version};
use oms_core::log::identity::Mark;
use oms_core::log::object::ObjectHash;
use oms_core::migration::stage::Mode;

/// An event on its way to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Where it lies in the log.
    pub position: Position,
    /// The event.
    pub event_id: EventId,
    /// Its stream.
    pub stream: StreamName,
    /// Its number in its stream.
    pub version: Version,
    /// The topic it goes to.
    pub topic: String,
    /// The epoch it was committed under.
    pub epoch: Epoch,
    /// The mode it was committed in.
    pub mode: Mode,
    /// First byte in its commit object.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
    /// The event itself, where no commit object holds it.
    pub body: Option<Bytes>,
    /// How often the broker refused it.
    pub attempts: u32,
    /// When to try again, if it was refused.
    pub next_attempt: Option<Timestamp>,
}

/// Commits of one partition, taken in together.
#[derive(Debug, Clone)]
pub struct CommitGroup {
    /// The partition.
    pub partition: PartitionId,
    /// The watermark it goes on from.
    pub from: Offset,
    /// The watermark after it.
    pub to: Offset,
    /// Hash of the commit the watermark stood on, as the outbox says it; `None` if it does not.
    pub before: Option<ObjectHash>,
    /// Hash of the last commit taken in.
    pub after: ObjectHash,
    /// The rows of its events, in order; none for control records.
    pub rows: Vec<OutboxRow>,
}

/// A row the broker refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub position: Position,
    /// What the broker said.
    pub reason: String,
    /// How often it was refused by now.
    pub attempts: u32,
    /// When to try again; `None` moves it to the dead letters.
    pub next_attempt: Option<Timestamp>,
}

/// How a partition's delivery stands.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PartitionDelivery {
    /// The partition.
    pub partition: PartitionId,
    /// Offset after the last commit taken into the outbox.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub watermark: Offset,
    /// Offset before which every event was delivered.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub delivered: Offset,
    /// Commits not yet taken in, where the log's head is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub lag: Option<u64>,
    /// The node that publishes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub lease_owner: Option<String>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub lease_until: Option<Timestamp>,
}

/// Outbox depth, age, watermarks.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Delivery))]
pub struct DeliveryStatus {
    /// Rows waiting.
    pub depth: u64,
    /// Age of the oldest row waiting, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub oldest_seconds: Option<f64>,
    /// Rows the broker will never take.
    pub dead_letters: u64,
    /// Each partition that was ever taken in.
    pub partitions: Vec<PartitionDelivery>,
    /// Where delivery cannot go on, as far as this process publishes; not there if it goes on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub halted: Vec<Halt>,
}

impl DeliveryStatus {
    /// Fills in the lag behind the log as this process knows it.
    pub fn with_heads(mut self, heads: &LogHeads) -> Self {
        for p in &mut self.partitions {
            let head = heads.next_offset(p.partition);
            p.lag = (head > 0).then(|| head.saturating_sub(p.watermark));
        }
        self
    }
}

/// A row of the outbox that the broker will never take.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadLetter {
    /// Names it for requeue and discard.
    pub id: i64,
    /// Where the event lies.
    pub position: Position,
    /// The event.
    pub event_id: EventId,
    /// Its stream, `type/id`.
    pub stream: String,
    /// Its number in its stream.
    pub version: Version,
    /// The topic that refused it.
    pub topic: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What the broker said last.
    pub last_error: String,
    /// When it came into the outbox.
    pub created: Timestamp,
    /// When it was given up.
    pub died: Timestamp,
}

/// The outbox.
///
/// Every write is one transaction. Indeterminate failures need no settling: each call may simply
/// be made again.
#[async_trait]
pub trait DeliveryStore: Send + Sync + 'static {
    /// How far each partition has been taken in; none that never was. Whether the outbox is of this
    /// log is for the caller to judge, by what each watermark says it stands on.
    async fn watermarks(&self) -> Result<BTreeMap<PartitionId, Mark>, StoreError>;

    /// Gives partitions that have no watermark one; leaves those that have.
    async fn begin(&self, starts: Vec<(PartitionId, Mark)>) -> Result<(), StoreError>;

    /// Has a watermark say what it stands on, which the caller has found to be this log's commit; if
    /// it is still `from`.
    async fn mark(
        &self,
        partition: PartitionId,
        from: Mark,
        hash: ObjectHash,
    ) -> Result<(), StoreError>;

    /// Takes groups in, each with its watermark; each event becomes one row, however often it is
    /// offered. Answers which partitions moved: the watermark of any other is not where the group
    /// begins, or stands on another commit or another log's, because another process was first (or
    /// the database is another one), and nothing of that group was written.
    async fn record(&self, groups: Vec<CommitGroup>) -> Result<Vec<PartitionId>, StoreError>;

    /// Rows waiting, in position order: of each partition at most `limit`, after a position
    /// (`None`: from the first). None of a partition whose watermark is another log's.
    async fn pending(
        &self,
        after: Vec<(PartitionId, Option<Position>)>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError>;

    /// The broker has these: removes them.
    async fn delivered(&self, positions: Vec<Position>) -> Result<(), StoreError>;

    /// The broker refused these.
    async fn refused(&self, rows: Vec<Refused>) -> Result<(), StoreError>;

    /// Takes, renews and gives up leases, so that `partitions` partitions are shared fairly by the
    /// nodes that called within their own `ttl`. Answers what `node` holds for `ttl` from the
    /// moment of the call.
    async fn lease(
        &self,
        node: &str,
        partitions: u16,
        ttl: Duration,
    ) -> Result<Vec<PartitionId>, StoreError>;

    /// Gives up every lease of `node`, so that others need not wait for it.
    async fn release(&self, node: &str) -> Result<(), StoreError>;

    /// For each partition an offset before which every event was acknowledged by the broker or
    /// discarded by an operator. Dead letters hold it back.
    async fn delivered_watermarks(&self) -> Result<BTreeMap<PartitionId, Offset>, StoreError>;

    /// How delivery stands.
    async fn status(&self) -> Result<DeliveryStatus, StoreError>;

    /// Dead letters by id, after one.
    async fn dead_letters(
        &self,
        limit: usize,
        after: Option<i64>,
    ) -> Result<Vec<DeadLetter>, StoreError>;

    /// Puts a dead letter back into the outbox, all attempts open again; false if there is none.
    async fn requeue(&self, id: i64) -> Result<bool, StoreError>;

    /// Removes a dead letter for good; false if there is none.
    async fn discard(&self, id: i64) -> Result<bool, StoreError>;
}
