//! What the span of an append says of it.

use crate::actors::event_store::{Answer, AppendError};
use crate::log::batch::AppendOutcome;
use crate::store::traces::Span;

/// Says of an append's span what came of it, and ends it.
pub fn append_ended(mut span: Span, appended: &Result<Answer, AppendError>) {
    match appended {
        Ok(answer) => match answer.verdict {
            AppendOutcome::Committed { position, .. } => {
                span.set("oms.partition", u64::from(position.partition.0));
                span.set("oms.offset", position.offset);
            }
            AppendOutcome::Conflict { .. } => span.set("oms.outcome", "conflict"),
            AppendOutcome::Repeated(_) => span.set("oms.outcome", "repeated"),
            AppendOutcome::KeyReused(_) => span.set("oms.outcome", "key_reused"),
            AppendOutcome::KeysFull(_) => span.set("oms.outcome", "keys_full"),
        },
        Err(AppendError::NotWritten(error)) => span.fail(error.kind.as_str()),
        Err(AppendError::Unknown(_)) => span.fail("outcome_unknown"),
        Err(AppendError::TooLarge { .. }) => span.fail("too_large"),
    }
}
