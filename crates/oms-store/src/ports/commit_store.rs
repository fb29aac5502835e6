//! The port to one of the two places where the commit objects of the log lie: the bucket, where
//! each is an object, and PostgreSQL, where each is a row with its events beside it.
//!
//! A partition is ONE log. Whichever place leads, the other holds a copy of its beginning, object by
//! object, byte by byte, at the same offsets. So whatever is found at an offset, in either place, is
//! what the log holds there; only where the log *ends* must be asked of the place that leads.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;
use crate::ports::delivery::OutboxRow;
use crate::ports::object_store::Created;
use oms_core::domain::ids::{Epoch, Offset, PartitionId};
use oms_core::log::index::Location;
use oms_core::log::lead::Lead;
use oms_core::log::object::CommitObject;
use oms_core::migration::record::MigrationRow;

/// One place of the log.
///
/// Implementations MUST be linearizable per offset, and MUST rebuild every object byte for byte.
/// An object that is there but cannot be read as what it should be is
/// [`Corrupt`](crate::error::StoreErrorKind::Corrupt), never absent.
#[async_trait]
pub trait CommitStore: Send + Sync + 'static {
    /// Which of the two it is.
    fn place(&self) -> Lead;

    /// Puts an object, if its offset is free. Checks nothing else: for copies, which may be made at
    /// any time by anyone, and for control records and appends in the bucket, whose fence is the
    /// offset itself.
    async fn put(&self, object: &CommitObject) -> Result<Created, StoreError>;

    /// Puts copies that follow one another, all or some of them, and answers the first offset that
    /// is not known to be there now. An offset that holds another object is corrupt. PostgreSQL
    /// takes only what goes on from its end.
    async fn copy(&self, objects: &[Arc<CommitObject>]) -> Result<Offset, StoreError>;

    /// The object at an offset; `None` when there is none.
    async fn get(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<CommitObject>, StoreError>;

    /// The objects `from..to` in order, up to the first that is missing, or fewer when they are
    /// large; at least the one at `from`, if it is there.
    async fn span(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<CommitObject>, StoreError>;

    /// The first offset at or after `from` that holds nothing.
    async fn end(&self, partition: PartitionId, from: Offset) -> Result<Offset, StoreError>;

    /// The events at these places of a partition, in order, without the ends of their lines.
    async fn events(
        &self,
        partition: PartitionId,
        places: &[Location],
    ) -> Result<Vec<Bytes>, StoreError>;
}

/// What became of an append to PostgreSQL; each is determinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is there.
    Created,
    /// The offset was taken.
    Exists,
    /// PostgreSQL does not lead, not at rest, or not under the append's epoch; the row it was
    /// refused by. `None`: there is no row.
    Fenced(Option<MigrationRow>),
    /// The object before it, by its `prev`, is not there: it was not formed on this log.
    Unchained,
}

/// PostgreSQL as the place that leads.
#[async_trait]
pub trait LeadingTable: CommitStore {
    /// Appends in one transaction: the row of the migration is read `FOR SHARE` and must allow it
    /// ([`may_append_in_postgres`](oms_core::migration::fence::may_append_in_postgres)), the object goes
    /// to its free offset on top of its predecessor, and the outbox takes in `rows` together with
    /// its watermark, if that stands at this offset (otherwise the tailer will bring them).
    async fn append(
        &self,
        object: &CommitObject,
        rows: &[OutboxRow],
        epoch: Epoch,
    ) -> Result<Appended, StoreError>;
}
