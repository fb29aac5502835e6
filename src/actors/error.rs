//! Why a call to an actor has no result.

use crate::domain::ids::CommandId;
use crate::domain::refusal::Refusal;
use crate::store::error::StoreError;

/// See the module. Everything but [`CallError::OutcomeUnknown`] means that nothing happened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The domain said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A limit was reached before anything was done.
    #[error("over the limit of {limit}")]
    Overloaded {
        /// Which limit.
        limit: &'static str,
        /// Whether it is the entity's own limit, not the service's.
        entitys_own: bool,
    },
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It may have happened.
    #[error("the outcome of command {command_id} is unknown: {message}")]
    OutcomeUnknown {
        /// The command.
        command_id: CommandId,
        /// Why.
        message: String,
    },
    /// The deadline passed before anything was done.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// Stored bytes cannot be understood, or the actor is gone.
    #[error("{0}")]
    Internal(String),
}
