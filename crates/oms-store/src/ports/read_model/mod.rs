//! The port to the read model, which answers queries. Derived from the log and disposable (law 11).
//!
//! A *generation* is one complete copy of the read model with the offsets that it has reached; both
//! change only together. One generation is *live*: queries read it. During a rebuild a second one
//! is *building*: it is filled from offset 0 while the live one is updated further, and replaces it
//! in one transaction when it has reached the live one's offsets in every partition, so that
//! readers never see an older state than before.
//!
//! Partitions are projected independently, so that an instance may be stored before its class is.
//! Rows are therefore joined when they are read: an instance is visible only under the incarnation
//! of its class in which it was created, a class only under the incarnation of its database.
//!
//! * [`query`]: queries; [`field`], [`sort`] and [`cursor`] are their parts
//! * [`status`]: a projection as operators see it

pub mod cursor;
pub mod field;
pub mod query;
pub mod sort;
pub mod status;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::value::RawValue;

pub use self::query::{ClassQuery, InstanceQuery, ListQuery};
pub use self::status::ProjectionStatus;
use crate::error::StoreError;
use oms_core::domain::ids::{ClassId, DatabaseName, InstanceId, Offset, PartitionId, Version};
use oms_core::log::identity::{Anchor, Mark};
use oms_core::log::object::ObjectHash;
use oms_core::projection::changes::{Changes, ParkedEvent};

/// Number of a generation; incremented by each rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

/// A generation and its progress.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationState {
    /// The generation's number.
    pub generation: Generation,
    /// The offset after the last commit applied, by partition.
    pub next: Vec<Offset>,
    /// The commit at which it stands in each partition, if recorded.
    pub anchors: Vec<Option<Anchor>>,
    /// Events that could not be applied.
    pub parked: u64,
    /// Seconds since it was begun, by the store's clock.
    pub age_seconds: f64,
}

impl GenerationState {
    /// Its progress in a partition, as the mark of a copy.
    pub fn mark(&self, partition: PartitionId) -> Mark {
        let at = usize::from(partition.0);
        Mark {
            next: self.next.get(at).copied().unwrap_or(0),
            anchor: self.anchors.get(at).copied().flatten(),
        }
    }
}

/// The existing generations.
#[derive(Debug, Clone, PartialEq)]
pub struct Generations {
    /// The generation that queries read.
    pub live: GenerationState,
    /// The generation that will replace it.
    pub building: Option<GenerationState>,
}

/// A span of one partition: the commits `from..to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The partition.
    pub partition: PartitionId,
    /// First commit applied.
    pub from: Offset,
    /// First commit not applied.
    pub to: Offset,
    /// Hash of the commit before `from`, as recorded in the generation; `None` if it is not.
    pub before: Option<ObjectHash>,
    /// Hash of the commit before `to`.
    pub after: ObjectHash,
}

/// What one transaction applies.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The generation to apply it to.
    pub generation: Generation,
    /// The spans, each partition at most once.
    pub moves: Vec<Move>,
    /// The last state of everything the events changed.
    pub changes: Changes,
    /// Events that could not be applied.
    pub parked: Vec<ParkedEvent>,
}

/// The outcome of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It was applied.
    Yes,
    /// Nothing was applied: the generation does not exist any more, or is not where the batch
    /// begins, because another process has moved it.
    Moved,
    /// Nothing was applied: the store cannot store something in it. The text says what.
    Unfit(String),
}

/// A resource in the read model.
#[derive(Debug, Clone)]
pub struct Record {
    /// Database name, class id or instance id.
    pub id: String,
    /// Version of its stream.
    pub version: Version,
    /// The database's description (`{"description": …}`), the class's definition, or the instance's
    /// data (members in the store's order).
    pub data: Box<RawValue>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A page of records.
#[derive(Debug, Clone, Default)]
pub struct RecordPage {
    /// The records.
    pub items: Vec<Record>,
    /// Number of matches on all pages, counted exactly for the first page. `None` for lists of
    /// databases and classes.
    pub total: Option<u64>,
    /// The cursor of the next page; `None` at the end.
    pub next_cursor: Option<String>,
}

/// A read model.
///
/// Reading: rows are those of existing resources only; a class that does not exist, or whose
/// database does not, has no instances. A page may be shorter than its limit if its data are large;
/// only `next_cursor: None` means the end.
#[async_trait]
pub trait ReadModel: Send + Sync + 'static {
    /// The generations with their offsets in `partitions` partitions; creates an empty live one if
    /// there is none.
    async fn generations(&self, partitions: u16) -> Result<Generations, StoreError>;

    /// Applies a batch with its offsets in one transaction. MUST do nothing unless every move
    /// begins where the generation is, at the same commit of the same log, and MUST NOT change rows
    /// that have a newer version; so a batch can be repeated, and several processes can try.
    async fn apply(&self, batch: Batch) -> Result<Applied, StoreError>;

    /// Starts a rebuild, or returns the one under way.
    async fn begin_rebuild(&self) -> Result<Generation, StoreError>;

    /// Replaces the live generation by the building one and drops it, in one transaction; `false`
    /// if the building one has not caught up, or does not exist. `in_any_case`: even if it has not
    /// caught up, because the live one belongs to another end of the log.
    async fn swap(&self, building: Generation, in_any_case: bool) -> Result<bool, StoreError>;

    /// Drops a generation of another log. If it is the live one, an empty live one is created.
    async fn discard(&self, generation: Generation) -> Result<(), StoreError>;

    /// Records the commit at which a generation stands in a partition, which the caller has
    /// verified to be in this log; only if the generation is still at `from`.
    async fn mark(
        &self,
        generation: Generation,
        partition: PartitionId,
        from: Mark,
        hash: ObjectHash,
    ) -> Result<(), StoreError>;

    /// Parked events of the live generation in log order, at most `limit` (1 to 1,000).
    async fn parked(&self, limit: u32) -> Result<Vec<ParkedEvent>, StoreError>;

    /// One database.
    async fn database(&self, name: &DatabaseName) -> Result<Option<Record>, StoreError>;

    /// Databases by name.
    async fn databases(&self, page: &ListQuery) -> Result<RecordPage, StoreError>;

    /// One class.
    async fn class(&self, db: &DatabaseName, id: &ClassId) -> Result<Option<Record>, StoreError>;

    /// Classes of a database by id.
    async fn classes(&self, db: &DatabaseName, page: &ListQuery) -> Result<RecordPage, StoreError>;

    /// One instance.
    async fn instance(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        id: &InstanceId,
    ) -> Result<Option<Record>, StoreError>;

    /// A page of the instances that match the query.
    async fn instances(&self, query: &ClassQuery) -> Result<RecordPage, StoreError>;

    /// The exact number of instances that match.
    async fn count(&self, query: &ClassQuery) -> Result<u64, StoreError>;
}
