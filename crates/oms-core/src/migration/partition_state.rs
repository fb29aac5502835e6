//! The state of a partition as far as one process knows: from the row in PostgreSQL, if that can be
//! read, and the last control record seen. It is used to route writes and reads and may be out of
//! date: whether a write succeeds is decided by the fences alone.

use serde::Serialize;

use super::record::{MigrationRow, Step};
use super::stage::{Mode, Stage, StageKind};
use crate::log::lead::{Lead, Leadership};

/// The state of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PartitionState {
    /// The stage; during a hand-off the one it leaves, until the lead has moved.
    pub stage: Stage,
    /// Whether writes wait for the end of a hand-off.
    pub moving: bool,
}

/// The state of every partition, by its number; `None` while unknown.
pub type PartitionStates = Vec<Option<PartitionState>>;

impl PartitionState {
    fn new(stage: StageKind, leadership: Leadership, moving: bool) -> Self {
        let mode = stage.mode();
        Self {
            stage: Stage { mode, leadership },
            moving,
        }
    }

    /// The authority for writes now; `None` while they wait.
    pub fn authority(&self) -> Option<Leadership> {
        (!self.moving).then_some(self.stage.leadership)
    }

    /// Which of the four stages it is in.
    pub fn kind(&self) -> Option<StageKind> {
        self.stage.kind()
    }
}

/// What a process knows of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The row; `None` if PostgreSQL has none.
    pub row: Option<MigrationRow>,
    /// The last control record read, in either store.
    pub control: Option<Leadership>,
}

/// The state of a partition; `None` while no leader is known.
pub fn of_known(known: Known) -> Option<PartitionState> {
    let Some(row) = known.row else {
        return from_log_alone(known.control, None);
    };
    let led = row.leadership();
    let control = known.control;
    let in_s3 = control.filter(|c| c.lead == Lead::S3);
    match (row.step, row.stage.lead()) {
        // The row may not show the end of a hand-off to S3 yet: the log decides.
        (Step::DrainingToS3 | Step::SealingToS3, _) => match in_s3 {
            Some(found) if found.epoch >= row.epoch => {
                Some(PartitionState::new(StageKind::DualWriteS3, found, false))
            }
            _ => Some(PartitionState::new(row.stage, led, true)),
        },
        (Step::Steady, Lead::Postgres) => match in_s3 {
            // PostgreSQL is older than the log, because it was restored from a backup.
            Some(found) if found.epoch > row.epoch => {
                Some(PartitionState::new(StageKind::S3Only, found, false))
            }
            _ => Some(PartitionState::new(row.stage, led, false)),
        },
        // S3 leads until a control record says otherwise.
        (Step::Steady | Step::SealingToPostgres | Step::UndoingToS3, _) => match control {
            Some(found) if found.lead == Lead::S3 && found.epoch >= row.epoch => {
                Some(PartitionState::new(row.stage, found, false))
            }
            Some(found) if found.epoch >= row.epoch => {
                Some(PartitionState::new(row.stage, led, true))
            }
            _ => Some(PartitionState::new(row.stage, led, false)),
        },
    }
}

/// [`of_known`] while PostgreSQL cannot be read; `last` is the last known state. With S3 leading,
/// only the distinction between its two stages is unknown.
pub fn without_postgres(
    control: Option<Leadership>,
    last: Option<PartitionState>,
) -> Option<PartitionState> {
    from_log_alone(control, last)
}

fn from_log_alone(
    control: Option<Leadership>,
    last: Option<PartitionState>,
) -> Option<PartitionState> {
    match (control, last) {
        (Some(found), Some(last)) if found.epoch < last.stage.leadership.epoch => Some(last),
        (Some(found), last) if found.lead == Lead::S3 => {
            let mirrored = last.is_some_and(|l| l.stage.mode != Mode::S3Only);
            let stage = if mirrored {
                StageKind::DualWriteS3
            } else {
                StageKind::S3Only
            };
            Some(PartitionState::new(stage, found, false))
        }
        (_, last) => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Epoch;
    use crate::migration::record::Change;

    fn led(lead: Lead, epoch: u64) -> Leadership {
        Leadership {
            lead,
            epoch: Epoch(epoch),
        }
    }

    fn row(stage: StageKind, epoch: u64, changes: &[Change]) -> MigrationRow {
        let start = MigrationRow::new(stage, Epoch(epoch));
        changes
            .iter()
            .fold(start, |row, change| row.after(*change).unwrap())
    }

    #[test]
    fn law_14_writes_wait_just_while_nobody_leads() {
        use Change::*;
        use Lead::{Postgres, S3};
        use StageKind::*;
        let table = [
            // At rest.
            (row(Legacy, 1, &[]), Some(led(Postgres, 1)), Legacy, false),
            (row(S3Only, 4, &[]), Some(led(S3, 4)), S3Only, false),
            // Another process has heard less, or more.
            (
                row(DualWriteS3, 4, &[]),
                Some(led(Postgres, 1)),
                DualWriteS3,
                false,
            ),
            (
                row(DualWriteS3, 4, &[]),
                Some(led(Postgres, 5)),
                DualWriteS3,
                true,
            ),
            (
                row(DualWritePostgres, 4, &[]),
                Some(led(S3, 3)),
                DualWritePostgres,
                false,
            ),
            // To S3: until its record is there.
            (
                row(DualWritePostgres, 4, &[DrainToS3]),
                Some(led(Postgres, 4)),
                DualWritePostgres,
                true,
            ),
            (
                row(DualWritePostgres, 4, &[DrainToS3, SealToS3]),
                Some(led(S3, 5)),
                DualWriteS3,
                false,
            ),
            // To PostgreSQL: from its record to the row.
            (
                row(DualWriteS3, 4, &[SealToPostgres]),
                Some(led(S3, 4)),
                DualWriteS3,
                false,
            ),
            (
                row(DualWriteS3, 4, &[SealToPostgres]),
                Some(led(Postgres, 5)),
                DualWriteS3,
                true,
            ),
            (
                row(DualWriteS3, 4, &[SealToPostgres, LeadPostgres]),
                Some(led(S3, 4)),
                DualWritePostgres,
                false,
            ),
            (
                row(DualWriteS3, 4, &[SealToPostgres, UndoSealToPostgres]),
                Some(led(S3, 6)),
                DualWriteS3,
                false,
            ),
            // PostgreSQL was restored from a backup that is older than the hand-off.
            (row(Legacy, 1, &[]), Some(led(S3, 3)), S3Only, false),
        ];
        for (row, control, stage, moving) in table {
            let row = Some(row);
            let found = of_known(Known { row, control }).unwrap();
            assert_eq!(
                (found.kind(), found.moving),
                (Some(stage), moving),
                "{row:?} {control:?}"
            );
        }
    }

    #[test]
    fn law_10_without_postgres_the_log_says_that_s3_leads_and_nothing_else() {
        use StageKind::*;
        let s3 = Some(led(Lead::S3, 4));
        let found = without_postgres(s3, None).unwrap();
        assert_eq!((found.kind(), found.moving), (Some(S3Only), false));
        let last = PartitionState::new(DualWriteS3, led(Lead::S3, 4), false);
        assert_eq!(
            without_postgres(s3, Some(last)).unwrap().kind(),
            Some(DualWriteS3)
        );
        assert_eq!(without_postgres(Some(led(Lead::Postgres, 4)), None), None);
        assert_eq!(without_postgres(None, None), None);
        let legacy = PartitionState::new(Legacy, led(Lead::Postgres, 4), false);
        assert_eq!(without_postgres(None, Some(legacy)), Some(legacy));
        // A record from before the last hand-off says nothing new.
        assert_eq!(
            without_postgres(Some(led(Lead::S3, 3)), Some(legacy)),
            Some(legacy)
        );
    }
}
