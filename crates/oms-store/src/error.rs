//! Failures of stores, classified by what the caller can do.

use std::time::Duration;

/// Whether a failed operation may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Determinacy {
    /// It did not happen.
    Determinate,
    /// It may have happened; only reading back can tell.
    Indeterminate,
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// The store could not be reached or answered that it cannot serve.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// The store has no space left.
    Full,
    /// The store asks for fewer requests.
    Throttled,
    /// Credentials, permissions or certificates are not accepted, on either side.
    Denied,
    /// Something that must exist is missing.
    NotFound,
    /// Another writer was first.
    Conflict,
    /// What was read is not what was written.
    Corrupt,
    /// The request itself is invalid.
    Invalid,
    /// The adapter was shut down.
    Closed,
}

impl StoreErrorKind {
    /// The name as metric label.
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
    /// Whether it may have happened.
    pub determinacy: Determinacy,
    /// The kind of failure.
    pub kind: StoreErrorKind,
    /// The store: `s3`, `postgres`, `kafka`.
    pub store: &'static str,
    /// The operation's name.
    pub operation: &'static str,
    /// Explanation for a person; contains no secret.
    pub message: String,
    /// When to retry, if the store said so.
    pub retry_after: Option<Duration>,
}

impl StoreError {
    /// An error of an operation that did not happen.
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

    /// An error of an operation that may have happened.
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

    /// A `Corrupt` error: the bytes read are not those written.
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
