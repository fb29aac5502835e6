//! Translates a failed call to an actor for the caller.

use super::error::{RETRY_AFTER, RETRY_WHEN_KEYS_FULL, ServiceError};
use crate::actors::error::CallError;

impl From<CallError> for ServiceError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => Self::Refused(refusal),
            CallError::Overloaded { limit, entitys_own } => Self::Overloaded {
                limit,
                callers_own: entitys_own,
                retry_after: match limit {
                    // Space is freed as keys grow older than the promised time.
                    "idempotency_keys" => RETRY_WHEN_KEYS_FULL,
                    _ => RETRY_AFTER,
                },
            },
            CallError::Store(error) => error.into(),
            CallError::OutcomeUnknown {
                command_id,
                message,
            } => Self::OutcomeUnknown {
                command_id,
                message,
                retry_after: RETRY_AFTER,
            },
            CallError::DeadlineExceeded => Self::DeadlineExceeded,
            CallError::Internal(message) => Self::Internal(message),
        }
    }
}
