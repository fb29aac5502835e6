//! The port to one of the log's stores for verification and repair: reads what is there, valid or
//! not, and replaces it. All other code uses [`commit_store`](crate::ports::commit_store).
//!
//! Everything that is removed is saved: bytes of objects by the repair, under `quarantine/` in the
//! bucket; rows in PostgreSQL's table `log_quarantine`; other keys by the bucket's adapter, under
//! `quarantine/`.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;
use oms_core::domain::ids::{Offset, PartitionId, Version};
use oms_core::log::lead::Lead;
use oms_core::log::object::{CommitObject, ObjectHash};
use oms_core::proof::divergence::StrayName;

/// Strays and gaps that one survey of a partition lists at most; with more, repairs have to be
/// repeated.
pub const MAX_SURVEYED: usize = 1_000;

/// An object or row that is no part of the log, or contradicts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Identifies it.
    pub name: StrayName,
    /// What is wrong with it.
    pub why: String,
    /// The offset at which it is, or claims to be.
    pub offset: Offset,
    /// The event's stream and version, if known.
    pub event: Option<(String, Version)>,
    /// SHA-256 of its bytes in hex, if they were read.
    pub digest: Option<String>,
    /// Whether it is a row of an existing object: then the object has to be replaced rather than
    /// the row removed.
    pub within_object: bool,
}

/// What a store holds of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The offset after the last object, whatever is missing before it.
    pub reach: Offset,
    /// Offsets below it without an object.
    pub gaps: Vec<Range<Offset>>,
    /// Objects or rows that should not be there.
    pub strays: Vec<Stray>,
    /// Whether there are more than [`MAX_SURVEYED`] of either.
    pub truncated: bool,
}

/// The outcome of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mended {
    /// Repaired.
    Yes,
    /// What is there is not what the caller saw: inspect it again.
    Changed,
}

/// What to do with rows elsewhere in the same store that claim to be events of an object that is
/// inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rivals {
    /// Remove them: for a copy, whose content is determined by its leader.
    TakeAway,
    /// Insert nothing: for the leader, where nothing is touched that no order names.
    Refuse,
}

/// Inspects and repairs the log in one store.
#[async_trait]
pub trait LogRepair: Send + Sync + 'static {
    /// Which store it is.
    fn place(&self) -> Lead;

    /// Inspects a partition from `from` on.
    async fn survey(&self, partition: PartitionId, from: Offset) -> Result<Survey, StoreError>;

    /// Objects or rows outside the `partitions` partitions of the log.
    async fn foreign(&self, partitions: u16) -> Result<Vec<Stray>, StoreError>;

    /// The bytes at an offset, valid or not.
    async fn raw(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Bytes>, StoreError>;

    /// Puts an object at its offset, if what is there still has the hash `wrong` (`None`: nothing
    /// is there).
    async fn replace(
        &self,
        object: &CommitObject,
        wrong: Option<ObjectHash>,
        rivals: Rivals,
    ) -> Result<Mended, StoreError>;

    /// Removes what is at an offset beyond the end of the log, if it still has the hash `wrong`.
    async fn remove(
        &self,
        partition: PartitionId,
        offset: Offset,
        wrong: ObjectHash,
    ) -> Result<Mended, StoreError>;

    /// The hash of what a stray holds; `None` if it is not there.
    async fn stray_hash(&self, stray: &StrayName) -> Result<Option<ObjectHash>, StoreError>;

    /// Moves a stray with this hash into quarantine, unless it is none any more.
    async fn quarantine(&self, stray: &StrayName, seen: ObjectHash) -> Result<Mended, StoreError>;
}

/// PostgreSQL's tables of the log, when they have retired.
#[async_trait]
pub trait RetiredTables: Send + Sync + 'static {
    /// Empties them in one transaction, if each partition ends where `ends` says and every
    /// partition is in `s3_only` without a hand-off under way; returns whether it did.
    async fn empty(&self, ends: &[(PartitionId, Offset)]) -> Result<bool, StoreError>;
}
