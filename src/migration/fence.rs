//! Who may append. Both stores ask here before the compare-and-set at the end of their log, and
//! correctness rests on the answer alone: news of a hand-off only makes it quick.

use super::lead::{Lead, Leadership};
use super::record::{MigrationRow, Step};
use crate::domain::ids::Epoch;

/// Why an append may not be made; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fenced {
    /// The lead is being moved: wait for its end, bounded by the hand-off's timeout.
    #[error("the lead is being moved ({0})")]
    Moving(Step),
    /// Another store leads, or the same one under a later epoch: decide again under this.
    #[error("{} leads since epoch {}", .0.lead.as_str(), .0.epoch.0)]
    Led(Leadership),
    /// The log has no beginning yet.
    #[error("nobody leads yet")]
    Unclaimed,
}

/// Whether an append decided under `epoch` may commit in PostgreSQL. `row` MUST be read `FOR
/// SHARE` in the transaction that appends: then a hand-off waits for it, or it for the hand-off.
pub fn may_append_in_postgres(row: &MigrationRow, epoch: Epoch) -> Result<(), Fenced> {
    if row.step != Step::Steady {
        return Err(Fenced::Moving(row.step));
    }
    allow(Lead::Postgres, epoch, Some(row.leadership()))
}

/// Whether an append decided under `epoch` may be put at offset *n* of S3, `last` being the last
/// control record at an offset below *n*. The put-if-absent proves that nothing was at *n*.
pub fn may_append_in_s3(last: Option<Leadership>, epoch: Epoch) -> Result<(), Fenced> {
    allow(Lead::S3, epoch, last)
}

fn allow(store: Lead, epoch: Epoch, found: Option<Leadership>) -> Result<(), Fenced> {
    let found = found.ok_or(Fenced::Unclaimed)?;
    let authority = Leadership { lead: store, epoch };
    if found == authority {
        Ok(())
    } else {
        Err(Fenced::Led(found))
    }
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
        let table: [(StageKind, &[Change], Result<(), Fenced>); 7] = [
            (StageKind::Legacy, &[], Ok(())),
            (StageKind::DualWritePostgres, &[], Ok(())),
            (
                StageKind::DualWriteS3,
                &[],
                Err(Fenced::Led(led(Lead::S3, 4))),
            ),
            (StageKind::S3Only, &[], Err(Fenced::Led(led(Lead::S3, 4)))),
            (
                StageKind::DualWritePostgres,
                &[DrainToS3],
                Err(Fenced::Moving(Step::DrainingToS3)),
            ),
            (
                StageKind::DualWritePostgres,
                &[DrainToS3, UndoDrain],
                Err(Fenced::Led(led(Lead::Postgres, 6))),
            ),
            (
                StageKind::DualWriteS3,
                &[SealToPostgres],
                Err(Fenced::Moving(Step::SealingToPostgres)),
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

    #[test]
    fn law_14_s3_takes_only_appends_under_its_last_control_record() {
        let table = [
            (None, Err(Fenced::Unclaimed)),
            (Some(led(Lead::S3, 3)), Ok(())),
            (Some(led(Lead::S3, 5)), Err(Fenced::Led(led(Lead::S3, 5)))),
            (
                Some(led(Lead::Postgres, 3)),
                Err(Fenced::Led(led(Lead::Postgres, 3))),
            ),
        ];
        for (last, expected) in table {
            assert_eq!(may_append_in_s3(last, Epoch(3)), expected);
        }
    }
}
