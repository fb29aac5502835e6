//! Opens a partition: from checkpoints of its index, then from the log itself.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::{LogReader, corrupt};
use crate::alarms::{CopyKind, refused};
use crate::error::{StoreError, StoreErrorKind};
use crate::log::s3_commit_store::READ_AHEAD;
use crate::ports::object_store::list_all;
use oms_core::domain::ids::{Offset, PartitionId};
use oms_core::log::identity::{Before, Foreign, Ownership, judge};
use oms_core::log::keys;
use oms_core::log::lead::Lead;
use oms_core::log::partition::PartitionLog;
use oms_core::log::segment::Segment;

/// Chooses the spans that continue from `end`, each time the one that reaches furthest: the fewest
/// that cover all that can be covered. They may overlap.
fn cover(stretches: &[(Offset, Offset)], mut end: Offset) -> Vec<(Offset, Offset)> {
    let mut chosen = Vec::new();
    while let Some(&next) = stretches
        .iter()
        .filter(|(from, to)| *from <= end && *to > end)
        .max_by_key(|(_, to)| *to)
    {
        chosen.push(next);
        end = next.1;
    }
    chosen
}

/// Why a segment is not used.
#[derive(Debug, Clone, Copy)]
enum Useless {
    /// It cannot be read, or is missing.
    Damaged,
    /// It is not of this log.
    Foreign(Foreign),
}

impl LogReader {
    /// Opens a partition as far as the bucket holds it: from the index segments that can be
    /// trusted, then from the commits after them. Where PostgreSQL leads, the caller continues
    /// there.
    pub async fn open(
        &self,
        partition: PartitionId,
        now: Timestamp,
    ) -> Result<PartitionLog, StoreError> {
        self.confirm_bucket().await?;
        let mut log = PartitionLog::new(partition);
        log.commands_mut().tell_time(now);
        self.alarms().clear(CopyKind::Index, partition);
        self.restore_segments(&mut log).await?;
        self.catch_up(&mut log, Lead::S3).await?;
        Ok(log)
    }

    /// Whether the bucket holds checkpoints of the partition's index, and so once had its log.
    pub async fn has_index(&self, partition: PartitionId) -> Result<bool, StoreError> {
        let found = self.store.list(&keys::segments(partition), None, 1).await?;
        Ok(!found.is_empty())
    }

    async fn restore_segments(&self, log: &mut PartitionLog) -> Result<(), StoreError> {
        let id = log.id();
        let listed = list_all(&*self.store, &keys::segments(id), None).await?;
        let mut stretches: Vec<(Offset, Offset)> = listed
            .iter()
            .filter_map(|o| keys::parse_segment(&o.key))
            .collect();
        loop {
            let chosen = cover(&stretches, log.next_offset());
            let mut segments = stream::iter(chosen)
                .map(|stretch| async move { Ok((stretch, self.segment(id, stretch).await?)) })
                .buffered(READ_AHEAD);
            let (useless, why) = loop {
                match segments.try_next().await? {
                    // Two segments agree where they overlap, because the log never changes.
                    Some((_, Ok(s))) => {
                        let known = (log.next_offset() - s.from) as usize;
                        let prev = s.prev();
                        log.restore(&s.commits[known..], prev, s.controls);
                    }
                    Some((stretch, Err(why))) => break (stretch, why),
                    None => return Ok(()),
                }
            };
            self.do_without(id, useless, why).await?;
            stretches.retain(|s| *s != useless);
        }
    }

    /// The segment of a span, if it can be trusted: the log must hold the commit with which the
    /// segment ends. Its hash covers all commits before it.
    async fn segment(
        &self,
        id: PartitionId,
        (from, to): (Offset, Offset),
    ) -> Result<Result<Segment, Useless>, StoreError> {
        let bytes = self.store.get(&keys::segment(id, from, to)).await?;
        let Some(segment) = bytes
            .as_deref()
            .and_then(Segment::decode)
            .filter(|s| (s.partition, s.from, s.to) == (id, from, to))
        else {
            return Ok(Err(Useless::Damaged));
        };
        // Commits that only PostgreSQL holds are not covered by any segment that could be verified
        // without it; because `Routes` has no stage yet, both stores are asked.
        let before = match self.find(id, to - 1).await? {
            Some(object) => Before::Commit(object.hash()),
            None => Before::Nothing,
        };
        Ok(match judge(self.id(), &segment.mark(), before, before) {
            Ownership::Ours { .. } => Ok(segment),
            Ownership::Foreign(why) => Err(Useless::Foreign(why)),
        })
    }

    /// Handles a segment that is not used. One that reaches beyond the log stays, with an alarm as
    /// long as it does: it is what is left of acknowledged commits. One of another log is deleted.
    async fn do_without(
        &self,
        id: PartitionId,
        (from, to): (Offset, Offset),
        why: Useless,
    ) -> Result<(), StoreError> {
        let why = match why {
            Useless::Damaged => {
                refused(CopyKind::Index, "damaged");
                tracing::warn!(partition = %id, from, to,
                    "an index segment is damaged or gone; doing without it");
                return Ok(());
            }
            Useless::Foreign(why) => why,
        };
        let what = why.describe(CopyKind::Index.name(), id, to);
        if why == Foreign::Behind {
            let key = keys::segment(id, from, to);
            let message = format!(
                "{what}. Put the missing objects back; to accept their loss, delete {key}. The \
                 partition goes on from where its log ends"
            );
            self.alarms()
                .raise(CopyKind::Index, id, why.as_str(), message);
            return Ok(());
        }
        refused(CopyKind::Index, why.as_str());
        tracing::error!(partition = %id, from, to, reason = why.as_str(),
            "{what}. The index is made from the log instead");
        self.store.delete(&keys::segment(id, from, to)).await
    }

    /// Reads on from the end of `log` to the end of the partition in this store.
    pub async fn catch_up(&self, log: &mut PartitionLog, place: Lead) -> Result<(), StoreError> {
        let id = log.id();
        let Some(store) = self.place(place) else {
            return Ok(());
        };
        loop {
            let from = log.next_offset();
            let end = store.end(id, from).await?;
            if end == from {
                return Ok(());
            }
            let mut commits = std::pin::pin!(self.commits_of(place, id, from, end));
            while let Some(object) = commits.try_next().await? {
                log.apply(&object)
                    .map_err(|e| corrupt("read log", e.to_string()))?;
            }
        }
    }

    /// Stores a checkpoint of a span of the index.
    pub async fn save_segment(&self, segment: &Segment) -> Result<(), StoreError> {
        let bytes = segment.clone().of_log(self.id()).encode().map_err(|e| {
            StoreError::determinate(
                StoreErrorKind::Invalid,
                "s3",
                "save index segment",
                e.to_string(),
            )
        })?;
        let key = keys::segment(segment.partition, segment.from, segment.to);
        self.store.put(&key, bytes.into()).await
    }
}
