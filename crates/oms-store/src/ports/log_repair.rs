//! The port to one place of the log for whoever proves or mends it: what lies there, right or
//! wrong, and how to put right in the place of wrong. Everyone else uses
//! [`commit_store`](crate::ports::commit_store).
//!
//! Whatever is taken away is kept: bytes of objects under `quarantine/` in the bucket by whoever
//! mends, rows in PostgreSQL's table `log_quarantine`, keys under `quarantine/` by the bucket's
//! adapter.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;
use oms_core::domain::ids::{Offset, PartitionId, Version};
use oms_core::log::lead::Lead;
use oms_core::log::object::{CommitObject, ObjectHash};
use oms_core::proof::divergence::StrayName;

/// Strays and gaps of a partition that one survey lists; more need more than one repair.
pub const MAX_SURVEYED: usize = 1_000;

/// Something in a place that is no part of its log, or contradicts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// What it is.
    pub name: StrayName,
    /// What is wrong with it.
    pub why: String,
    /// The offset it stands at, or claims to.
    pub offset: Offset,
    /// The event's stream and version, as far as the place tells.
    pub event: Option<(String, Version)>,
    /// SHA-256 of its bytes, where they were read.
    pub digest: Option<String>,
    /// Whether it is a row of an object that is there: then the object has to be put right, not the
    /// row taken away.
    pub within_object: bool,
}

/// What a place holds of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The offset after the last object, whatever is missing before it.
    pub reach: Offset,
    /// Offsets below it that hold nothing.
    pub gaps: Vec<Range<Offset>>,
    /// What is there and should not be.
    pub strays: Vec<Stray>,
    /// Whether there is more than [`MAX_SURVEYED`] of either.
    pub truncated: bool,
}

/// What became of putting something right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mended {
    /// It is right now.
    Yes,
    /// What is there is not what was seen: look again.
    Changed,
}

/// What to do with rows elsewhere in the same place that claim to be events of an object that is
/// put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rivals {
    /// Take them away: in a copy, which holds what its leader holds.
    TakeAway,
    /// Put nothing: in the leader, nothing is touched that was not named.
    Refuse,
}

/// See the module.
#[async_trait]
pub trait LogRepair: Send + Sync + 'static {
    /// Which place it is.
    fn place(&self) -> Lead;

    /// Looks through a partition from `from` on.
    async fn survey(&self, partition: PartitionId, from: Offset) -> Result<Survey, StoreError>;

    /// What lies in no partition there is, `partitions` being their number.
    async fn foreign(&self, partitions: u16) -> Result<Vec<Stray>, StoreError>;

    /// The bytes at an offset, whatever they are.
    async fn raw(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Bytes>, StoreError>;

    /// Puts an object in the place of what is at its offset, if that still has the hash `wrong`
    /// (`None`: nothing is there).
    async fn replace(
        &self,
        object: &CommitObject,
        wrong: Option<ObjectHash>,
        rivals: Rivals,
    ) -> Result<Mended, StoreError>;

    /// Takes away what is at an offset beyond the end of the log, if it still has the hash `wrong`.
    async fn remove(
        &self,
        partition: PartitionId,
        offset: Offset,
        wrong: ObjectHash,
    ) -> Result<Mended, StoreError>;

    /// Moves a stray into quarantine. Nothing happens if it is none (any more).
    async fn quarantine(&self, stray: &StrayName) -> Result<Mended, StoreError>;
}

/// PostgreSQL's tables of the log, once they have retired.
#[async_trait]
pub trait RetiredTables: Send + Sync + 'static {
    /// Empties them in one transaction, if each partition ends where `ends` says and every
    /// partition is at rest in `s3_only`; says whether.
    async fn empty(&self, ends: &[(PartitionId, Offset)]) -> Result<bool, StoreError>;
}
