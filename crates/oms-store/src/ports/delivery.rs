//! The port to the outbox: events that still have to reach Kafka, and how far the log was written
//! to it.
//!
//! A commit is recorded by one transaction that inserts a row for each of its events and moves the
//! partition's *watermark*; a row is deleted only after the broker acknowledged it, or by an
//! operator. So an event of the log without a row is either beyond the watermark or delivered (law
//! 9).

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

/// An event that waits to be sent to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its position in the log.
    pub position: Position,
    /// The event's id.
    pub event_id: EventId,
    /// Its stream.
    pub stream: StreamName,
    /// Its version in its stream.
    pub version: Version,
    /// The topic to send it to.
    pub topic: String,
    /// The epoch it was committed under.
    pub epoch: Epoch,
    /// The mode it was committed in.
    pub mode: Mode,
    /// First byte in its commit object.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
    /// The event's bytes, if no commit object holds them.
    pub body: Option<Bytes>,
    /// How often the broker refused it.
    pub attempts: u32,
    /// When to retry, if it was refused.
    pub next_attempt: Option<Timestamp>,
}

/// Commits of one partition, recorded together.
#[derive(Debug, Clone)]
pub struct CommitGroup {
    /// The partition.
    pub partition: PartitionId,
    /// The watermark before them.
    pub from: Offset,
    /// The watermark after them.
    pub to: Offset,
    /// Hash of the commit before `from`, as recorded in the outbox; `None` if it is not.
    pub before: Option<ObjectHash>,
    /// Hash of the last of these commits.
    pub after: ObjectHash,
    /// The rows of their events, in order; none for control records.
    pub rows: Vec<OutboxRow>,
}

/// A row that the broker refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its position.
    pub position: Position,
    /// The broker's message.
    pub reason: String,
    /// How often it was refused so far.
    pub attempts: u32,
    /// When to retry; `None` makes it a dead letter.
    pub next_attempt: Option<Timestamp>,
}

/// The delivery of one partition.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PartitionDelivery {
    /// The partition.
    pub partition: PartitionId,
    /// Offset after the last commit recorded in the outbox.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub watermark: Offset,
    /// Offset before which every event was delivered.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub delivered: Offset,
    /// Commits not recorded yet, if the log's head is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub lag: Option<u64>,
    /// The node that holds its lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub lease_owner: Option<String>,
    /// When the lease expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub lease_until: Option<Timestamp>,
}

/// The state of the outbox: depth, age, watermarks.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Delivery))]
pub struct DeliveryStatus {
    /// Rows in the outbox.
    pub depth: u64,
    /// Age of the oldest row, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub oldest_seconds: Option<f64>,
    /// Number of dead letters.
    pub dead_letters: u64,
    /// Each partition that was ever recorded.
    pub partitions: Vec<PartitionDelivery>,
    /// Halts of delivery, as far as this process publishes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub halted: Vec<Halt>,
}

impl DeliveryStatus {
    /// Fills in the lag behind the log, as this process knows its heads.
    pub fn with_heads(mut self, heads: &LogHeads) -> Self {
        for p in &mut self.partitions {
            let head = heads.next_offset(p.partition);
            p.lag = (head > 0).then(|| head.saturating_sub(p.watermark));
        }
        self
    }
}

/// A row that the broker refused for good.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadLetter {
    /// Its id, for requeue and discard.
    pub id: i64,
    /// The event's position.
    pub position: Position,
    /// The event's id.
    pub event_id: EventId,
    /// Its stream, `type/id`.
    pub stream: String,
    /// Its version in its stream.
    pub version: Version,
    /// The topic that refused it.
    pub topic: String,
    /// How often it was sent.
    pub attempts: u32,
    /// The broker's last message.
    pub last_error: String,
    /// When it was added to the outbox.
    pub created: Timestamp,
    /// When it became a dead letter.
    pub died: Timestamp,
}

/// The partitions that a node publishes, each with the term of its lease: another number each time
/// that a node takes the partition, so that a known term says that nobody else published meanwhile.
pub type Leases = BTreeMap<PartitionId, i64>;

/// The outbox.
///
/// Every write is one transaction. Indeterminate failures need no settling: each call can be
/// repeated.
#[async_trait]
pub trait DeliveryStore: Send + Sync + 'static {
    /// The watermark of each partition that has one. The caller checks by their anchors whether the
    /// outbox is of this log.
    async fn watermarks(&self) -> Result<BTreeMap<PartitionId, Mark>, StoreError>;

    /// Sets the watermark of partitions that have none; leaves others alone.
    async fn begin(&self, starts: Vec<(PartitionId, Mark)>) -> Result<(), StoreError>;

    /// Records the commit at which a watermark stands, which the caller has verified to be in this
    /// log; only if the watermark is still `from`.
    async fn mark(
        &self,
        partition: PartitionId,
        from: Mark,
        hash: ObjectHash,
    ) -> Result<(), StoreError>;

    /// Records groups, each with its watermark; each event gets one row, however often it is
    /// recorded. Returns the partitions that moved. For any other the watermark is not where the
    /// group begins, or stands at another commit or in another log, because another process was
    /// faster or the database was replaced; nothing of that group was written.
    async fn record(&self, groups: Vec<CommitGroup>) -> Result<Vec<PartitionId>, StoreError>;

    /// Waiting rows in position order: of each partition at most `limit`, after a position (`None`:
    /// from the first). None of a partition whose watermark is of another log.
    async fn pending(
        &self,
        after: Vec<(PartitionId, Option<Position>)>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError>;

    /// Deletes rows that the broker has acknowledged.
    async fn delivered(&self, positions: Vec<Position>) -> Result<(), StoreError>;

    /// Records refusals.
    async fn refused(&self, rows: Vec<Refused>) -> Result<(), StoreError>;

    /// Takes, renews and releases leases, so that `partitions` partitions are shared evenly by the
    /// nodes that called within their own `ttl`. Returns what `node` holds for `ttl` from the
    /// moment of the call. A lease that expired and that nobody took is renewed under its term.
    async fn lease(&self, node: &str, partitions: u16, ttl: Duration)
    -> Result<Leases, StoreError>;

    /// Releases every lease of `node`, so that others need not wait for it to expire.
    async fn release(&self, node: &str) -> Result<(), StoreError>;

    /// For each partition an offset before which every event was acknowledged by the broker or
    /// discarded by an operator. A dead letter holds it back.
    async fn delivered_watermarks(&self) -> Result<BTreeMap<PartitionId, Offset>, StoreError>;

    /// The state of the outbox.
    async fn status(&self) -> Result<DeliveryStatus, StoreError>;

    /// Dead letters by id, after the given one.
    async fn dead_letters(
        &self,
        limit: usize,
        after: Option<i64>,
    ) -> Result<Vec<DeadLetter>, StoreError>;

    /// Moves a dead letter back into the outbox, with its attempts reset; false if there is none.
    async fn requeue(&self, id: i64) -> Result<bool, StoreError>;

    /// Removes a dead letter for good; false if there is none.
    async fn discard(&self, id: i64) -> Result<bool, StoreError>;
}
