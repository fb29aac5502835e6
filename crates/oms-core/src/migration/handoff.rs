//! What to do next in a hand-off. One question, asked again after every step by whoever is there:
//! look at the row and at both logs, ask [`next_action`], do it, look again. Nothing is remembered
//! between two looks, so a crash, a lost answer or a second node asking the same thing at the same
//! time make no difference: every action is a compare-and-set, and its failure is no news that the
//! next look would not bring.
//!
//! ```text
//! to S3        steady ─▶ draining_to_s3 ─▶ sealing_to_s3 ─▶ [control s3, e+1]       ─▶ steady, S3 leads
//!                              │undo             └────────▶ [control postgres, e+2] ─▶ copied, steady
//!                              └─▶ steady, e+2
//! to PostgreSQL steady ─▶ sealing_to_postgres ─▶ [control postgres, e+1] ─▶ copied, steady, PostgreSQL leads
//!                              │undo
//!                              └─▶ undoing_to_s3 ─▶ [control s3, e+2] ─▶ steady, e+2
//! ```
//!
//! Where both ends of a hand-off are possible, exactly one compare-and-set decides between them:
//! the row while draining and while sealing to PostgreSQL, the offset *n* of S3 while sealing to S3.
//!
//! Copying an object to the same offset of the other store is always allowed, at any time, by
//! anyone, however late: it can only make the stores more alike.

use serde::Serialize;

use super::edge::{Direction, Edge, Move};
use super::record::{Change, MigrationRow, Step};
use crate::domain::ids::{Epoch, Offset};
use crate::log::lead::{Lead, Leadership};
use crate::log::object::ControlRecord;

/// PostgreSQL's side of a partition. The end of its log MUST be read in the snapshot in which the
/// row was read, or after it: a fence that is seen up makes the end that is then seen the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PostgresView {
    /// The row.
    pub row: MigrationRow,
    /// Its next offset.
    pub next: Offset,
}

/// S3's side of a partition: a log read up to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct S3View {
    /// Its next offset.
    pub next: Offset,
    /// The last control record before that.
    pub control: Option<ControlRecord>,
}

/// What is known of both stores. The two sides may have been read at different times, in any
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Known {
    /// PostgreSQL. Without it nothing can be decided: wait for it.
    pub postgres: PostgresView,
    /// S3; `None` when it cannot be read now.
    pub s3: Option<S3View>,
}

/// Where a hand-off under way should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wish {
    /// The lead moves.
    Finish,
    /// It stays where it was.
    Undo,
}

impl Wish {
    /// What is to be wished once the hand-off's deadline has passed, or has not.
    pub fn by_deadline(passed: bool) -> Self {
        if passed { Wish::Undo } else { Wish::Finish }
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Compare-and-set of the row.
    SetRow {
        /// What happens by it, for the history.
        change: Change,
        /// The row as it was seen.
        from: MigrationRow,
        /// The row to be.
        to: MigrationRow,
    },
    /// Copy commit objects from PostgreSQL's next-to-copy up to before this offset, in order.
    CopyToS3 {
        /// First offset not to be copied.
        up_to: Offset,
    },
    /// The same from S3 to PostgreSQL.
    CopyToPostgres {
        /// First offset not to be copied.
        up_to: Offset,
    },
    /// Put a control object, if the offset is free. It MUST be chained to an object read from S3.
    PutControlInS3 {
        /// The end of S3's log as it was seen.
        offset: Offset,
        /// The record.
        record: ControlRecord,
    },
    /// Nothing: no hand-off is under way, and this store leads.
    Done(Leadership),
    /// Nothing now.
    Wait(Reason),
}

/// Why nothing can be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// One side was read before, the other after a change: look again.
    LookAgain,
    /// S3 does not answer, and this step needs it.
    S3Unavailable,
    /// A hand-off is under way: see it to its end first.
    HandOffUnderWay,
    /// The partition is not where this move begins.
    Elsewhere,
}

/// The first step of a move, for a partition at rest. Moves of the lead begin when the store that
/// is to lead lags by no more than `max_lag` commits, so that writers wait only for those.
pub fn begin(known: &Known, step: Move, max_lag: u64) -> Action {
    use Direction::{Backward, Forward};
    let row = &known.postgres.row;
    if row.step != Step::Steady {
        return Action::Wait(Reason::HandOffUnderWay);
    }
    if row.stage == step.to() {
        return Action::Done(row.leadership());
    }
    if row.stage != step.from() {
        return Action::Wait(Reason::Elsewhere);
    }
    match (step.edge, step.direction) {
        (Edge::A, Forward) => set(row, Change::MirrorInS3),
        (Edge::A, Backward) => set(row, Change::StopMirrorInS3),
        (Edge::C, Forward) => set(row, Change::StopMirrorInPostgres),
        (Edge::C, Backward) => set(row, Change::MirrorInPostgres),
        (Edge::B, direction) => {
            // Without S3 neither hand-off gets past its first step, and writers would wait for it.
            let Some(s3) = known.s3 else {
                return Action::Wait(Reason::S3Unavailable);
            };
            let postgres = known.postgres.next;
            match direction {
                Forward if postgres.saturating_sub(s3.next) > max_lag => {
                    Action::CopyToS3 { up_to: postgres }
                }
                Forward => set(row, Change::DrainToS3),
                Backward if s3.next.saturating_sub(postgres) > max_lag => {
                    Action::CopyToPostgres { up_to: s3.next }
                }
                Backward => set(row, Change::SealToPostgres),
            }
        }
    }
}

/// The next step of whatever is under way. A wish that comes too late is not granted: the hand-off
/// then ends the other way, and [`Action::Done`] says who leads.
pub fn next_action(known: &Known, wish: Wish) -> Action {
    let row = &known.postgres.row;
    match row.step {
        Step::Steady => Action::Done(row.leadership()),
        Step::DrainingToS3 => draining_to_s3(known, wish),
        Step::SealingToS3 => sealing_to_s3(known, wish),
        Step::SealingToPostgres => sealing_to_postgres(known, wish),
        Step::UndoingToS3 => undoing_to_s3(known),
    }
}

fn draining_to_s3(known: &Known, wish: Wish) -> Action {
    let PostgresView { row, next } = &known.postgres;
    if wish == Wish::Undo {
        // No control record can be on its way: none is put before the row says sealing.
        return set(row, Change::UndoDrain);
    }
    match known.s3 {
        None => Action::Wait(Reason::S3Unavailable),
        Some(s3) if s3.next < *next => Action::CopyToS3 { up_to: *next },
        Some(s3) if s3.next == *next => set(row, Change::SealToS3),
        Some(_) => Action::Wait(Reason::LookAgain),
    }
}

fn sealing_to_s3(known: &Known, wish: Wish) -> Action {
    let PostgresView { row, next } = &known.postgres;
    let Some(s3) = known.s3 else {
        return Action::Wait(Reason::S3Unavailable);
    };
    let done = record(Lead::S3, row.epoch, 0);
    let undone = record(Lead::Postgres, row.epoch, 1);
    match s3.control {
        Some(found) if found == done => set(row, Change::LeadS3),
        // PostgreSQL goes on after the record, so it must hold it first.
        Some(found) if found == undone && *next < s3.next => {
            Action::CopyToPostgres { up_to: s3.next }
        }
        Some(found) if found == undone => set(row, Change::UndoSealToS3),
        Some(found) if found.epoch >= row.epoch => Action::Wait(Reason::LookAgain),
        _ if s3.next != *next => Action::Wait(Reason::LookAgain),
        // The put of the other record may be on its way, now or much later. Both go for the same
        // offset, which therefore decides.
        _ => Action::PutControlInS3 {
            offset: s3.next,
            record: match wish {
                Wish::Finish => done,
                Wish::Undo => undone,
            },
        },
    }
}

fn sealing_to_postgres(known: &Known, wish: Wish) -> Action {
    let PostgresView { row, next } = &known.postgres;
    if wish == Wish::Undo {
        return set(row, Change::UndoSealToPostgres);
    }
    let Some(s3) = known.s3 else {
        return Action::Wait(Reason::S3Unavailable);
    };
    let sealed = record(Lead::Postgres, row.epoch, 1);
    match s3.control {
        Some(found) if found == sealed && *next < s3.next => {
            Action::CopyToPostgres { up_to: s3.next }
        }
        Some(found) if found == sealed => set(row, Change::LeadPostgres),
        Some(found) if found == record(Lead::S3, row.epoch, 0) => Action::PutControlInS3 {
            offset: s3.next,
            record: sealed,
        },
        _ => Action::Wait(Reason::LookAgain),
    }
}

fn undoing_to_s3(known: &Known) -> Action {
    let row = &known.postgres.row;
    let Some(s3) = known.s3 else {
        return Action::Wait(Reason::S3Unavailable);
    };
    let kept = record(Lead::S3, row.epoch, 2);
    match s3.control {
        Some(found) if found == kept => set(row, Change::KeepS3),
        // Always, whether or not the record that gives the lead away is in S3: it may be on its
        // way, and only a taken offset stops it.
        Some(found) if found.epoch < kept.epoch => Action::PutControlInS3 {
            offset: s3.next,
            record: kept,
        },
        _ => Action::Wait(Reason::LookAgain),
    }
}

fn record(lead: Lead, epoch: Epoch, later: u64) -> ControlRecord {
    ControlRecord {
        lead,
        epoch: Epoch(epoch.0 + later),
    }
}

fn set(row: &MigrationRow, change: Change) -> Action {
    match row.after(change) {
        Some(to) => Action::SetRow {
            change,
            from: *row,
            to,
        },
        // Each caller names a change of the row's own step; the tests walk them all.
        None => Action::Wait(Reason::LookAgain),
    }
}

#[cfg(test)]
#[path = "handoff_tests.rs"]
mod tests;
