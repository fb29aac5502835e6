//! Everything a caller can be told instead of a result. Says whether the command happened.

use std::time::Duration;

use crate::domain::ids::CommandId;
use crate::domain::refusal::Refusal;
use crate::store::error::{StoreError, StoreErrorKind};

/// Why a request has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ServiceError {
    /// The domain said no: nothing happened, and the same request would be refused again. 4xx.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A limit was reached before anything was done: nothing happened. 429 or 503.
    #[error("over the limit of {limit}; nothing was done")]
    Overloaded {
        /// Which limit.
        limit: &'static str,
        /// Whether it is the caller's own limit (429) or the service's (503).
        callers_own: bool,
        /// When to come back.
        retry_after: Duration,
    },
    /// A dependency does not serve: nothing happened. 503.
    #[error("{dependency} is unavailable: {message}")]
    Unavailable {
        /// Which.
        dependency: &'static str,
        /// Why, for a person.
        message: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// A store has no room left to write to: nothing happened. 503 `storage_full`.
    #[error("{place} has no room left: {message}")]
    NoRoom {
        /// Which store, or `disk` for that of the data directory.
        place: &'static str,
        /// Why, for a person.
        message: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// It may or may not have happened; asking again with the same idempotency key is safe, and
    /// `GET /api/v1/commands/{id}` tells. 503 `outcome_unknown`.
    #[error("the outcome of command {command_id} is unknown: {message}")]
    OutcomeUnknown {
        /// The command.
        command_id: CommandId,
        /// Why, for a person.
        message: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// The deadline passed before anything was done: nothing happened. 503.
    #[error("the deadline passed before the request was begun")]
    DeadlineExceeded,
    /// Something stored is not what was written, or a bug: nothing happened. 500.
    #[error("internal error: {0}")]
    Internal(String),
}

/// How long a caller should wait before it asks a failing dependency again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The same for a store that is full: somebody has to make room first.
pub const RETRY_WHEN_FULL: Duration = Duration::from_secs(5);

/// The same for a principal, or a partition, that has used up its idempotency keys.
pub const RETRY_WHEN_KEYS_FULL: Duration = Duration::from_secs(60);

impl From<StoreError> for ServiceError {
    /// For reads, and for writes that are known not to have happened.
    fn from(error: StoreError) -> Self {
        if error.kind == StoreErrorKind::Full {
            ServiceError::NoRoom {
                place: error.store,
                message: error.message,
                retry_after: RETRY_WHEN_FULL,
            }
        } else if error.is_transient() {
            ServiceError::Unavailable {
                dependency: error.store,
                message: error.message,
                retry_after: error.retry_after.unwrap_or(RETRY_AFTER),
            }
        } else {
            ServiceError::Internal(error.to_string())
        }
    }
}
