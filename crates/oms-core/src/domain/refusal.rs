//! Why a command was refused. A refusal is the domain's answer, not a failure of the system:
//! nothing happened, and the same command would be refused again.

use serde::Serialize;

use super::ids::Version;
use super::versions::VersionSet;

/// The kind of a refusal; decides the HTTP status and is stable for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request contradicts itself or the ontology: 422.
    Invalid,
    /// It does not exist: 404.
    NotFound,
    /// The configuration does not allow it: 403.
    Forbidden,
    /// It exists already, or its state does not allow the command: 409.
    Conflict,
    /// The caller's expected version is not the current one: 412.
    VersionMismatch {
        /// The current version.
        actual: Version,
    },
}

/// An error of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Violation {
    /// Path of the field, for example `data.address.zip` or `properties[2].constraints.min`.
    #[cfg_attr(feature = "openapi", schema(example = "data.address.zip"))]
    pub field: String,
    /// Stable code, for example `required`, `type`, `pattern`.
    #[cfg_attr(feature = "openapi", schema(example = "required"))]
    pub code: &'static str,
    /// What is wrong and what would be right, for a person.
    pub message: String,
}

/// A refused command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Decides the HTTP status.
    pub kind: RefusalKind,
    /// Stable code, for example `class_not_found`.
    pub code: &'static str,
    /// What was refused and why, for a person.
    pub message: String,
    /// The fields that are wrong, if the refusal concerns fields.
    pub violations: Vec<Violation>,
}

impl Refusal {
    /// A 404 refusal.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::NotFound,
            code,
            message: message.into(),
            violations: vec![],
        }
    }

    /// A 403 refusal.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::Forbidden,
            code,
            message: message.into(),
            violations: vec![],
        }
    }

    /// A 409 refusal.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::Conflict,
            code,
            message: message.into(),
            violations: vec![],
        }
    }

    /// A 422 refusal of the command as a whole.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: RefusalKind::Invalid,
            code,
            message: message.into(),
            violations: vec![],
        }
    }

    /// A 422 refusal that lists the fields that are wrong.
    pub fn violations(violations: Vec<Violation>) -> Self {
        let fields: Vec<&str> = violations
            .iter()
            .map(|v| v.field.as_str())
            .take(5)
            .collect();
        let more = violations.len().saturating_sub(fields.len());
        let mut message = format!("invalid: {}", fields.join(", "));
        if more > 0 {
            message.push_str(&format!(" and {more} more"));
        }
        Self {
            kind: RefusalKind::Invalid,
            code: "validation_failed",
            message,
            violations,
        }
    }

    /// 422: the idempotency key stands for another request.
    pub fn key_reused() -> Self {
        Self::invalid(
            "idempotency_key_reused",
            "this idempotency key was used for another request",
        )
    }

    /// Whether the caller's expected version is not the current one.
    pub fn is_version_mismatch(&self) -> bool {
        matches!(self.kind, RefusalKind::VersionMismatch { .. })
    }

    /// A 412 refusal.
    pub fn version_mismatch(expected: impl Into<VersionSet>, actual: Version) -> Self {
        let expected = expected.into();
        Self {
            kind: RefusalKind::VersionMismatch { actual },
            code: "version_mismatch",
            message: format!("expected version {expected}, but the current version is {actual}"),
            violations: vec![],
        }
    }
}
