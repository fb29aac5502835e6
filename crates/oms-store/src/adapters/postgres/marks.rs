//! Marks of copies as columns: next_offset, log_id, anchored_at, sha256.

use tokio_postgres::{Error, Row};
use uuid::Uuid;

use oms_core::log::identity::{Anchor, LogId, Mark};
use oms_core::log::object::ObjectHash;

/// Marks as arrays of columns.
#[derive(Default)]
pub(super) struct MarkColumns {
    pub next: Vec<i64>,
    pub log: Vec<Option<Uuid>>,
    pub at: Vec<Option<i64>>,
    pub hash: Vec<Option<Vec<u8>>>,
}

impl MarkColumns {
    /// The columns of these marks.
    pub fn of<'a>(marks: impl Iterator<Item = &'a Mark>) -> Self {
        let mut columns = Self::default();
        for mark in marks {
            columns.next.push(mark.next as i64);
            let anchor = mark.anchor;
            columns.log.push(anchor.and_then(|a| a.log).map(|id| id.0));
            columns.at.push(anchor.map(|a| a.at as i64));
            columns.hash.push(anchor.map(|a| a.hash.0.to_vec()));
        }
        columns
    }
}

/// The mark whose columns begin at `column`.
pub(super) fn mark_at(row: &Row, column: usize) -> Result<Mark, Error> {
    let next: i64 = row.try_get(column)?;
    Ok(mark_of(
        next,
        row.try_get(column + 1)?,
        row.try_get(column + 2)?,
        row.try_get(column + 3)?,
    ))
}

/// The mark of these columns.
pub(super) fn mark_of(
    next: i64,
    log: Option<Uuid>,
    at: Option<i64>,
    sha256: Option<&[u8]>,
) -> Mark {
    let anchor = at.zip(sha256).map(|(at, sha256)| {
        let mut hash = ObjectHash::NONE;
        // The column has 32 bytes; other lengths would equal no hash.
        if sha256.len() == hash.0.len() {
            hash.0.copy_from_slice(sha256);
        }
        Anchor {
            log: log.map(LogId),
            at: at as u64,
            hash,
        }
    });
    Mark {
        next: next as u64,
        anchor,
    }
}
