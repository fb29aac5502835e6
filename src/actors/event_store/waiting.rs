//! Whoever waits for a verdict, and what he is told.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Answer, AppendError};
use crate::actors::claim::Claim;
use crate::log::partition::AppendOutcome;
use crate::metrics;
use crate::migration::partition_state::PartitionState;
use crate::store::error::{StoreError, StoreErrorKind};

/// Whoever waits for a verdict.
#[derive(Debug)]
pub struct Waiting {
    /// Where he waits.
    pub reply: oneshot::Sender<Result<Answer, AppendError>>,
    /// When he stops waiting.
    pub deadline: Instant,
    /// Whether he still may take it back.
    pub claim: Claim,
}

impl Waiting {
    /// A caller that has gone away needs no answer, so whether the answer arrives is its affair.
    pub fn answer(self, answer: Result<Answer, AppendError>) {
        drop(self.reply.send(answer));
    }
}

/// Tells everyone his verdict, given in this stage; `mirrored`: the other store has it too.
pub fn answer_all(verdicts: Vec<(Waiting, AppendOutcome)>, state: PartitionState, mirrored: bool) {
    for (waiting, verdict) in verdicts {
        if matches!(verdict, AppendOutcome::Conflict { .. }) {
            metrics::version_conflict();
        }
        waiting.answer(Ok(Answer {
            verdict,
            stage: state.stage,
            mirrored,
        }));
    }
}

/// What is told to whoever has waited too long in the queue: nothing was written.
pub fn too_late() -> StoreError {
    StoreError::determinate(
        StoreErrorKind::Timeout,
        "log",
        "append",
        "the deadline passed before it was begun",
    )
}
