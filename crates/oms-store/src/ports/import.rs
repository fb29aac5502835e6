//! The ports of an import: somebody else's events, and what we keep of how far we are.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use oms_core::domain::ids::StreamName;
use oms_core::import::lanes::ParkedRow;
use oms_core::import::row::{Cursor, ForeignRow};

/// What a page ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageEnd {
    /// There is more.
    More,
    /// Transactions that began before the newest row was seen may still add rows before it: ask
    /// again in a moment. How many there are, as far as can be seen.
    Unsettled(u32),
    /// Everything there was when it was looked at last was read.
    Caught,
}

/// Rows in the order of the source.
#[derive(Debug, Clone)]
pub struct Page {
    /// The rows; may be empty whatever the end.
    pub rows: Vec<ForeignRow>,
    /// Where reading goes on.
    pub next: Cursor,
    /// What follows.
    pub end: PageEnd,
}

/// A foreign event store.
///
/// Pages read one after the other give every row that is ever committed, once, whatever order
/// transactions commit in: a row that commits late, with a position before rows that were visible
/// earlier, is never passed over. Rows of one stream come in order of their versions where the
/// source has them in that order.
#[async_trait]
pub trait ForeignEvents: Send + Sync {
    /// Looks at the source anew, before the first page of a run; answers about how many rows it
    /// has, 0 where that cannot be told.
    async fn begin(&self) -> Result<u64, StoreError>;

    /// Rows after `after` (from the beginning without), at most `limit`.
    async fn page(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError>;
}

/// How far an import is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything up to here is in the log or parked.
    pub cursor: Cursor,
    /// Rows up to here, all runs together.
    pub rows: u64,
    /// Names of ours that were given to the source's types; saving adds to those that are kept.
    pub names: BTreeMap<String, String>,
}

/// A parked row as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedEntry {
    /// Number in the list.
    pub id: i64,
    /// The source's name.
    pub source: String,
    /// Its position there, or its stream and version.
    pub key: String,
    /// Its stream as named there.
    pub foreign_stream: Option<String>,
    /// Its stream with us.
    pub stream: Option<String>,
    /// Its version there.
    pub version: Option<i64>,
    /// Its id there.
    pub event_id: Option<String>,
    /// Its type there.
    pub event_type: Option<String>,
    /// Why, as a code.
    pub reason: String,
    /// Why, for a person.
    pub detail: String,
    /// When it was parked last.
    pub parked: Timestamp,
}

/// What is kept of an import between its runs.
#[async_trait]
pub trait ImportJournal: Send + Sync {
    /// How far the import of a source is.
    async fn checkpoint(&self, source: &str) -> Result<Option<Checkpoint>, StoreError>;

    /// Keeps how far it is.
    async fn save(&self, source: &str, checkpoint: Checkpoint) -> Result<(), StoreError>;

    /// Records rows as parked; a row that was parked before is one row still.
    async fn park(&self, source: &str, rows: Vec<ParkedRow>) -> Result<(), StoreError>;

    /// Streams of which nothing more is imported, because a row was parked.
    async fn stopped(&self, source: &str) -> Result<Vec<StreamName>, StoreError>;

    /// Where a person looks at parked rows.
    fn parked_in(&self) -> String;

    /// How many rows are parked.
    async fn count_parked(&self, source: &str) -> Result<u64, StoreError>;

    /// Parked rows in the order in which they were parked, after the one with this number.
    async fn parked(
        &self,
        source: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<ParkedEntry>, StoreError>;

    /// Forgets checkpoint and parked rows, so that the import begins anew. What is in the log
    /// already is recognised.
    async fn forget(&self, source: &str) -> Result<(), StoreError>;
}
