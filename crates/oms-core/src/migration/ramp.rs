//! Selects the partitions that a switch moves, so that a stage can be tried on some of them first.

use crate::domain::ids::PartitionId;

use super::stage::{StageKind, Whole};

/// The partitions that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Share {
    /// All of them.
    All,
    /// These; the others stay where they are.
    Partitions(Vec<PartitionId>),
    /// At least this percentage of all, 1 to 100, including those already there.
    Percent(u8),
}

/// An invalid selection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidShare {
    /// It is empty.
    #[error("no partition is named")]
    Empty,
    /// A partition does not exist.
    #[error("there is no partition {0}; there are 0 to {1}")]
    NoPartition(PartitionId, usize),
    /// No percentage from 1 to 100.
    #[error("{0} percent is not between 1 and 100")]
    NotPercent(u8),
}

/// The partitions to be moved to `goal`, in order of number; `stages` are those of all partitions.
///
/// A percentage counts partitions that are at the goal or beyond: going from 25 to 50 moves another
/// quarter, and a percentage below the current one moves none. Those nearest to the goal come
/// first, then those with the lowest numbers, so that every node selects the same ones.
pub fn to_move(
    stages: &[StageKind],
    goal: StageKind,
    share: &Share,
) -> Result<Vec<PartitionId>, InvalidShare> {
    let all = || (0u16..).map(PartitionId).zip(stages);
    let elsewhere = |picked: &dyn Fn(PartitionId) -> bool| {
        all()
            .filter(|(id, stage)| **stage != goal && picked(*id))
            .map(|(id, _)| id)
            .collect()
    };
    match share {
        Share::All => Ok(elsewhere(&|_| true)),
        Share::Partitions(ids) => {
            if ids.is_empty() {
                return Err(InvalidShare::Empty);
            }
            let unknown = ids.iter().find(|id| usize::from(id.0) >= stages.len());
            match unknown {
                Some(id) => Err(InvalidShare::NoPartition(
                    *id,
                    stages.len().saturating_sub(1),
                )),
                None => Ok(elsewhere(&|id| ids.contains(&id))),
            }
        }
        Share::Percent(100) => Ok(elsewhere(&|_| true)),
        Share::Percent(percent) if (1..100).contains(percent) => {
            let wanted = (stages.len() * usize::from(*percent)).div_ceil(100);
            let forward = Whole::of(stages).is_some_and(|whole| goal > whole.stage);
            let there = |stage: StageKind| {
                if forward {
                    stage >= goal
                } else {
                    stage <= goal
                }
            };
            let mut left: Vec<_> = all().filter(|(_, stage)| !there(**stage)).collect();
            let missing = wanted.saturating_sub(stages.len() - left.len());
            left.sort_by_key(|(id, stage)| ((**stage as usize).abs_diff(goal as usize), *id));
            let mut ids: Vec<_> = left.iter().take(missing).map(|(id, _)| *id).collect();
            ids.sort();
            Ok(ids)
        }
        Share::Percent(percent) => Err(InvalidShare::NotPercent(*percent)),
    }
}

#[cfg(test)]
mod tests {
    use super::StageKind::*;
    use super::*;

    fn ids(numbers: &[u16]) -> Vec<PartitionId> {
        numbers.iter().copied().map(PartitionId).collect()
    }

    #[test]
    fn each_share_moves_its_partitions_and_widening_moves_only_the_rest() {
        let pg = [DualWritePostgres; 4];
        let some = [DualWritePostgres, DualWriteS3, DualWritePostgres, Legacy];
        let ahead = [DualWritePostgres, S3Only, DualWriteS3, DualWritePostgres];
        let table: [(&[StageKind; 4], StageKind, Share, &[u16]); 14] = [
            (&pg, DualWriteS3, Share::All, &[0, 1, 2, 3]),
            (&some, DualWriteS3, Share::All, &[0, 2, 3]),
            (&ahead, DualWriteS3, Share::All, &[0, 1, 3]),
            (
                &pg,
                DualWriteS3,
                Share::Partitions(ids(&[2, 0, 2])),
                &[0, 2],
            ),
            (&some, DualWriteS3, Share::Partitions(ids(&[1])), &[]),
            (&pg, DualWriteS3, Share::Percent(1), &[0]),
            (&pg, DualWriteS3, Share::Percent(25), &[0]),
            (&pg, DualWriteS3, Share::Percent(26), &[0, 1]),
            (&some, DualWriteS3, Share::Percent(25), &[]),
            (&some, DualWriteS3, Share::Percent(75), &[0, 2]),
            (&some, DualWriteS3, Share::Percent(100), &[0, 2, 3]),
            // Beyond the goal counts as there.
            (&ahead, DualWriteS3, Share::Percent(75), &[0]),
            // Back: at the goal or behind it counts as there.
            (&ahead, DualWritePostgres, Share::Percent(50), &[]),
            (&ahead, DualWritePostgres, Share::Percent(75), &[2]),
        ];
        for (stages, goal, share, expected) in table {
            let moved = to_move(stages, goal, &share);
            assert_eq!(moved, Ok(ids(expected)), "{stages:?} {goal} {share:?}");
        }
    }

    #[test]
    fn a_share_that_cannot_be_meant_is_refused() {
        let table = [
            (Share::Partitions(vec![]), InvalidShare::Empty),
            (
                Share::Partitions(ids(&[0, 4])),
                InvalidShare::NoPartition(PartitionId(4), 3),
            ),
            (Share::Percent(0), InvalidShare::NotPercent(0)),
            (Share::Percent(101), InvalidShare::NotPercent(101)),
        ];
        for (share, error) in table {
            assert_eq!(to_move(&[Legacy; 4], S3Only, &share), Err(error));
        }
    }
}
