//! Why a call to an actor has no result.

use crate::domain::ids::CommandId;
use crate::domain::refusal::Refusal;
use crate::store::error::StoreError;

/// Every variant but [`CallError::OutcomeUnknown`] means that nothing happened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The domain refused the command.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A limit was reached before anything was done.
    #[error("over the limit of {limit}")]
    Overloaded {
        limit: &'static str,
        /// Whether the limit is the entity's own rather than the service's.
        entitys_own: bool,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It may have happened.
    #[error("the outcome of command {command_id} is unknown: {message}")]
    OutcomeUnknown {
        command_id: CommandId,
        message: String,
    },
    /// The deadline passed before anything was done.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// Stored bytes could not be decoded, or the actor has stopped.
    #[error("{0}")]
    Internal(String),
}

impl CallError {
    /// What went wrong, as one of few words.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Overloaded { limit, .. } => limit,
            Self::Store(error) => error.kind.as_str(),
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Internal(_) => "internal",
        }
    }
}
