//! What can go wrong with a store, by what the caller must do about it.

use std::time::Duration;

/// Did it happen?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Determinacy {
    /// It did not happen.
    Determinate,
    /// It may have happened; only reading back can tell.
    Indeterminate,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// The store could not be reached or answered that it cannot serve.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// The store has no room left to write to.
    Full,
    /// The store asks for a slower pace.
    Throttled,
    /// Credentials or permissions are wrong.
    Denied,
    /// The thing is not there, where that is an error.
    NotFound,
    /// Somebody else was first.
    Conflict,
    /// What was read is not what was written.
    Corrupt,
    /// The request itself is wrong.
    Invalid,
    /// The adapter was shut down.
    Closed,
}

impl StoreErrorKind {
    /// As a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Full => "full",
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Corrupt => "corrupt",
            Self::Invalid => "invalid",
            Self::Closed => "closed",
        }
    }
}

/// A failed operation on a store.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{store} {operation}: {} ({}): {message}", kind.as_str(), match determinacy {
    Determinacy::Determinate => "did not happen",
    Determinacy::Indeterminate => "may have happened",
})]
pub struct StoreError {
    /// Did it happen?
    pub determinacy: Determinacy,
    /// What kind of failure.
    pub kind: StoreErrorKind,
    /// Which store: `s3`, `postgres`, `kafka`.
    pub store: &'static str,
    /// Which operation.
    pub operation: &'static str,
    /// For a person; carries no secret.
    pub message: String,
    /// When the store said to come back.
    pub retry_after: Option<Duration>,
}

impl StoreError {
    /// It did not happen.
    pub fn determinate(
        kind: StoreErrorKind,
        store: &'static str,
        operation: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            determinacy: Determinacy::Determinate,
            kind,
            store,
            operation,
            message: message.into(),
            retry_after: None,
        }
    }

    /// It may have happened.
    pub fn indeterminate(
        kind: StoreErrorKind,
        store: &'static str,
        operation: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            determinacy: Determinacy::Indeterminate,
            ..Self::determinate(kind, store, operation, message)
        }
    }

    /// The bytes read are not the bytes written.
    pub fn corrupt(
        store: &'static str,
        operation: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self::determinate(StoreErrorKind::Corrupt, store, operation, message)
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Unavailable
                | StoreErrorKind::Timeout
                | StoreErrorKind::Full
                | StoreErrorKind::Throttled
        )
    }

    /// Whether it may have happened.
    pub fn is_indeterminate(&self) -> bool {
        self.determinacy == Determinacy::Indeterminate
    }
}
