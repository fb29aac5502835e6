//! From which store each partition is read. These are hints, published by components that know the
//! stages: with an outdated one a read is slower or misses the newest commits, but is never wrong.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use oms_core::domain::ids::{Offset, PartitionId};
use oms_core::log::lead::Lead;
use oms_core::migration::stage::StageKind;

#[derive(Debug)]
struct Route {
    /// The stage as a number from 1; 0 while unknown.
    stage: AtomicU8,
    /// The store that does not lead holds everything before this offset.
    mirrored: AtomicU64,
}

/// The hints for all partitions.
#[derive(Debug)]
pub struct Routes {
    partitions: Vec<Route>,
}

impl Routes {
    pub(super) fn new(partitions: u16) -> Self {
        let unknown = |_| Route {
            stage: AtomicU8::new(0),
            mirrored: AtomicU64::new(0),
        };
        Self {
            partitions: (0..partitions).map(unknown).collect(),
        }
    }

    fn of(&self, partition: PartitionId) -> Option<&Route> {
        self.partitions.get(usize::from(partition.0))
    }

    /// Publishes a partition's stage.
    pub fn set_stage(&self, partition: PartitionId, stage: StageKind) {
        if let Some(route) = self.of(partition) {
            route.stage.store(stage as u8 + 1, Ordering::Release);
        }
    }

    /// Publishes that the copy in the store that does not lead reaches up to `next`.
    pub fn set_mirrored(&self, partition: PartitionId, next: Offset) {
        if let Some(route) = self.of(partition) {
            route.mirrored.store(next, Ordering::Release);
        }
    }

    /// How far the copy is known to reach.
    pub fn mirrored(&self, partition: PartitionId) -> Offset {
        self.of(partition)
            .map_or(0, |r| r.mirrored.load(Ordering::Acquire))
    }

    /// The partition's stage, if known.
    pub fn stage(&self, partition: PartitionId) -> Option<StageKind> {
        let place = self.of(partition)?.stage.load(Ordering::Acquire);
        StageKind::ROAD
            .get(usize::from(place).checked_sub(1)?)
            .copied()
    }

    /// The store that is asked for the end of the log.
    pub fn lead(&self, partition: PartitionId) -> Lead {
        self.stage(partition).map_or(Lead::S3, StageKind::lead)
    }

    /// The stores to ask, in order, for commits that are known to be in the log before `end`.
    pub fn order(&self, partition: PartitionId, end: Offset) -> &'static [Lead] {
        use Lead::{Postgres, S3};
        match self.stage(partition) {
            Some(StageKind::Legacy) => &[Postgres, S3],
            // S3 is known to lack the end, so it comes last.
            Some(StageKind::DualWritePostgres) if end > self.mirrored(partition) => &[Postgres, S3],
            Some(StageKind::DualWritePostgres | StageKind::DualWriteS3) => &[S3, Postgres],
            Some(StageKind::S3Only) => &[S3],
            None => &[S3, Postgres],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_is_read_first_where_it_has_what_is_wanted() {
        use Lead::{Postgres, S3};
        let routes = Routes::new(1);
        let p = PartitionId(0);
        assert_eq!(
            (routes.lead(p), routes.order(p, 9)),
            (S3, &[S3, Postgres][..])
        );
        routes.set_mirrored(p, 5);
        let table: [(StageKind, Lead, &[Lead], &[Lead]); 4] = [
            (
                StageKind::Legacy,
                Postgres,
                &[Postgres, S3],
                &[Postgres, S3],
            ),
            (
                StageKind::DualWritePostgres,
                Postgres,
                &[S3, Postgres],
                &[Postgres, S3],
            ),
            (StageKind::DualWriteS3, S3, &[S3, Postgres], &[S3, Postgres]),
            (StageKind::S3Only, S3, &[S3], &[S3]),
        ];
        for (stage, lead, copied, not_yet) in table {
            routes.set_stage(p, stage);
            assert_eq!(routes.stage(p), Some(stage));
            assert_eq!(routes.lead(p), lead, "{stage}");
            assert_eq!(routes.order(p, 5), copied, "{stage}");
            assert_eq!(routes.order(p, 6), not_yet, "{stage}");
        }
    }
}
