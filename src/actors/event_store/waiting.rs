//! Callers that wait for the outcome of an append, and their answers.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Answer, AppendError};
use crate::actors::claim::Claim;
use crate::domain::trace::TraceContext;
use crate::log::batch::AppendOutcome;
use crate::metrics;
use crate::migration::partition_state::PartitionState;
use crate::store::error::{StoreError, StoreErrorKind};

/// A caller that waits for the outcome of an append.
#[derive(Debug)]
pub struct Waiting {
    pub reply: oneshot::Sender<Result<Answer, AppendError>>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Whether the caller may still withdraw the append.
    pub claim: Claim,
    /// The operation that waits, in its trace.
    pub trace: Option<TraceContext>,
}

impl Waiting {
    /// Sends the answer. A caller that has gone away needs none, so a failed send is ignored.
    pub fn answer(self, answer: Result<Answer, AppendError>) {
        drop(self.reply.send(answer));
    }
}

/// Answers every caller, all in the same stage; `mirrored`: the other store has the commit too.
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

/// The error for an append that waited in the queue beyond its deadline: nothing was written.
pub fn too_late() -> StoreError {
    StoreError::determinate(
        StoreErrorKind::Timeout,
        "log",
        "append",
        "the deadline passed before it was begun",
    )
}
