//! Every answer of the service other than a result. Each says whether the command happened.

use std::time::Duration;

use crate::domain::ids::CommandId;
use crate::domain::refusal::Refusal;
use crate::store::error::{StoreError, StoreErrorKind};

/// Why a request has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ServiceError {
    /// The domain refused the command: nothing happened, and the same request would be refused
    /// again. 4xx.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A limit was reached before anything was done: nothing happened. 429 or 503.
    #[error("over the limit of {limit}; nothing was done")]
    Overloaded {
        limit: &'static str,
        /// Whether it is the caller's own limit (429) or the service's (503).
        callers_own: bool,
        /// How long to wait before the next attempt.
        retry_after: Duration,
    },
    /// A dependency is not available: nothing happened. 503.
    #[error("{dependency} is unavailable: {message}")]
    Unavailable {
        dependency: &'static str,
        message: String,
        /// How long to wait before the next attempt.
        retry_after: Duration,
    },
    /// A store has no space left: nothing happened. 503 `storage_full`.
    #[error("{place} has no room left: {message}")]
    NoRoom {
        /// The store, or `disk` for that of the data directory.
        place: &'static str,
        message: String,
        /// How long to wait before the next attempt.
        retry_after: Duration,
    },
    /// It may or may not have happened. Repeating it with the same idempotency key is safe, and
    /// `GET /api/v1/commands/{id}` tells the outcome. 503 `outcome_unknown`.
    #[error("the outcome of command {command_id} is unknown: {message}")]
    OutcomeUnknown {
        command_id: CommandId,
        message: String,
        /// How long to wait before the next attempt.
        retry_after: Duration,
    },
    /// The deadline passed before anything was done: nothing happened. 503.
    #[error("the deadline passed before the request was begun")]
    DeadlineExceeded,
    /// Stored data are damaged, or a bug: nothing happened. 500.
    #[error("internal error: {0}")]
    Internal(String),
}

/// How long a caller should wait before it uses a failing dependency again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// [`RETRY_AFTER`] for a full store: somebody has to free space first.
pub const RETRY_WHEN_FULL: Duration = Duration::from_secs(5);

/// [`RETRY_AFTER`] for a principal, or a partition, that has used up its idempotency keys.
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
