//! The `migration` row of a partition, as data, with every change it allows. A change is a
//! compare-and-set of the whole row, so that a decision on an older row changes nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::stage::{Mode, StageKind};
use crate::domain::ids::Epoch;
use crate::log::lead::{Lead, Leadership};

/// The step of a hand-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = HandOffStep))]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// No hand-off is under way.
    Steady,
    /// To S3: PostgreSQL is fenced, and S3 gets the commits that it lacks.
    DrainingToS3,
    /// To S3: S3 has everything. The control record at its end decides whether S3 leads or the
    /// hand-off is undone.
    SealingToS3,
    /// To PostgreSQL: a control record will fence S3, then PostgreSQL gets the commits that it
    /// lacks.
    SealingToPostgres,
    /// Back to S3: a control record gives it the lead again.
    UndoingToS3,
}

impl Step {
    const ALL: [Step; 5] = [
        Step::Steady,
        Step::DrainingToS3,
        Step::SealingToS3,
        Step::SealingToPostgres,
        Step::UndoingToS3,
    ];

    /// The name as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Steady => "steady",
            Step::DrainingToS3 => "draining_to_s3",
            Step::SealingToS3 => "sealing_to_s3",
            Step::SealingToPostgres => "sealing_to_postgres",
            Step::UndoingToS3 => "undoing_to_s3",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A row that no sequence of changes produces.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a row of the migration: {0}")]
pub struct InvalidRow(pub String);

impl FromStr for Step {
    type Err = InvalidRow;

    fn from_str(text: &str) -> Result<Self, InvalidRow> {
        Self::ALL
            .into_iter()
            .find(|step| step.as_str() == text)
            .ok_or_else(|| InvalidRow(format!("there is no step `{text}`")))
    }
}

/// The row of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct MigrationRow {
    /// The stage; during a hand-off the one it leaves. Names the leader.
    pub stage: StageKind,
    /// The epoch of the hand-off under way, or of the last one. A hand-off to S3 counts from its
    /// first step, one to PostgreSQL from its last.
    pub epoch: Epoch,
    /// The step of the hand-off.
    pub step: Step,
    /// Incremented by every change, so that a late compare-and-set cannot match a row that only
    /// looks the same again.
    pub revision: u64,
}

impl MigrationRow {
    /// The row of a partition before any change.
    pub fn new(stage: StageKind, epoch: Epoch) -> Self {
        Self {
            stage,
            epoch,
            step: Step::Steady,
            revision: 0,
        }
    }

    /// Parses a row from PostgreSQL.
    pub fn from_columns(
        mode: Mode,
        lead: Lead,
        epoch: Epoch,
        step: Step,
        revision: u64,
    ) -> Result<Self, InvalidRow> {
        let stage = StageKind::of(mode, lead)
            .ok_or_else(|| InvalidRow(format!("{} with lead {}", mode.as_str(), lead.as_str())))?;
        if step != Step::Steady && !RULES.iter().any(|r| r.from == (stage, step)) {
            return Err(InvalidRow(format!("step {step} in stage {stage}")));
        }
        Ok(Self {
            stage,
            epoch,
            step,
            revision,
        })
    }

    /// The leadership as far as the row knows: with S3 leading the log decides.
    pub fn leadership(&self) -> Leadership {
        Leadership {
            lead: self.stage.lead(),
            epoch: self.epoch,
        }
    }

    /// The row after a change; `None` if this row does not allow the change.
    pub fn after(&self, change: Change) -> Option<Self> {
        let rule = RULES.iter().find(|rule| rule.change == change)?;
        (rule.from == (self.stage, self.step)).then(|| Self {
            stage: rule.to.0,
            step: rule.to.1,
            epoch: Epoch(self.epoch.0 + rule.epochs),
            revision: self.revision + 1,
        })
    }

    /// Compare-and-set: becomes `to` if it equals `from`; returns whether. In PostgreSQL an
    /// `UPDATE` whose `WHERE` compares every column with `from`. An unknown outcome needs no
    /// settling: read the row and call [`handoff`](super::handoff) again.
    pub fn compare_and_set(&mut self, from: &MigrationRow, to: &MigrationRow) -> bool {
        let hit = self == from;
        if hit {
            *self = *to;
        }
        hit
    }
}

/// The changes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Edge a forward.
    MirrorInS3,
    /// Edge a backward.
    StopMirrorInS3,
    /// Edge c backward.
    MirrorInPostgres,
    /// Edge c forward.
    StopMirrorInPostgres,
    /// Edge b forward: fence PostgreSQL.
    DrainToS3,
    /// Edge b forward: S3 has everything.
    SealToS3,
    /// Edge b forward: the control record is in S3.
    LeadS3,
    /// Edge b forward, undone before S3 was sealed.
    UndoDrain,
    /// Edge b forward, undone by a control record in both stores.
    UndoSealToS3,
    /// Edge b backward: begin.
    SealToPostgres,
    /// Edge b backward: PostgreSQL has everything up to the control record.
    LeadPostgres,
    /// Edge b backward, to be undone: PostgreSQL can no longer take the lead.
    UndoSealToPostgres,
    /// Edge b backward, undone by a control record in S3.
    KeepS3,
}

/// The effect of a change.
struct Rule {
    change: Change,
    from: (StageKind, Step),
    to: (StageKind, Step),
    /// Increment of the epoch.
    epochs: u64,
}

const fn rule(change: Change, from: (StageKind, Step), to: (StageKind, Step), epochs: u64) -> Rule {
    Rule {
        change,
        from,
        to,
        epochs,
    }
}

/// The effect of each change, one line each.
const RULES: [Rule; 13] = {
    use Change::*;
    use StageKind::*;
    use Step::*;
    [
        rule(MirrorInS3, (Legacy, Steady), (DualWritePostgres, Steady), 0),
        rule(
            StopMirrorInS3,
            (DualWritePostgres, Steady),
            (Legacy, Steady),
            0,
        ),
        rule(MirrorInPostgres, (S3Only, Steady), (DualWriteS3, Steady), 0),
        rule(
            StopMirrorInPostgres,
            (DualWriteS3, Steady),
            (S3Only, Steady),
            0,
        ),
        rule(
            DrainToS3,
            (DualWritePostgres, Steady),
            (DualWritePostgres, DrainingToS3),
            1,
        ),
        rule(
            SealToS3,
            (DualWritePostgres, DrainingToS3),
            (DualWritePostgres, SealingToS3),
            0,
        ),
        rule(
            LeadS3,
            (DualWritePostgres, SealingToS3),
            (DualWriteS3, Steady),
            0,
        ),
        rule(
            UndoDrain,
            (DualWritePostgres, DrainingToS3),
            (DualWritePostgres, Steady),
            1,
        ),
        rule(
            UndoSealToS3,
            (DualWritePostgres, SealingToS3),
            (DualWritePostgres, Steady),
            1,
        ),
        rule(
            SealToPostgres,
            (DualWriteS3, Steady),
            (DualWriteS3, SealingToPostgres),
            0,
        ),
        rule(
            LeadPostgres,
            (DualWriteS3, SealingToPostgres),
            (DualWritePostgres, Steady),
            1,
        ),
        rule(
            UndoSealToPostgres,
            (DualWriteS3, SealingToPostgres),
            (DualWriteS3, UndoingToS3),
            0,
        ),
        rule(KeepS3, (DualWriteS3, UndoingToS3), (DualWriteS3, Steady), 2),
    ]
};

impl Change {
    /// Every change.
    pub const ALL: [Change; 13] = {
        use Change::*;
        [
            MirrorInS3,
            StopMirrorInS3,
            MirrorInPostgres,
            StopMirrorInPostgres,
            DrainToS3,
            SealToS3,
            LeadS3,
            UndoDrain,
            UndoSealToS3,
            SealToPostgres,
            LeadPostgres,
            UndoSealToPostgres,
            KeepS3,
        ]
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_has_one_rule() {
        for change in Change::ALL {
            let rules = RULES.iter().filter(|rule| rule.change == change);
            assert_eq!(rules.count(), 1, "{change:?}");
        }
    }

    #[test]
    fn from_rest_every_row_is_reached_by_changes_and_leads_back_to_rest() {
        let mut known = vec![MigrationRow::new(StageKind::Legacy, Epoch(1))];
        let mut seen = Vec::new();
        while let Some(row) = known.pop() {
            if seen.contains(&(row.stage, row.step)) {
                continue;
            }
            seen.push((row.stage, row.step));
            let again = MigrationRow::from_columns(
                row.stage.mode(),
                row.stage.lead(),
                row.epoch,
                row.step.as_str().parse().unwrap(),
                row.revision,
            );
            assert_eq!(again, Ok(row));
            let next: Vec<_> = Change::ALL.iter().filter_map(|c| row.after(*c)).collect();
            assert!(!next.is_empty(), "{row:?} is a dead end");
            known.extend(next);
        }
        assert_eq!(seen.len(), 8, "{seen:?}");
    }

    #[test]
    fn a_row_that_no_change_makes_is_refused() {
        let table = [
            (Mode::Legacy, Lead::S3, Step::Steady),
            (Mode::S3Only, Lead::Postgres, Step::Steady),
            (Mode::Legacy, Lead::Postgres, Step::DrainingToS3),
            (Mode::DualWrite, Lead::S3, Step::SealingToS3),
            (Mode::DualWrite, Lead::Postgres, Step::UndoingToS3),
            (Mode::S3Only, Lead::S3, Step::SealingToPostgres),
        ];
        for (mode, lead, step) in table {
            let row = MigrationRow::from_columns(mode, lead, Epoch(1), step, 0);
            assert!(row.is_err(), "{row:?}");
        }
        assert!("draining".parse::<Step>().is_err());
    }

    #[test]
    fn every_hand_off_and_every_undo_begins_an_epoch_of_its_own() {
        use Change::*;
        let table: [(StageKind, &[Change], u64); 6] = [
            (
                StageKind::DualWritePostgres,
                &[DrainToS3, SealToS3, LeadS3],
                6,
            ),
            (StageKind::DualWritePostgres, &[DrainToS3, UndoDrain], 7),
            (
                StageKind::DualWritePostgres,
                &[DrainToS3, SealToS3, UndoSealToS3],
                7,
            ),
            (StageKind::DualWriteS3, &[SealToPostgres, LeadPostgres], 6),
            (
                StageKind::DualWriteS3,
                &[SealToPostgres, UndoSealToPostgres, KeepS3],
                7,
            ),
            (
                StageKind::DualWriteS3,
                &[StopMirrorInPostgres, MirrorInPostgres],
                5,
            ),
        ];
        for (stage, changes, epoch) in table {
            let mut row = MigrationRow::new(stage, Epoch(5));
            for change in changes {
                row = row.after(*change).unwrap();
            }
            assert_eq!(row.epoch, Epoch(epoch), "{changes:?}");
            assert_eq!(row.step, Step::Steady);
        }
    }

    #[test]
    fn a_change_decided_on_an_older_row_changes_nothing() {
        let first = MigrationRow::new(StageKind::Legacy, Epoch(1));
        let second = first.after(Change::MirrorInS3).unwrap();
        let third = second.after(Change::StopMirrorInS3).unwrap();
        let mut row = first;
        assert!(row.compare_and_set(&first, &second));
        assert!(row.compare_and_set(&second, &third));
        // The row looks as it did at first, and yet a late repetition does not hit it.
        assert!(!row.compare_and_set(&first, &second));
        assert_eq!(row, third);
    }
}
