//! A row as it was read, and the cursor after it.

use serde::{Deserialize, Serialize};

/// Where reading continues: everything up to here was read. Saved in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// The last position read, in a table that has a global one.
    Position(i64),
    /// The place in a pass, in a table without global positions. A pass goes through the table by
    /// stream; the first one reads every row, each further one the rows of transactions that the
    /// one before may have missed.
    Pass {
        /// Transactions before this one were read by earlier passes; `None` in the first pass.
        since: Option<u64>,
        /// The oldest transaction that was still running when this pass began.
        horizon: u64,
        /// The last row read; `None` at the beginning of the pass.
        after: Option<RowKey>,
    },
}

/// Identifies a row in a table without global positions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowKey {
    /// Type of its stream, if the table has one.
    pub stream_type: Option<String>,
    /// Id of its stream.
    pub stream_id: String,
    /// Its version in the source.
    pub version: i64,
}

/// Content as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// NULL.
    Null,
    /// Text that should be JSON.
    Text(String),
    /// Bytes of any format.
    Bytes(Vec<u8>),
}

/// A time as read from the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowTime {
    /// Microseconds since 1970, UTC.
    Micros(i64),
    /// Text that should be RFC 3339.
    Text(String),
}

/// A row. `None` means NULL, or no such column.
#[derive(Debug, Clone)]
pub struct ForeignRow {
    /// The cursor after it.
    pub cursor: Cursor,
    /// Its global position.
    pub position: Option<i64>,
    /// Name of its stream, if the source has type and id in one text.
    pub stream_name: Option<String>,
    /// Type of its stream.
    pub stream_type: Option<String>,
    /// Id of its stream.
    pub stream_id: Option<String>,
    /// Its version in its stream.
    pub version: Option<i64>,
    /// Its id.
    pub event_id: Option<String>,
    /// Its type.
    pub event_type: Option<String>,
    /// Version of its data's schema.
    pub schema_version: Option<String>,
    /// Its content.
    pub data: Content,
    /// Its metadata.
    pub metadata: Content,
    /// When it happened.
    pub time: Option<RowTime>,
    /// Its version, if that is no number.
    pub odd_version: Option<String>,
    /// Its content was not read, because it is far larger than an event may be.
    pub too_large: bool,
    /// Why some column could not be read; the other fields are set.
    pub unreadable: Option<String>,
}

impl ForeignRow {
    /// A row of which only the place is known.
    pub fn at(cursor: Cursor) -> Self {
        Self {
            cursor,
            position: None,
            stream_name: None,
            stream_type: None,
            stream_id: None,
            version: None,
            event_id: None,
            event_type: None,
            schema_version: None,
            data: Content::Null,
            metadata: Content::Null,
            time: None,
            odd_version: None,
            too_large: false,
            unreadable: None,
        }
    }

    /// Approximate bytes of what was read.
    pub fn size(&self) -> usize {
        let content = |content: &Content| match content {
            Content::Null => 0,
            Content::Text(text) => text.len(),
            Content::Bytes(bytes) => bytes.len(),
        };
        content(&self.data) + content(&self.metadata)
    }

    /// How a person finds the row in the source: its position, or its stream and version.
    pub fn key(&self) -> String {
        if let Some(position) = self.position {
            return position.to_string();
        }
        let stream = [&self.stream_name, &self.stream_type, &self.stream_id];
        let mut parts: Vec<&str> = stream.into_iter().flatten().map(String::as_str).collect();
        let version = self.version.map_or_else(|| "-".into(), |v| v.to_string());
        parts.push(&version);
        parts.join("/")
    }
}
