//! From which place each partition is read. Hints, published by whoever knows the stages: a stale
//! one makes a read slower or see a little less of the log's end, never something else.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use oms_core::domain::ids::{Offset, PartitionId};
use oms_core::log::lead::Lead;
use oms_core::migration::stage::StageKind;

#[derive(Debug)]
struct Route {
    /// Place of the stage on the road, from 1; 0 while it is not known.
    stage: AtomicU8,
    /// The place that does not lead holds everything before this offset.
    mirrored: AtomicU64,
}

/// See the module.
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

    /// The partition is in this stage.
    pub fn set_stage(&self, partition: PartitionId, stage: StageKind) {
        if let Some(route) = self.of(partition) {
            route.stage.store(stage as u8 + 1, Ordering::Release);
        }
    }

    /// The copy in the place that does not lead reaches up to here.
    pub fn set_mirrored(&self, partition: PartitionId, next: Offset) {
        if let Some(route) = self.of(partition) {
            route.mirrored.store(next, Ordering::Release);
        }
    }

    /// How far the copy reaches, as far as is known.
    pub fn mirrored(&self, partition: PartitionId) -> Offset {
        self.of(partition)
            .map_or(0, |r| r.mirrored.load(Ordering::Acquire))
    }

    /// The partition's stage, if it is known.
    pub fn stage(&self, partition: PartitionId) -> Option<StageKind> {
        let place = self.of(partition)?.stage.load(Ordering::Acquire);
        StageKind::ROAD
            .get(usize::from(place).checked_sub(1)?)
            .copied()
    }

    /// The place that is asked where the log ends.
    pub fn lead(&self, partition: PartitionId) -> Lead {
        self.stage(partition).map_or(Lead::S3, StageKind::lead)
    }

    /// The places that are asked for what is known to be in the log before `end`, in order.
    pub fn order(&self, partition: PartitionId, end: Offset) -> &'static [Lead] {
        use Lead::{Postgres, S3};
        match self.stage(partition) {
            Some(StageKind::Legacy) => &[Postgres, S3],
            // Known to be behind there: not even asked.
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
