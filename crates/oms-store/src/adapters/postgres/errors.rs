//! Classifies failures of PostgreSQL: whether the operation happened, and what the caller can do.

use std::error::Error as _;

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::certificates::{self, Outlook};
use crate::error::{StoreError, StoreErrorKind};

pub(super) const STORE: &str = "postgres";

/// Whether the failure means that the schema, one of its tables or the database is missing and has
/// to be created again.
pub(super) fn is_schema_missing(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        [
            &SqlState::UNDEFINED_TABLE,
            &SqlState::INVALID_SCHEMA_NAME,
            &SqlState::UNDEFINED_DATABASE,
        ]
        .contains(&code)
    })
}

/// A failure to get a connection: the operation did not happen.
pub(super) fn connecting(operation: &'static str, error: &PoolError) -> StoreError {
    let determinate =
        |kind, message: String| StoreError::determinate(kind, STORE, operation, message);
    match error {
        PoolError::Backend(e) => connecting_directly(operation, e),
        PoolError::Timeout(TimeoutType::Wait) => determinate(
            StoreErrorKind::Timeout,
            "every connection of the pool is busy".into(),
        ),
        PoolError::Timeout(_) => {
            determinate(StoreErrorKind::Timeout, "connecting took too long".into())
        }
        PoolError::Closed => determinate(StoreErrorKind::Closed, "the pool was closed".into()),
        other => determinate(StoreErrorKind::Unavailable, other.to_string()),
    }
}

/// As [`connecting`], for a connection outside the pool.
pub(super) fn connecting_directly(operation: &'static str, error: &Error) -> StoreError {
    if let Some(problem) = certificates::problem(error) {
        let kind = match problem.outlook {
            Outlook::Passing => StoreErrorKind::Unavailable,
            Outlook::Lasting | Outlook::Open => StoreErrorKind::Denied,
        };
        return StoreError::determinate(kind, STORE, operation, problem.message);
    }
    let kind = match error.code().map(SqlState::code) {
        Some(code) if code.starts_with("28") || code == "42501" => StoreErrorKind::Denied,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::determinate(kind, STORE, operation, describe(error))
}

/// A failure after work on a connection began. A statement that the server refused did not happen;
/// a lost connection may have been lost between COMMIT and its answer.
pub(super) fn working(operation: &'static str, error: &Error) -> StoreError {
    let message = describe(error);
    let Some(code) = error.code() else {
        let lost = error.is_closed() || error.source().is_some_and(|s| s.is::<std::io::Error>());
        let kind = if lost {
            StoreErrorKind::Unavailable
        } else {
            // What was sent or received is not what the program expects.
            StoreErrorKind::Invalid
        };
        return StoreError::indeterminate(kind, STORE, operation, message);
    };
    let (kind, happened) = judge(code.code());
    match happened {
        Happened::No => StoreError::determinate(kind, STORE, operation, message),
        Happened::Unknown => StoreError::indeterminate(kind, STORE, operation, message),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Happened {
    No,
    Unknown,
}

fn judge(code: &str) -> (StoreErrorKind, Happened) {
    use StoreErrorKind as Kind;
    match code {
        // Serialization failure, deadlock, or a unique value that another transaction took.
        "40001" | "40P01" | "23505" => (Kind::Conflict, Happened::No),
        // The server does not know how the transaction ended.
        "40003" => (Kind::Unavailable, Happened::Unknown),
        // A lock or statement took longer than allowed.
        "55P03" | "57014" => (Kind::Timeout, Happened::No),
        // A table, the schema or the database is missing: the next call creates it.
        "42P01" | "3F000" | "3D000" => (Kind::Unavailable, Happened::No),
        // During a fail-over this server accepts no writes.
        "25006" => (Kind::Unavailable, Happened::No),
        "42501" => (Kind::Denied, Happened::No),
        "53100" => (Kind::Full, Happened::No),
        _ => match &code[..code.len().min(2)] {
            // A failure of the connection, or the server shutting down: perhaps after the commit.
            "08" | "57" => (Kind::Unavailable, Happened::Unknown),
            // Out of memory, disk or connections.
            "53" | "58" => (Kind::Unavailable, Happened::No),
            "28" => (Kind::Denied, Happened::No),
            "XX" => (Kind::Corrupt, Happened::No),
            _ => (Kind::Invalid, Happened::No),
        },
    }
}

/// No answer in time: the operation may have happened.
pub(super) fn timed_out(operation: &'static str) -> StoreError {
    StoreError::indeterminate(
        StoreErrorKind::Timeout,
        STORE,
        operation,
        "no answer in time",
    )
}

/// The settings, or the state of the database, cannot be used.
pub(super) fn invalid(operation: &'static str, message: impl Into<String>) -> StoreError {
    StoreError::determinate(StoreErrorKind::Invalid, STORE, operation, message)
}

/// Message and code, without DETAIL, which quotes data.
fn describe(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_4_only_a_lost_connection_leaves_the_outcome_open() {
        for code in ["57P01", "57P02", "08006", "08003", "40003"] {
            assert_eq!(judge(code).1, Happened::Unknown, "{code}");
        }
        for code in [
            "40001", "40P01", "42P01", "3D000", "53100", "57014", "23505", "22001",
        ] {
            assert_eq!(judge(code).1, Happened::No, "{code}");
        }
        assert_eq!(judge("40001").0, StoreErrorKind::Conflict);
        assert_eq!(judge("53300").0, StoreErrorKind::Unavailable);
        assert_eq!(judge("53100").0, StoreErrorKind::Full);
    }
}
