//! The port to one of the two stores of the log's commit objects: the bucket, where each is an
//! object, and PostgreSQL, where each is a row with further rows for its events.
//!
//! A partition is ONE log. Whichever store leads, the other one holds a copy of its beginning, with
//! the same bytes at the same offsets. So an object found at an offset in either store is the log's
//! object; only the *end* of the log must be asked of the store that leads.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{StoreError, StoreErrorKind};
use crate::ports::delivery::OutboxRow;
use crate::ports::object_store::Created;
use oms_core::domain::ids::{Epoch, Offset, PartitionId};
use oms_core::log::index::Location;
use oms_core::log::keys;
use oms_core::log::lead::Lead;
use oms_core::log::object::CommitObject;
use oms_core::migration::record::MigrationRow;

/// One of the log's stores.
///
/// Implementations MUST be linearizable per offset, and MUST rebuild every object byte for byte. An
/// object that exists but is not a valid object of its offset is
/// [`Corrupt`](crate::error::StoreErrorKind::Corrupt), never absent.
#[async_trait]
pub trait CommitStore: Send + Sync + 'static {
    /// Which of the two stores it is.
    fn place(&self) -> Lead;

    /// Puts an object if its offset is free. Checks nothing else: used for copies, which any
    /// process may make at any time, and for control records and appends in the bucket, where the
    /// offset itself is the fence.
    async fn put(&self, object: &CommitObject) -> Result<Created, StoreError>;

    /// Puts consecutive copies, all or some of them, and returns the first offset that is not known
    /// to be occupied now. An offset with another object is corrupt. PostgreSQL accepts only
    /// objects that continue its end.
    async fn copy(&self, objects: &[Arc<CommitObject>]) -> Result<Offset, StoreError>;

    /// The object at an offset; `None` if there is none.
    async fn get(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<CommitObject>, StoreError>;

    /// The objects `from..to` in order, up to the first missing one, or fewer if they are large; at
    /// least the one at `from`, if it exists.
    async fn span(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<CommitObject>, StoreError>;

    /// The first free offset at or after `from`.
    async fn end(&self, partition: PartitionId, from: Offset) -> Result<Offset, StoreError>;

    /// The events at these locations of a partition, in order, without line ends.
    /// [`NotFound`](StoreErrorKind::NotFound) if this store lacks one of their commits, which the
    /// other one may have.
    async fn events(
        &self,
        partition: PartitionId,
        places: &[Location],
    ) -> Result<Vec<Bytes>, StoreError>;
}

/// This store lacks a commit; the other one may have it.
pub fn no_such_commit(
    store: &'static str,
    operation: &'static str,
    partition: PartitionId,
    offset: Offset,
) -> StoreError {
    let message = format!("{} is missing", keys::commit(partition, offset));
    StoreError::determinate(StoreErrorKind::NotFound, store, operation, message)
}

/// The outcome of an append to PostgreSQL; all variants are determinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// The object was inserted.
    Created,
    /// The offset was occupied.
    Exists,
    /// PostgreSQL does not lead, a hand-off is under way, or the append's epoch is not the current
    /// one; with the row that says so. `None`: there is no row.
    Fenced(Option<MigrationRow>),
    /// The object named by its `prev` is not its predecessor here: it was formed on another log.
    Unchained,
}

/// PostgreSQL as the store that leads.
#[async_trait]
pub trait LeadingTable: CommitStore {
    /// Appends in one transaction: the row of the migration is read `FOR SHARE` and must allow it
    /// ([`may_append_in_postgres`](oms_core::migration::fence::may_append_in_postgres)), the object
    /// is inserted at its free offset after its predecessor, and `rows` are added to the outbox
    /// together with its watermark, if that is at this offset (otherwise the tailer will insert
    /// them).
    async fn append(
        &self,
        object: &CommitObject,
        rows: &[OutboxRow],
        epoch: Epoch,
    ) -> Result<Appended, StoreError>;
}
