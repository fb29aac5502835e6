//! Every error answer, in one table: what went wrong → status, stable code, RFC 9457 document.
//! Handlers, extractors and the middleware answer failures with a [`Problem`] and nothing else.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::ids::{CommandId, InvalidId, Version};
use crate::domain::refusal::{Refusal, RefusalKind, Violation};
use crate::service::error::{RETRY_AFTER, ServiceError};

/// Media type of every error answer.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// Stable code, for programs.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Its meaning as text; the same for every occurrence.
    pub title: &'static str,
}

macro_rules! codes {
    ($($const:ident = $code:literal, $status:literal, $title:literal;)*) => {
        $(#[doc = $title] pub const $const: Code =
            Code { code: $code, status: $status, title: $title };)*
        /// Every code that HTTP itself or a failure of the service gives. Refusals of the domain
        /// have their own codes; their status depends on their kind, see [`refusal_row`].
        pub const ALL: &[Code] = &[$($const),*];
    };
}

codes! {
    MALFORMED_JSON = "malformed_json", 400, "The body is not JSON";
    BODY_INCOMPLETE = "body_incomplete", 400, "The body ended early";
    TOO_DEEP = "json_too_deep", 400, "The body is nested too deeply";
    TOO_MANY_VALUES = "json_too_many_values", 400, "The body holds too many values";
    DUPLICATE_KEY = "duplicate_key", 400, "An object of the body has the same key twice";
    UNSUPPORTED_CHARACTER = "unsupported_character", 400, "A text of the body cannot be stored";
    NUMBER_OUT_OF_RANGE = "number_out_of_range", 400, "A number of the body is too long";
    INVALID_ID = "invalid_id", 400, "An id in the path breaks its rule";
    INVALID_QUERY = "invalid_query", 400, "A parameter of the query string is wrong";
    INVALID_CURSOR = "invalid_cursor", 400, "The cursor is not one that was given out";
    CURSOR_OF_ANOTHER_LOG = "cursor_of_another_log", 400, "The cursor was given out by another log";
    INVALID_HEADER = "invalid_header", 400, "A header is wrong";
    INVALID_IF_MATCH = "invalid_if_match", 400, "If-Match must list quoted versions";
    INVALID_IDEMPOTENCY_KEY = "invalid_idempotency_key", 400, "The Idempotency-Key is wrong";
    PRECONDITION_UNSUPPORTED = "precondition_not_supported", 400, "This request takes no such precondition";
    UNAUTHENTICATED = "unauthenticated", 401, "A valid bearer token is needed";
    FORBIDDEN = "forbidden", 403, "The token's roles do not allow this";
    CROSS_SITE_REQUEST = "cross_site_request", 403, "Without tokens only this machine's own programs are served";
    ROUTE_NOT_FOUND = "route_not_found", 404, "There is nothing at this path";
    METHOD_NOT_ALLOWED = "method_not_allowed", 405, "This path does not take this method";
    BODY_TIMEOUT = "body_timeout", 408, "The body did not arrive in time";
    BODY_TOO_LARGE = "body_too_large", 413, "The body is too large";
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", 415, "The body must be JSON";
    HEAD_TOO_LARGE = "head_too_large", 431, "The head of the request is too large";
    VALIDATION_FAILED = "validation_failed", 422, "The request contradicts its schema";
    RATE_LIMITED = "rate_limited", 429, "The caller's own limit is reached";
    INTERNAL = "internal", 500, "Internal error";
    OVERLOADED = "overloaded", 503, "The service is at its limit";
    TOO_MANY_STREAMS = "too_many_streams", 503, "Too many live streams are open";
    UNAVAILABLE = "unavailable", 503, "A dependency does not serve";
    STORAGE_FULL = "storage_full", 503, "A store has no room left to write to";
    OUTCOME_UNKNOWN = "outcome_unknown", 503, "It is not known whether the command happened";
    DEADLINE_EXCEEDED = "deadline_exceeded", 503, "The deadline passed before anything was done";
}

/// Refusals whose status depends on the code rather than the kind: a cursor that cannot be used is a
/// 400 whoever detects it.
const REFUSED_BY_CODE: &[Code] = &[INVALID_CURSOR, CURSOR_OF_ANOTHER_LOG];

/// Status and title of a refusal of the domain.
pub fn refusal_row(refusal: &Refusal) -> (u16, &'static str) {
    if let Some(row) = REFUSED_BY_CODE.iter().find(|r| r.code == refusal.code) {
        return (row.status, row.title);
    }
    match refusal.kind {
        RefusalKind::Invalid => (422, "The request contradicts itself or the ontology"),
        RefusalKind::Forbidden => (403, "The service does not allow it"),
        RefusalKind::NotFound => (404, "It does not exist"),
        RefusalKind::Conflict => (409, "The current state forbids it"),
        RefusalKind::VersionMismatch { .. } => (412, "The version has moved on"),
    }
}

/// The document, as sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// `urn:oms:problem:` and the code.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// What the code means, the same for every occurrence.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Stable code, for programs.
    #[schema(example = "version_mismatch")]
    pub code: &'static str,
    /// What is wrong this time and what would be right.
    pub detail: String,
    /// The fields at fault, when it is about fields: `field` (a path), `code`, `message`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
    /// `version_mismatch`: the current version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub actual_version: Option<Version>,
    /// Seconds after which a retry makes sense; also in `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_after: Option<u64>,
    /// `outcome_unknown`: the command to ask about at `/api/v1/commands/{command_id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub command_id: Option<CommandId>,
    /// `unavailable`: which dependency; `storage_full`: which store, or `disk`; `overloaded`: which
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subject: Option<&'static str>,
}

#[derive(Debug)]
struct Inner {
    body: ProblemBody,
    header: Option<(HeaderName, HeaderValue)>,
    cause: Option<String>,
}

/// An error on its way to the caller.
#[derive(Debug)]
pub struct Problem(Box<Inner>);

impl Problem {
    /// An occurrence of `code`; `detail` says what is wrong this time.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::of(code.code, code.status, code.title, detail.into())
    }

    fn of(code: &'static str, status: u16, title: &'static str, detail: String) -> Self {
        Self(Box::new(Inner {
            body: ProblemBody {
                problem_type: format!("urn:oms:problem:{code}"),
                title,
                status,
                code,
                detail,
                violations: Vec::new(),
                actual_version: None,
                retry_after: None,
                command_id: None,
                subject: None,
            },
            header: None,
            cause: None,
        }))
    }

    /// A bug or damage: the caller learns that the request failed, the log why.
    pub fn internal(cause: impl Into<String>) -> Self {
        let mut problem = Self::new(
            INTERNAL,
            "the request failed inside the service; nothing happened. The log has the cause \
             under this answer's X-Request-Id",
        );
        problem.0.cause = Some(cause.into());
        problem
    }

    /// A handler panicked. Unlike with [`Problem::internal`] it is unknown how far it got.
    pub fn crashed() -> Self {
        let mut problem = Self::new(
            INTERNAL,
            "the request failed inside the service; it may or may not have happened. Asking again \
             with the same Idempotency-Key is safe",
        );
        problem.0.cause = Some("the handler panicked".to_owned());
        problem
    }

    /// Adds a field that is wrong.
    pub fn field(
        mut self,
        field: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        self.0.body.violations.push(Violation {
            field: field.into(),
            code,
            message: message.into(),
        });
        self
    }

    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    /// Sets when to retry, in whole seconds, at least one.
    pub fn retry_after(mut self, after: Duration) -> Self {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.0.body.retry_after = Some(seconds.max(1));
        self
    }

    /// Sets what the problem is about: a limit, a dependency.
    pub fn subject(mut self, subject: &'static str) -> Self {
        self.0.body.subject = Some(subject);
        self
    }

    pub fn code(&self) -> &'static str {
        self.0.body.code
    }

    /// Sets the cause for the log, which the caller must not see.
    pub fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The cause, for the log only: that of an internal error, or a dependency's own message.
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The document, for an item of a batch or an event of a live stream.
    pub fn into_body(self) -> ProblemBody {
        self.0.body
    }

    pub fn body(&self) -> &ProblemBody {
        &self.0.body
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.body.code, self.0.body.detail)
    }
}

impl std::error::Error for Problem {}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, title) = refusal_row(&refusal);
        let mut problem = Self::of(refusal.code, status, title, refusal.message);
        problem.0.body.violations = refusal.violations;
        if let RefusalKind::VersionMismatch { actual } = refusal.kind {
            problem.0.body.actual_version = Some(actual);
        }
        problem
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        match error {
            ServiceError::Refused(refusal) => refusal.into(),
            ServiceError::Overloaded {
                limit,
                callers_own,
                retry_after,
            } => Self::new(
                if callers_own {
                    RATE_LIMITED
                } else {
                    OVERLOADED
                },
                message,
            )
            .subject(limit)
            .retry_after(retry_after),
            ServiceError::Unavailable {
                dependency,
                retry_after,
                ..
            } => Self::new(
                UNAVAILABLE,
                format!("{dependency} does not serve at the moment; nothing was done"),
            )
            .subject(dependency)
            .retry_after(retry_after)
            .caused_by(message),
            ServiceError::NoRoom {
                place, retry_after, ..
            } => Self::new(
                STORAGE_FULL,
                format!("{place} has no room left to write to; nothing was done"),
            )
            .subject(place)
            .retry_after(retry_after)
            .caused_by(message),
            ServiceError::OutcomeUnknown {
                command_id,
                retry_after,
                ..
            } => {
                let detail = format!(
                    "command {command_id} may or may not have happened. Asking again with the \
                     same Idempotency-Key is safe; /api/v1/commands/{command_id} tells"
                );
                let mut problem = Self::new(OUTCOME_UNKNOWN, detail)
                    .retry_after(retry_after)
                    .caused_by(message);
                problem.0.body.command_id = Some(command_id);
                problem
            }
            ServiceError::DeadlineExceeded => {
                Self::new(DEADLINE_EXCEEDED, message).retry_after(RETRY_AFTER)
            }
            ServiceError::Internal(cause) => Self::internal(cause),
        }
    }
}

/// An id in the path is malformed; `field` is its name in the path template.
pub fn invalid_id(field: &'static str, error: &InvalidId) -> Problem {
    Problem::new(INVALID_ID, format!("{field}: {error}")).field(field, "invalid_id", error.rule)
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CONTENT_TYPE, PROBLEM_JSON));
        if let Some(seconds) = self.0.body.retry_after {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some((name, value)) = &self.0.header {
            response.insert_header((name.clone(), value.clone()));
        }
        // Cannot fail: plain strings and numbers.
        response.body(serde_json::to_vec(&self.0.body).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
