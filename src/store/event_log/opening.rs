//! Opening a partition: from checkpoints of its index, then from the log itself.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{EventLog, corrupt};
use crate::domain::ids::{Offset, PartitionId};
use crate::log::keys;
use crate::log::partition::PartitionLog;
use crate::log::segment::Segment;
use crate::migration::lead::Lead;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::object_store::list_all;
use crate::store::s3_commits::READ_AHEAD;

/// The stretches that lead on from `end`, each the one that reaches farthest: the fewest that
/// cover what can be covered. They may overlap.
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

impl EventLog {
    /// Opens a partition as far as the bucket holds it: the index segments that can be trusted,
    /// then the commits after them. Where PostgreSQL leads it goes on there.
    pub async fn open(&self, partition: PartitionId) -> Result<PartitionLog, StoreError> {
        let mut log = PartitionLog::new(partition);
        self.restore_segments(&mut log).await?;
        self.catch_up(&mut log, Lead::S3).await?;
        Ok(log)
    }

    /// Whether the bucket holds checkpoints of the partition's index: then it had a log once.
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
            let useless = loop {
                match segments.try_next().await? {
                    // What two segments both cover is the same in both: the log never changes.
                    Some((_, Some(s))) => {
                        let known = (log.next_offset() - s.from) as usize;
                        let prev = s.prev();
                        log.restore(&s.commits[known..], prev, s.controls);
                    }
                    Some((stretch, None)) => break stretch,
                    None => return Ok(()),
                }
            };
            tracing::warn!(partition = %id, from = useless.0, to = useless.1,
                "an index segment is damaged, gone or not of this log; doing without it");
            stretches.retain(|s| *s != useless);
        }
    }

    /// The segment of a stretch, if it can be trusted: the log, which is the truth, must have the
    /// commit the segment ends with. By its hash that commit vouches for all before it.
    async fn segment(
        &self,
        id: PartitionId,
        (from, to): (Offset, Offset),
    ) -> Result<Option<Segment>, StoreError> {
        let bytes = self.store.get(&keys::segment(id, from, to)).await?;
        let Some(segment) = bytes
            .as_deref()
            .and_then(Segment::decode)
            .filter(|s| (s.partition, s.from, s.to) == (id, from, to))
        else {
            return Ok(None);
        };
        // Commits that PostgreSQL alone holds are covered by no segment in the bucket that could be
        // checked without it: `Routes` knows no stage yet, so both places are looked at.
        let last = self.find(id, to - 1).await?;
        let is_of_this_log = last.is_some_and(|object| object.hash() == segment.prev());
        Ok(is_of_this_log.then_some(segment))
    }

    /// Reads on from where `log` ends to the end of the partition in this place.
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

    /// Stores a checkpoint of a stretch of the index.
    pub async fn save_segment(&self, segment: &Segment) -> Result<(), StoreError> {
        let bytes = segment.encode().map_err(|e| {
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
