//! The result of a verification.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::divergence::{Divergence, Divergences};
use crate::domain::ids::{Offset, PartitionId};
use crate::log::lead::Lead;

/// The result for one partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// The partition.
    pub partition: PartitionId,
    /// The leader when it was read; `None` while the lead was being moved.
    pub lead: Option<Lead>,
    /// The first offset compared.
    pub from: Offset,
    /// The offset after the last one compared.
    pub to: Offset,
    /// The offset after S3's last commit.
    pub s3_end: Offset,
    /// The offset after PostgreSQL's last commit.
    pub postgres_end: Offset,
    /// Commits that the copy lacks.
    pub unmirrored: u64,
    /// Commits that the copy holds beyond the end of its leader.
    #[serde(default)]
    pub copy_ahead: u64,
    /// Objects compared.
    pub objects: u64,
    /// Events in the compared objects.
    pub events: u64,
    /// Streams whose first event is in them: for a whole partition all its streams.
    pub streams: u64,
    /// Bytes compared, counted once for both stores.
    pub bytes: u64,
    /// Number of differences.
    pub divergences: u64,
    /// Hash of the object at `to` - 1, which covers all before it: the digest of the partition.
    /// `None` if the correct object is unknown.
    pub digest: Option<String>,
}

impl PartitionReport {
    /// What to report of a copy that reaches further than its leader, and what to do.
    fn ahead(&self) -> Option<String> {
        let lead = self.lead.filter(|_| self.copy_ahead > 0)?;
        let (leader, copy) = match lead {
            Lead::S3 => ("S3", "PostgreSQL"),
            Lead::Postgres => ("PostgreSQL", "S3"),
        };
        Some(format!(
            "partition {}: the copy in {copy} is ahead of the leader, {leader}, by {} commits: \
             {leader} has lost them (restored from a backup?) or they were put into {copy} by \
             mistake. Let nothing more be written; then restore {leader} to where it was, or bring \
             them back with `oms repair --replace-in-leader` (`oms repair --dry-run` says what to \
             name), or, if nobody was told of them, `oms repair --quarantine-beyond-end`",
            self.partition, self.copy_ahead
        ))
    }
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Whether it covered every partition, from offset 0.
    pub full: bool,
    /// Whether there were no differences.
    pub clean: bool,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Time spent, in seconds, without pauses.
    pub seconds: f64,
    /// Events compared per second.
    pub rate: f64,
    /// Objects compared.
    pub objects: u64,
    /// Events compared.
    pub events: u64,
    /// Streams compared.
    pub streams: u64,
    /// Bytes compared, counted once for both stores.
    pub bytes: u64,
    /// Commits that the copies lack.
    pub unmirrored: u64,
    /// Commits that copies hold beyond the ends of their leaders.
    #[serde(default)]
    pub copy_ahead: u64,
    /// These copies, and what to do about them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies_ahead: Vec<String>,
    /// Number of streams with events that differ.
    pub divergent_streams: u64,
    /// Number of differences; at most [`super::divergence::MAX_LISTED`] are listed.
    pub divergences_total: u64,
    /// The listed differences.
    pub divergences: Vec<Divergence>,
    /// The result of each partition.
    pub partitions: Vec<PartitionReport>,
}

impl VerifyReport {
    /// The sums over these partitions. `seconds` is the time spent.
    pub fn new(
        full: bool,
        times: (Timestamp, Timestamp),
        seconds: f64,
        partitions: Vec<PartitionReport>,
        divergences: Divergences,
    ) -> Self {
        let sum = |of: fn(&PartitionReport) -> u64| partitions.iter().map(of).sum::<u64>();
        let events = sum(|p| p.events);
        Self {
            full,
            clean: divergences.total == 0,
            began: times.0,
            ended: times.1,
            seconds,
            rate: events as f64 / seconds.max(0.001),
            objects: sum(|p| p.objects),
            events,
            streams: sum(|p| p.streams),
            bytes: sum(|p| p.bytes),
            unmirrored: sum(|p| p.unmirrored),
            copy_ahead: sum(|p| p.copy_ahead),
            copies_ahead: partitions
                .iter()
                .filter_map(PartitionReport::ahead)
                .collect(),
            divergent_streams: divergences.streams(),
            divergences_total: divergences.total,
            divergences: divergences.listed,
            partitions,
        }
    }

    /// Where a later verification of a partition may start, with the digest up to there; `None` if
    /// anything diverged.
    pub fn verified(&self, partition: PartitionId) -> Option<(Offset, String)> {
        let found = self.partitions.iter().find(|p| p.partition == partition)?;
        let digest = found.digest.clone()?;
        (found.divergences == 0).then_some((found.to, digest))
    }
}
