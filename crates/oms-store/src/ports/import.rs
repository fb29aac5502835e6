//! The ports of an import: the events of the source, and the import's checkpoint.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use oms_core::domain::ids::StreamName;
use oms_core::import::lanes::ParkedRow;
use oms_core::import::row::{Cursor, ForeignRow};

/// Whether there may be more rows after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageEnd {
    /// There are more rows.
    More,
    /// Transactions that began before the newest row was seen may still insert rows before it: ask
    /// again in a moment. Their number, as far as visible.
    Unsettled(u32),
    /// Every row that was there at the last check was read.
    Caught,
}

/// Rows in the order of the source.
#[derive(Debug, Clone)]
pub struct Page {
    /// The rows; possibly none, whatever `end` says.
    pub rows: Vec<ForeignRow>,
    /// The cursor after them.
    pub next: Cursor,
    /// Whether there may be more.
    pub end: PageEnd,
}

/// A foreign event store.
///
/// Consecutive pages contain every committed row once, in whatever order transactions commit: a row
/// that commits late, with a position before rows that were visible earlier, is not skipped. Rows
/// of one stream come in order of their versions where the source has them in that order.
#[async_trait]
pub trait ForeignEvents: Send + Sync {
    /// Inspects the source again, before the first page of a run; returns its estimated number of
    /// rows, 0 if unknown.
    async fn begin(&self) -> Result<u64, StoreError>;

    /// Rows after `after` (`None`: from the beginning), at most `limit`.
    async fn page(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError>;
}

/// The progress of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Every row up to here is in the log or parked.
    pub cursor: Cursor,
    /// Rows up to here, over all runs.
    pub rows: u64,
    /// Names assigned to the source's types; saving adds to the stored ones.
    pub names: BTreeMap<String, String>,
}

/// A parked row in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedEntry {
    /// Its number in the list.
    pub id: i64,
    /// The source's name.
    pub source: String,
    /// Its position in the source, or its stream and version.
    pub key: String,
    /// Its stream in the source.
    pub foreign_stream: Option<String>,
    /// Its stream in this log, if known.
    pub stream: Option<String>,
    /// Its version in the source.
    pub version: Option<i64>,
    /// Its event id in the source.
    pub event_id: Option<String>,
    /// Its event type in the source.
    pub event_type: Option<String>,
    /// Why it was parked, as a code.
    pub reason: String,
    /// Why it was parked, for a person.
    pub detail: String,
    /// When it was last parked.
    pub parked: Timestamp,
}

/// Checkpoints and parked rows of imports.
#[async_trait]
pub trait ImportJournal: Send + Sync {
    /// The checkpoint of a source's import.
    async fn checkpoint(&self, source: &str) -> Result<Option<Checkpoint>, StoreError>;

    /// Saves the checkpoint.
    async fn save(&self, source: &str, checkpoint: Checkpoint) -> Result<(), StoreError>;

    /// Records rows as parked; a row that was parked before stays one entry.
    async fn park(&self, source: &str, rows: Vec<ParkedRow>) -> Result<(), StoreError>;

    /// Streams with a parked row, of which nothing more is imported.
    async fn stopped(&self, source: &str) -> Result<Vec<StreamName>, StoreError>;

    /// Where an operator finds the parked rows.
    fn parked_in(&self) -> String;

    /// Number of parked rows.
    async fn count_parked(&self, source: &str) -> Result<u64, StoreError>;

    /// Parked rows in the order in which they were parked, after the one with this number.
    async fn parked(
        &self,
        source: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<ParkedEntry>, StoreError>;

    /// Deletes checkpoint and parked rows, so that the import starts again. Events that are in the
    /// log are recognised.
    async fn forget(&self, source: &str) -> Result<(), StoreError>;
}
