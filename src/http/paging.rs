//! Which part of a list is asked for.

use super::problem::{self, Problem};
use crate::domain::ids::Version;

/// Items per page by default.
pub const DEFAULT_LIMIT: usize = 100;
/// Items per page at most: bounds the memory of an answer.
pub const MAX_LIMIT: usize = 1_000;

/// The requested page size, from 1 to [`MAX_LIMIT`].
pub fn page_limit(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(Problem::new(
            problem::INVALID_QUERY,
            format!("limit must be between 1 and {MAX_LIMIT}"),
        )
        .field("limit", "range", format!("1 to {MAX_LIMIT}"))),
    }
}

/// Parses the cursor of a stream: the version to continue with.
pub fn stream_cursor(cursor: Option<&str>) -> Result<Option<Version>, Problem> {
    let Some(text) = cursor else {
        return Ok(None);
    };
    match text.parse() {
        Ok(version) => Ok(Some(Version(version))),
        Err(_) => Err(Problem::new(
            problem::INVALID_CURSOR,
            "cursor must be the next_cursor of a page of this stream",
        )),
    }
}
