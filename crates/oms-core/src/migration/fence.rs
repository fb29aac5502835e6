//! The fence of PostgreSQL: its row, read in the transaction that appends, says who may. The fence
//! of S3 is in [`log::fence`](crate::log::fence).

use super::record::{MigrationRow, Step};
use crate::domain::ids::Epoch;
use crate::log::fence::{Fenced, allow};
use crate::log::lead::{Lead, Leadership};

/// Why PostgreSQL's row does not allow an append; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FencedByRow {
    /// The lead is being moved: wait for the end, which the hand-off's timeout bounds.
    #[error("the lead is being moved ({0})")]
    Moving(Step),
    /// PostgreSQL does not lead under this epoch.
    #[error(transparent)]
    Log(#[from] Fenced),
}

/// Checks whether an append decided under `epoch` may commit in PostgreSQL. `row` MUST be read `FOR
/// SHARE` in the transaction that appends: then a hand-off waits for the append, or the append for
/// the hand-off.
pub fn may_append_in_postgres(row: &MigrationRow, epoch: Epoch) -> Result<(), FencedByRow> {
    if row.step != Step::Steady {
        return Err(FencedByRow::Moving(row.step));
    }
    let authority = Leadership {
        lead: Lead::Postgres,
        epoch,
    };
    Ok(allow(authority, row.leadership())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::record::Change;
    use crate::migration::stage::StageKind;

    fn led(lead: Lead, epoch: u64) -> Leadership {
        Leadership {
            lead,
            epoch: Epoch(epoch),
        }
    }

    #[test]
    fn law_14_postgres_takes_only_appends_of_its_own_epoch_at_rest() {
        use Change::*;
        let table: [(StageKind, &[Change], Result<(), FencedByRow>); 7] = [
            (StageKind::Legacy, &[], Ok(())),
            (StageKind::DualWritePostgres, &[], Ok(())),
            (
                StageKind::DualWriteS3,
                &[],
                Err(Fenced::Led(led(Lead::S3, 4)).into()),
            ),
            (
                StageKind::S3Only,
                &[],
                Err(Fenced::Led(led(Lead::S3, 4)).into()),
            ),
            (
                StageKind::DualWritePostgres,
                &[DrainToS3],
                Err(FencedByRow::Moving(Step::DrainingToS3)),
            ),
            (
                StageKind::DualWritePostgres,
                &[DrainToS3, UndoDrain],
                Err(Fenced::Led(led(Lead::Postgres, 6)).into()),
            ),
            (
                StageKind::DualWriteS3,
                &[SealToPostgres],
                Err(FencedByRow::Moving(Step::SealingToPostgres)),
            ),
        ];
        for (stage, changes, expected) in table {
            let row = changes
                .iter()
                .fold(MigrationRow::new(stage, Epoch(4)), |row, change| {
                    row.after(*change).unwrap()
                });
            assert_eq!(may_append_in_postgres(&row, Epoch(4)), expected, "{row:?}");
        }
    }
}
