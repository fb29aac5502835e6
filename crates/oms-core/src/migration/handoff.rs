//! Decides the next step of a hand-off. The driver reads the row and both logs, calls
//! [`next_action`], executes the action, and reads again. It keeps no state between two reads, so
//! that a crash, a lost answer or a second driver at the same time do no harm: every action is a
//! compare-and-set, and whether it succeeded shows in the next read.
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
//! Where a hand-off may still be finished or undone, exactly one compare-and-set decides between
//! them: the row while draining and while sealing to PostgreSQL, the offset *n* of S3 while sealing
//! to S3.
//!
//! Copying an object to the same offset of the other store is always allowed, for every process and
//! however late, because it can only make the stores more alike.

use serde::Serialize;

use super::edge::{Direction, Edge, Move};
use super::record::{Change, MigrationRow, Step};
use crate::domain::ids::{Epoch, Offset};
use crate::log::lead::{Lead, Leadership};
use crate::log::object::ControlRecord;

/// PostgreSQL's side of a partition. The end of its log MUST be read in the same snapshot as the
/// row, or after it: if the row shows a fence, the end that is read is then final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PostgresView {
    /// The row.
    pub row: MigrationRow,
    /// Its next offset.
    pub next: Offset,
}

/// S3's side of a partition: its log, read up to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct S3View {
    /// Its next offset.
    pub next: Offset,
    /// The last control record before that end.
    pub control: Option<ControlRecord>,
}

/// The state of both stores. The two sides may have been read at different times, in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Known {
    /// PostgreSQL's side, without which nothing can be decided.
    pub postgres: PostgresView,
    /// S3's side; `None` if it cannot be read now.
    pub s3: Option<S3View>,
}

/// The requested outcome of a hand-off under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wish {
    /// The lead moves.
    Finish,
    /// The lead stays where it was.
    Undo,
}

impl Wish {
    /// The outcome to request: undo once the hand-off's deadline has passed.
    pub fn by_deadline(passed: bool) -> Self {
        if passed { Wish::Undo } else { Wish::Finish }
    }
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Compare-and-set of the row.
    SetRow {
        /// The change that this makes, for the history.
        change: Change,
        /// The row as it was read.
        from: MigrationRow,
        /// The row to set.
        to: MigrationRow,
    },
    /// Copy commit objects from PostgreSQL's log to S3, in order, up to this offset.
    CopyToS3 {
        /// First offset not to be copied.
        up_to: Offset,
    },
    /// Copy commit objects from S3's log to PostgreSQL, in order, up to this offset.
    CopyToPostgres {
        /// First offset not to be copied.
        up_to: Offset,
    },
    /// Put a control object, if the offset is free. It MUST be chained to an object read from S3.
    PutControlInS3 {
        /// The end of S3's log as it was read.
        offset: Offset,
        /// The control record.
        record: ControlRecord,
    },
    /// No hand-off is under way; this is the leadership.
    Done(Leadership),
    /// Nothing can be done now.
    Wait(Reason),
}

/// Why nothing can be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// One side was read before a change, the other after it: read again.
    LookAgain,
    /// This step needs S3, which does not answer.
    S3Unavailable,
    /// Another hand-off is under way and has to be ended first.
    HandOffUnderWay,
    /// The partition is not in the stage where this move begins.
    Elsewhere,
}

/// The first step of a move, for a partition without a hand-off under way. A move of the lead
/// begins when the new leader lags by at most `max_lag` commits, so that writers wait only for
/// those.
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
            // Without S3 neither hand-off gets beyond its first step, and writers would wait for
            // it.
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

/// The next step of the hand-off under way. An outcome that is requested too late is not possible
/// any more: the hand-off then ends the other way, and [`Action::Done`] says who leads.
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
        // No control record can be in flight: none is put before the row says sealing.
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
        // PostgreSQL's log continues after the record, so PostgreSQL must hold it first.
        Some(found) if found == undone && *next < s3.next => {
            Action::CopyToPostgres { up_to: s3.next }
        }
        Some(found) if found == undone => set(row, Change::UndoSealToS3),
        Some(found) if found.epoch >= row.epoch => Action::Wait(Reason::LookAgain),
        _ if s3.next != *next => Action::Wait(Reason::LookAgain),
        // The put of the other record may be in flight, now or much later. Both are put at the same
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
        // In any case, whether or not the record that gives the lead away is in S3: its put may be
        // in flight, and only an occupied offset stops it.
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
        // Not reachable: each caller names a change of the row's own step, which tests check for
        // all.
        None => Action::Wait(Reason::LookAgain),
    }
}

#[cfg(test)]
#[path = "handoff_tests.rs"]
mod tests;
