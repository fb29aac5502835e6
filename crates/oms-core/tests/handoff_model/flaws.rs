//! Protocols that are broken on purpose, each in one place. The checker must find every one.

use oms_core::domain::ids::Epoch;
use oms_core::log::lead::Lead;
use oms_core::log::object::ControlRecord;
use oms_core::migration::handoff::{Action, Known, Wish, next_action};
use oms_core::migration::record::{Change, Step};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// An append to PostgreSQL looks at the row before its transaction, not in it.
    NoRowLock,
    /// The control record is put before S3 has what PostgreSQL has.
    NoDrain,
    /// A writer that has heard of S3's lead goes on whatever the control records say.
    UnawareWriter,
    /// While sealing to S3 the row alone is set back.
    UndoSealByRowAlone,
    /// While sealing to PostgreSQL the row alone is set back, unless the control record is seen.
    UndoByRowUnlessSealed,
    /// The record that ends S3's lead is put at S3's new end after every lost race, without a look
    /// at what won.
    SealAgainBlindly,
    /// PostgreSQL leads before it has everything.
    LeadBeforeCopied,
    /// The row is set, whatever it is by then.
    RowSetBlindly,
    /// PostgreSQL's end is read before its row.
    EndReadBeforeRow,
    /// PostgreSQL leads again before it has the control record of the undo.
    LeadBeforeUndoCopied,
}

impl Flaw {
    pub const ALL: [Flaw; 10] = [
        Flaw::NoRowLock,
        Flaw::NoDrain,
        Flaw::UnawareWriter,
        Flaw::UndoSealByRowAlone,
        Flaw::UndoByRowUnlessSealed,
        Flaw::SealAgainBlindly,
        Flaw::LeadBeforeCopied,
        Flaw::RowSetBlindly,
        Flaw::EndReadBeforeRow,
        Flaw::LeadBeforeUndoCopied,
    ];
}

/// The service's own decision, or what the flaw makes of it.
pub fn next(known: &Known, wish: Wish, flaw: Option<Flaw>) -> Action {
    let mut known = *known;
    let row = known.postgres.row;
    let set = |change: Change| match row.after(change) {
        Some(to) => Action::SetRow {
            change,
            from: row,
            to,
        },
        None => unreachable!("{change:?} from {row:?}"),
    };
    let pretend_both_have_the_same = matches!(
        (flaw, row.step),
        (Some(Flaw::NoDrain), Step::DrainingToS3 | Step::SealingToS3)
            | (Some(Flaw::LeadBeforeCopied), Step::SealingToPostgres)
            | (Some(Flaw::LeadBeforeUndoCopied), Step::SealingToS3)
    );
    if let (true, Some(s3)) = (pretend_both_have_the_same, known.s3) {
        known.postgres.next = s3.next;
    }
    let action = next_action(&known, wish);
    match (flaw, row.step, action) {
        (Some(Flaw::UndoSealByRowAlone), Step::SealingToS3, Action::PutControlInS3 { .. })
            if wish == Wish::Undo =>
        {
            set(Change::UndoSealToS3)
        }
        (Some(Flaw::UndoByRowUnlessSealed), Step::UndoingToS3, Action::PutControlInS3 { .. }) => {
            let sealed = known.s3.and_then(|s3| s3.control);
            if sealed.is_some_and(|c| c.epoch == row.epoch) {
                set(Change::KeepS3)
            } else {
                action
            }
        }
        (Some(Flaw::SealAgainBlindly), Step::SealingToPostgres, Action::Wait(_)) => {
            match known.s3 {
                Some(s3) => Action::PutControlInS3 {
                    offset: s3.next,
                    record: ControlRecord {
                        lead: Lead::Postgres,
                        epoch: Epoch(row.epoch.0 + 1),
                    },
                },
                None => action,
            }
        }
        _ => action,
    }
}
