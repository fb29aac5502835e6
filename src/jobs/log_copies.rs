//! Reads both stores of the log side by side: many objects at once while they are intact, one by
//! one where something is wrong.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::domain::ids::{Offset, PartitionId};
use crate::log::index::Location;
use crate::log::lead::Lead;
use crate::log::object::CommitObject;
use crate::proof::digest::RollingDigest;
use crate::proof::found::{Damage, Found};
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::ports::commit_store::CommitStore;
use crate::store::ports::log_repair::LogRepair;

/// Objects requested at once; a store may return fewer if they are large.
const SPAN: Offset = 256;

/// Objects inspected concurrently where something is wrong.
const LOOKS: usize = 8;

const DIGEST_CHUNK: usize = 500;

/// The log in one store.
#[derive(Clone)]
pub struct LogCopy {
    /// Reads it as the log.
    pub log: Arc<dyn CommitStore>,
    /// Reads the raw objects or rows.
    pub log_repair: Arc<dyn LogRepair>,
}

/// The log in both stores.
#[derive(Clone)]
pub struct LogCopies {
    pub s3: LogCopy,
    pub postgres: LogCopy,
    pub partitions: u16,
}

impl LogCopies {
    pub fn of(&self, place: Lead) -> &LogCopy {
        match place {
            Lead::S3 => &self.s3,
            Lead::Postgres => &self.postgres,
        }
    }

    pub fn partition_ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.partitions).map(PartitionId)
    }
}

pub fn other(place: Lead) -> Lead {
    place.other()
}

impl LogCopy {
    /// What is at an offset.
    pub async fn inspect(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Found, StoreError> {
        match self.log.get(partition, offset).await {
            Ok(Some(object)) => Ok(Found::Object(Arc::new(object))),
            Ok(None) => Ok(Found::Absent),
            Err(error) if error.kind == StoreErrorKind::Corrupt => {
                let why = error.message.clone();
                // Removed in between: absent.
                Ok(match self.log_repair.raw(partition, offset).await? {
                    Some(bytes) => Found::Damaged(Damage { bytes, why }),
                    None => Found::Absent,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// What is at `from..to`, or at its beginning: at least one offset.
    async fn stretch(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Result<VecDeque<Found>, StoreError> {
        match self.log.span(partition, from, to).await {
            Ok(objects) if !objects.is_empty() => {
                let sound = objects
                    .into_iter()
                    .zip(from..to)
                    .take_while(|(object, offset)| object.header.offset == *offset);
                let objects: VecDeque<Found> = sound
                    .map(|(object, _)| Found::Object(Arc::new(object)))
                    .collect();
                if !objects.is_empty() {
                    return Ok(objects);
                }
            }
            Ok(_) => return Ok(VecDeque::from([self.inspect(partition, from).await?])),
            Err(error) if error.kind == StoreErrorKind::Corrupt => {}
            Err(error) => return Err(error),
        }
        // Something in it is wrong: each offset is inspected once.
        stream::iter(from..to)
            .map(|offset| self.inspect(partition, offset))
            .buffered(LOOKS)
            .try_collect()
            .await
    }
}

/// Reads both stores in step.
pub struct SideBySide<'a> {
    places: &'a LogCopies,
    partition: PartitionId,
    next: Offset,
    to: Offset,
    s3: VecDeque<Found>,
    postgres: VecDeque<Found>,
}

impl<'a> SideBySide<'a> {
    /// Reads `from..to` of a partition.
    pub fn new(places: &'a LogCopies, partition: PartitionId, from: Offset, to: Offset) -> Self {
        Self {
            places,
            partition,
            next: from,
            to,
            s3: VecDeque::new(),
            postgres: VecDeque::new(),
        }
    }

    /// What both stores have at the next offset; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<(Found, Found)>, StoreError> {
        if self.next >= self.to {
            return Ok(None);
        }
        let to = self.to.min(self.next + SPAN);
        let fill = async |queue: &mut VecDeque<Found>, place: &LogCopy| {
            if queue.is_empty() {
                *queue = place.stretch(self.partition, self.next, to).await?;
            }
            Ok::<(), StoreError>(())
        };
        tokio::try_join!(
            fill(&mut self.s3, &self.places.s3),
            fill(&mut self.postgres, &self.places.postgres),
        )?;
        let pair = (
            self.s3.pop_front().unwrap_or(Found::Absent),
            self.postgres.pop_front().unwrap_or(Found::Absent),
        );
        self.next += 1;
        Ok(Some(pair))
    }
}

/// Digest of one stream in one store. `locations` come from the index of either store: events have
/// the same offsets in both.
pub async fn digest_of_stream(
    log: &dyn CommitStore,
    partition: PartitionId,
    locations: &[Location],
) -> Result<RollingDigest, StoreError> {
    let mut digest = RollingDigest::default();
    for chunk in locations.chunks(DIGEST_CHUNK) {
        for event in log.events(partition, chunk).await? {
            digest.take(&event);
        }
    }
    Ok(digest)
}

/// Number of streams whose first event is in this object.
pub fn beginnings(object: &CommitObject) -> u64 {
    if object.event_count() == 0 {
        return 0;
    }
    // The envelope's own member comes before the data, which may contain anything.
    const MEMBER: &[u8] = b"\"streamversion\":";
    let first = |range: &std::ops::Range<u32>| {
        let line = &object.bytes[range.start as usize..range.end as usize];
        memchr::memmem::find(line, MEMBER)
            .is_some_and(|at| line[at + MEMBER.len()..].starts_with(b"1,"))
    };
    object.lines.iter().filter(|range| first(range)).count() as u64
}
