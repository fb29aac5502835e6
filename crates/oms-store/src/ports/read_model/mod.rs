//! The port to the read model: what queries read. Derived from the log and disposable (law 11).
//!
//! A *generation* is one complete copy of the read model with the offsets it has reached, changed
//! only together. One generation is *live*: queries read it. During a rebuild a second one is
//! *building*: it is filled from offset 0 while the live one goes on, and takes its place in one
//! transaction as soon as it has reached the live one's offsets in every partition, so no reader
//! ever sees time run backwards.
//!
//! Partitions are projected independently, so an instance may be known before its class is. Rows
//! are therefore joined when they are read: an instance is seen only under the incarnation of its
//! class it was created in, a class only under the incarnation of its database.
//!
//! * [`query`]: what may be asked; [`field`] and [`cursor`] are its parts
//! * [`status`]: a projection as operators see it

pub mod cursor;
pub mod field;
#[cfg(feature = "openapi")]
mod openapi;
pub mod query;
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

/// Number of a generation; grows by one at each rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

/// A generation and how far it has got.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationState {
    /// Which.
    pub generation: Generation,
    /// The offset after the last commit taken in, by partition.
    pub next: Vec<Offset>,
    /// What it stands on in each of them, if it says so.
    pub anchors: Vec<Option<Anchor>>,
    /// Events it could not take in.
    pub parked: u64,
    /// Seconds since it was begun, by the store's clock.
    pub age_seconds: f64,
}

impl GenerationState {
    /// How far it has got in a partition, and what it stands on.
    pub fn mark(&self, partition: PartitionId) -> Mark {
        let at = usize::from(partition.0);
        Mark {
            next: self.next.get(at).copied().unwrap_or(0),
            anchor: self.anchors.get(at).copied().flatten(),
        }
    }
}

/// The generations there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Generations {
    /// The one that queries read.
    pub live: GenerationState,
    /// The one that is to replace it.
    pub building: Option<GenerationState>,
}

/// A stretch of one partition: the commits `from..to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The partition.
    pub partition: PartitionId,
    /// First commit taken in.
    pub from: Offset,
    /// First commit not taken in.
    pub to: Offset,
    /// Hash of the commit before `from`, as the generation says it; `None` if it does not.
    pub before: Option<ObjectHash>,
    /// Hash of the commit before `to`.
    pub after: ObjectHash,
}

/// What one transaction takes in.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Into which generation.
    pub generation: Generation,
    /// From where to where, each partition at most once.
    pub moves: Vec<Move>,
    /// The last state of everything the events changed.
    pub changes: Changes,
    /// Events that could not be taken in.
    pub parked: Vec<ParkedEvent>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It is in the read model.
    Yes,
    /// Nothing happened: the generation is gone, or is not where the batch begins, since somebody
    /// else moved it on.
    Moved,
    /// Nothing happened: the store cannot hold something in it. Says what, for a person.
    Unfit(String),
}

/// A resource as the read model has it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Database name, class id or instance id.
    pub id: String,
    /// Version of its stream.
    pub version: Version,
    /// The database's description (`{"description": …}`), the class's definition, the instance's
    /// data (its members in the store's order).
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
    /// How many match in all, counted exactly when the first page was read. `None` for lists of
    /// databases and classes.
    pub total: Option<u64>,
    /// Ask with this for what follows; `None` at the end.
    pub next_cursor: Option<String>,
}

/// A read model.
///
/// Reading: rows are those of existing things only; a class that does not exist, or whose database
/// does not, has no instances. A page may be shorter than its limit when its data grows large;
/// only `next_cursor: None` means the end.
#[async_trait]
pub trait ReadModel: Send + Sync + 'static {
    /// The generations with their offsets in `partitions` partitions; makes an empty live one when
    /// there is none.
    async fn generations(&self, partitions: u16) -> Result<Generations, StoreError>;

    /// Takes a batch in, with its offsets, in one transaction. MUST do nothing unless every move
    /// begins where the generation is, on the same commit of the same log, and MUST leave alone whatever it knows in a newer version;
    /// so a batch may be repeated, and several processes may try.
    async fn apply(&self, batch: Batch) -> Result<Applied, StoreError>;

    /// Begins a rebuild; gives the one that is under way if there is one.
    async fn begin_rebuild(&self) -> Result<Generation, StoreError>;

    /// Puts the building generation in the live one's place and drops that one, in one
    /// transaction; `false` when it has not caught up with the live one, or is gone. `in_any_case`:
    /// even if it has not caught up, for a live one that is of another end of the log.
    async fn swap(&self, building: Generation, in_any_case: bool) -> Result<bool, StoreError>;

    /// Drops a generation: it is another log's. A live one leaves none, and an empty one is made.
    async fn discard(&self, generation: Generation) -> Result<(), StoreError>;

    /// Has a generation say what it stands on in a partition, which the caller has found to be this
    /// log's commit; if it is still at `from`.
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

    /// A page of the instances that match.
    async fn instances(&self, query: &ClassQuery) -> Result<RecordPage, StoreError>;

    /// How many instances match, exactly.
    async fn count(&self, query: &ClassQuery) -> Result<u64, StoreError>;
}
