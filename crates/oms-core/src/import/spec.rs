//! The description of a foreign table.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The column of each part of an event: its exact name, or an SQL expression in which the row is
/// called `e`. `{schema}` stands for the table's schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Global position: a unique integer that grows in the order of inserting. Without one the
    /// table is read stream by stream, in passes.
    pub order: Option<String>,
    /// `category-id` in one text, instead of type and id.
    pub stream_name: Option<String>,
    /// Type of the stream.
    pub stream_type: Option<String>,
    /// Id of the stream.
    pub stream_id: Option<String>,
    /// Version in the stream, without gaps. Without one, events are numbered in the order of their
    /// positions.
    pub version: Option<String>,
    /// Id of the event; without one it is derived from source, stream and version, or position.
    pub event_id: Option<String>,
    /// Type of the event.
    pub event_type: Option<String>,
    /// Version of the data's schema: a number, or a text that begins with one.
    pub schema_version: Option<String>,
    /// Content: `json`, `jsonb`, text or `bytea`; other types are converted to JSON. References to
    /// content stored elsewhere, such as a large object's number, are refused.
    pub data: Option<String>,
    /// Metadata, of the same types as content.
    pub metadata: Option<String>,
    /// When it happened: `timestamptz`, `timestamp` (taken as UTC) or RFC 3339 text with an offset.
    pub time: Option<String>,
}

/// What to do with bytes that are not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BinaryPolicy {
    /// The row is parked.
    Park,
    /// The data become `{"base64": "…"}`, unless the bytes are recognised as compressed.
    Wrap,
}

/// The version at which a stream may begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirstVersion {
    /// The first version; a stream that begins later is parked as a gap.
    #[default]
    Base,
    /// Any version. The first event gets version 1 here, later ones the following; the version in
    /// the source is kept in `metadata.import.version`.
    Any,
}

/// Largest event by default, in bytes.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// A foreign event store, as described by preset and settings together.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// The source's name in the configuration.
    pub name: String,
    /// The table with its schema, as written in SQL.
    pub table: String,
    /// Its columns.
    pub columns: Columns,
    /// SQL that joins more tables to `e`.
    pub join: Option<String>,
    /// SQL condition: rows that are events.
    pub filter: Option<String>,
    /// Version of a stream's first event in the source: 0 or 1.
    pub version_base: i64,
    /// The version at which a stream may begin.
    pub first_version: FirstVersion,
    /// The type of streams without one.
    pub default_stream_type: Option<String>,
    /// Prefix of every stream type.
    pub stream_type_prefix: String,
    /// Stream types by foreign name, instead of derived ones.
    pub stream_types: BTreeMap<String, String>,
    /// Event types by foreign name, instead of derived ones.
    pub event_types: BTreeMap<String, String>,
    /// JSON pointer to the time in the data, if the table has no column for it.
    pub time_pointer: Option<String>,
    /// What to do with bytes that are not JSON.
    pub binary: BinaryPolicy,
    /// Whether to decompress compressed bytes.
    pub decompress: bool,
    /// Largest event, envelope included; larger ones are parked.
    pub max_event_bytes: usize,
    /// How long after its position was reserved a row may be inserted, beyond what locks reveal.
    pub lag: Duration,
}

impl Default for SourceSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            table: String::new(),
            columns: Columns::default(),
            join: None,
            filter: None,
            version_base: 1,
            first_version: FirstVersion::Base,
            default_stream_type: None,
            stream_type_prefix: String::new(),
            stream_types: BTreeMap::new(),
            event_types: BTreeMap::new(),
            time_pointer: None,
            binary: BinaryPolicy::Park,
            decompress: false,
            max_event_bytes: MAX_EVENT_BYTES,
            lag: Duration::ZERO,
        }
    }
}

impl SourceSpec {
    /// Whether events are numbered here, in the order of their positions, because the source has no
    /// versions.
    pub fn numbers_by_order(&self) -> bool {
        self.columns.version.is_none()
    }

    /// The table's schema with a dot, as written; empty when the table is named without one.
    pub fn schema_prefix(&self) -> &str {
        self.table.rfind('.').map_or("", |dot| &self.table[..=dot])
    }

    /// The table's name without its schema and without quotes.
    pub fn table_name(&self) -> &str {
        let dot = self.table.rfind('.').map_or(0, |dot| dot + 1);
        self.table[dot..].trim_matches('"')
    }

    /// An expression with `{schema}` replaced.
    pub fn sql(&self, expression: &str) -> String {
        let schema = self.schema_prefix().trim_end_matches('.');
        let schema = if schema.is_empty() { "public" } else { schema };
        expression.replace("{schema}", schema)
    }
}

/// Whether the text is a qualified table name: two identifiers, quoted or plain.
pub fn is_qualified_table(text: &str) -> bool {
    let Some((schema, table)) = split_identifier(text) else {
        return false;
    };
    let rest = table.strip_prefix('.').and_then(split_identifier);
    !schema.is_empty() && rest.is_some_and(|(table, rest)| !table.is_empty() && rest.is_empty())
}

/// Splits off the identifier at the beginning of a text.
fn split_identifier(text: &str) -> Option<(&str, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let end = quoted.find('"')?;
        return Some((&quoted[..end], &quoted[end + 1..]));
    }
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    Some((&text[..end], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_with_its_schema_and_nothing_else() {
        for good in ["public.events", "\"My Schema\".\"Events\"", "a.\"b.c\""] {
            assert!(is_qualified_table(good), "{good}");
        }
        for bad in [
            "events",
            "a.b.c",
            "a.b; drop table c",
            "a.",
            ".b",
            "a.\"b",
            "",
        ] {
            assert!(!is_qualified_table(bad), "{bad}");
        }
    }
}
