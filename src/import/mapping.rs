//! A foreign row as an event of ours, or why it cannot be one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hashbrown::HashMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::names;
use super::payload::{self, Unusable};
use super::row::{ForeignRow, RowTime};
use super::spec::{BinaryPolicy, SourceSpec};
use crate::domain::event::NewEvent;
use crate::domain::ids::{
    EventId, EventType, RESERVED_STREAM_TYPES, StreamName, StreamType, Version,
};

/// Largest event: far above any sensible one, far below what makes a commit object unwieldy.
pub const MAX_EVENT_BYTES: usize = 16 << 20;

/// Distinct type names of which the derivation is remembered; a store has dozens.
const MAX_REMEMBERED: usize = 10_000;

/// UUIDv5 name space of ids of events whose own is not a UUID.
const EVENT_NAMESPACE: Uuid = Uuid::from_u128(0x6f6d_735f_696d_706f_7274_5f65_7665_6e74);

/// Why a row was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkReason {
    /// It has no stream id, or one that cannot be a stream id of ours.
    BadStream,
    /// Its stream type is one of the ontology's: give the source a `stream_type_prefix`.
    ReservedType,
    /// Its version is missing or below the first.
    BadVersion,
    /// It has no event type.
    BadType,
    /// Its data or metadata are not JSON.
    BadData,
    /// Its data are compressed, encrypted or in another format.
    OpaqueData,
    /// It is too large.
    TooLarge,
    /// Versions before it are missing.
    Gap,
    /// Its version was there before.
    Duplicate,
    /// The log has another event at its version.
    Diverged,
    /// It comes after a parked row of its stream.
    AfterParked,
}

impl ParkReason {
    /// As stored and reported.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadStream => "bad_stream",
            Self::ReservedType => "reserved_type",
            Self::BadVersion => "bad_version",
            Self::BadType => "bad_type",
            Self::BadData => "bad_data",
            Self::OpaqueData => "opaque_data",
            Self::TooLarge => "too_large",
            Self::Gap => "gap",
            Self::Duplicate => "duplicate",
            Self::Diverged => "diverged",
            Self::AfterParked => "after_parked",
        }
    }
}

/// What tells a row's place in the source, for whoever looks for it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRef {
    /// Its position, or its stream and version.
    pub key: String,
    /// Its stream as named there, type and id.
    pub foreign_stream: Option<String>,
    /// Its version as numbered there.
    pub version: Option<i64>,
    /// Its id there.
    pub event_id: Option<String>,
    /// Its type there.
    pub event_type: Option<String>,
}

/// A row on its way into the log.
#[derive(Debug, Clone)]
pub struct ImportedEvent {
    /// Its stream.
    pub stream: StreamName,
    /// Its version.
    pub version: Version,
    /// Its id.
    pub id: EventId,
    /// When it happened.
    pub time: Timestamp,
    /// Type, data, metadata.
    pub event: NewEvent,
    /// Where it came from.
    pub row: RowRef,
}

impl ImportedEvent {
    /// Bytes of its content, about those of its envelope.
    pub fn size(&self) -> usize {
        let metadata = self.event.metadata.as_ref().map_or(0, |m| m.get().len());
        self.event.data.get().len() + metadata + ENVELOPE_BYTES
    }
}

/// What an envelope has besides data and metadata, about.
const ENVELOPE_BYTES: usize = 600;

/// A row that cannot be an event.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// Its stream, where that much is known: nothing later of it is imported.
    pub stream: Option<StreamName>,
    /// Why.
    pub reason: ParkReason,
    /// What is wrong, for a person.
    pub detail: String,
    /// Where it came from.
    pub row: RowRef,
}

/// How rows of one source become events.
#[derive(Debug)]
pub struct Mapping {
    source: String,
    prefix: String,
    version_base: i64,
    default_stream_type: Option<String>,
    stream_types: BTreeMap<String, String>,
    time_pointer: Option<String>,
    binary: BinaryPolicy,
    remembered_types: HashMap<String, Option<StreamType>>,
    remembered_events: HashMap<String, Option<EventType>>,
}

impl Mapping {
    /// As the source's description says.
    pub fn new(spec: &SourceSpec) -> Self {
        Self {
            source: spec.name.clone(),
            prefix: spec.stream_type_prefix.clone(),
            version_base: spec.version_base,
            default_stream_type: spec.default_stream_type.clone(),
            stream_types: spec.stream_types.clone(),
            time_pointer: spec.time_pointer.clone(),
            binary: spec.binary,
            remembered_types: HashMap::new(),
            remembered_events: HashMap::new(),
        }
    }

    /// The row as an event; `now` stands in for a time that is missing.
    pub fn map(
        &mut self,
        mut row: ForeignRow,
        now: Timestamp,
    ) -> Result<ImportedEvent, Box<Rejected>> {
        let name = row.stream_name.take();
        let (foreign_type, foreign_id) = match name.as_deref().map(names::split) {
            Some((category, id)) => (Some(category), Some(id.unwrap_or(names::NO_ID))),
            None => (row.stream_type.as_deref(), row.stream_id.as_deref()),
        };
        let has_no_id = name.as_deref().is_some_and(|name| !name.contains('-'));
        let foreign_type = foreign_type
            .filter(|t| !t.is_empty())
            .or(self.default_stream_type.as_deref())
            .map(str::to_owned);
        let foreign_id = foreign_id.map(str::to_owned);
        let row_ref = RowRef {
            key: row.key(),
            foreign_stream: name.clone().or_else(|| match (&foreign_type, &foreign_id) {
                (Some(t), Some(id)) => Some(format!("{t}/{id}")),
                (_, id) => id.clone(),
            }),
            version: row.version,
            event_id: row.event_id.clone(),
            event_type: row.event_type.clone(),
        };
        let reject = |stream: Option<&StreamName>, reason, detail: String| {
            Err(Box::new(Rejected {
                stream: stream.cloned(),
                reason,
                detail,
                row: row_ref.clone(),
            }))
        };

        let Some(foreign_type) = foreign_type else {
            let detail = "it has no stream type, and the source no default_stream_type";
            return reject(None, ParkReason::BadStream, detail.into());
        };
        let Some(stream_type) = self.stream_type(&foreign_type) else {
            let detail = format!("`{foreign_type}` cannot be a stream type");
            return reject(None, ParkReason::BadStream, detail);
        };
        if RESERVED_STREAM_TYPES.contains(&stream_type.as_str()) {
            let detail = format!(
                "streams of type `{stream_type}` belong to the ontology: give the source a \
                 stream_type_prefix or name the type in stream_types"
            );
            return reject(None, ParkReason::ReservedType, detail);
        }
        let id = match &foreign_id {
            Some(_) if has_no_id => Some(names::NO_ID.into()),
            Some(id) => names::stream_id(id),
            None => None,
        };
        let Some(id) = id else {
            let detail = "its stream id is missing, empty or longer than 200 bytes";
            return reject(None, ParkReason::BadStream, detail.into());
        };
        let stream = match StreamName::new(&stream_type, &[&id]) {
            Ok(stream) => stream,
            Err(e) => return reject(None, ParkReason::BadStream, e.to_string()),
        };
        let version = row.version.and_then(|v| v.checked_sub(self.version_base));
        let Some(after) = version.and_then(|v| u64::try_from(v).ok()) else {
            let detail = format!(
                "its version is {}, the first is {}",
                row.version.map_or("missing".into(), |v| v.to_string()),
                self.version_base
            );
            return reject(Some(&stream), ParkReason::BadVersion, detail);
        };
        let version = Version(after).plus(1);
        let foreign_event_type = row.event_type.take().unwrap_or_default();
        let Some(event_type) = self.event_type(&foreign_event_type) else {
            let detail = "it has no event type";
            return reject(Some(&stream), ParkReason::BadType, detail.into());
        };
        let too_large = |what: &str| format!("its {what} have more than {MAX_EVENT_BYTES} bytes");
        let data = match payload::json(row.data, self.binary) {
            Ok(data) => data.unwrap_or_else(null),
            Err(unusable) => {
                let (reason, detail) = describe("data", unusable);
                return reject(Some(&stream), reason, detail);
            }
        };
        if data.get().len() > MAX_EVENT_BYTES {
            return reject(Some(&stream), ParkReason::TooLarge, too_large("data"));
        }
        let metadata = match payload::json(row.metadata, BinaryPolicy::Wrap) {
            Ok(metadata) => metadata,
            Err(unusable) => {
                let (reason, detail) = describe("metadata", unusable);
                return reject(Some(&stream), reason, detail);
            }
        };
        if metadata
            .as_ref()
            .is_some_and(|m| m.get().len() > MAX_EVENT_BYTES)
        {
            return reject(Some(&stream), ParkReason::TooLarge, too_large("metadata"));
        }

        let mut about = About::new(&self.source);
        if let Some(position) = row.position {
            about.number("position", position);
        }
        if *foreign_type != *stream_type.as_str() {
            about.text("stream_type", &foreign_type);
        }
        match &foreign_id {
            Some(given) if !has_no_id && *given != *id => about.text("stream_id", given),
            _ => {}
        }
        if self.version_base != 1 {
            about.number("version", row.version.unwrap_or_default());
        }
        let id = match row.event_id.as_deref().map(Uuid::try_parse) {
            Some(Ok(id)) => EventId(id),
            Some(Err(_)) => {
                let given = row.event_id.as_deref().unwrap_or_default();
                about.text("id", given);
                self.derived_id(&["id", given])
            }
            None => self.derived_id(&["version", stream.as_str(), &version.to_string()]),
        };
        if *foreign_event_type != *event_type.as_str() {
            about.text("type", &foreign_event_type);
        }
        let schema_version = match row.schema_version.as_deref() {
            None => 1,
            Some(given) => leading_number(given).unwrap_or_else(|| {
                about.text("schema_version", given);
                1
            }),
        };
        let given = row.time.or_else(|| self.time_in(&data).map(RowTime::Text));
        let time = match &given {
            Some(RowTime::Micros(micros)) => Timestamp::from_microsecond(*micros).ok(),
            Some(RowTime::Text(text)) => text.parse().ok(),
            None => None,
        };
        match (&time, &given) {
            (Some(_), _) => {}
            (None, Some(RowTime::Text(text))) => about.text("time", text),
            (None, _) => about.null("time"),
        }
        Ok(ImportedEvent {
            stream,
            version,
            id,
            time: time.unwrap_or(now),
            event: NewEvent {
                event_type,
                schema_version,
                data,
                metadata: Some(about.finish(metadata.as_deref())),
            },
            row: row_ref,
        })
    }

    fn derived_id(&self, parts: &[&str]) -> EventId {
        let mut name = format!("{}:{}", self.source.len(), self.source);
        for part in parts {
            name.push(':');
            name.push_str(part);
        }
        EventId(Uuid::new_v5(&EVENT_NAMESPACE, name.as_bytes()))
    }

    fn stream_type(&mut self, foreign: &str) -> Option<StreamType> {
        if let Some(known) = self.remembered_types.get(foreign) {
            return known.clone();
        }
        let derived = match self.stream_types.get(foreign) {
            Some(named) => StreamType::new(named).ok(),
            None => names::stream_type(&self.prefix, foreign),
        };
        if self.remembered_types.len() < MAX_REMEMBERED {
            self.remembered_types
                .insert(foreign.to_owned(), derived.clone());
        }
        derived
    }

    fn event_type(&mut self, foreign: &str) -> Option<EventType> {
        if let Some(known) = self.remembered_events.get(foreign) {
            return known.clone();
        }
        let derived = names::event_type(foreign);
        if self.remembered_events.len() < MAX_REMEMBERED {
            self.remembered_events
                .insert(foreign.to_owned(), derived.clone());
        }
        derived
    }

    fn time_in(&self, data: &RawValue) -> Option<String> {
        let pointer = self.time_pointer.as_deref()?;
        let data: serde_json::Value = serde_json::from_str(data.get()).ok()?;
        Some(data.pointer(pointer)?.as_str()?.to_owned())
    }
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

fn describe(what: &str, unusable: Unusable) -> (ParkReason, String) {
    match unusable {
        Unusable::NotJson(why) => (
            ParkReason::BadData,
            format!("its {what} are not JSON: {why}"),
        ),
        Unusable::Compressed(by) => (
            ParkReason::OpaqueData,
            format!("its {what} are compressed ({by})"),
        ),
        Unusable::Opaque => (
            ParkReason::OpaqueData,
            format!("its {what} are not JSON: encrypted, compressed or in another format"),
        ),
    }
}

/// The number a text such as `2` or `2.1` begins with.
fn leading_number(text: &str) -> Option<u32> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let rest = &text[digits..];
    let number = text[..digits].parse().ok()?;
    (rest.is_empty() || rest.trim_start_matches(['.', '0']).is_empty()).then_some(number)
}

/// The text of an imported event's metadata.
struct About {
    text: String,
}

impl About {
    fn new(source: &str) -> Self {
        let mut text = String::with_capacity(160);
        text.push_str(r#"{"import":{"source":"#);
        push_json(&mut text, source);
        Self { text }
    }

    fn key(&mut self, key: &str) {
        self.text.push_str(",\"");
        self.text.push_str(key);
        self.text.push_str("\":");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        push_json(&mut self.text, value);
    }

    fn number(&mut self, key: &str, value: i64) {
        self.key(key);
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
    }

    fn null(&mut self, key: &str) {
        self.key(key);
        self.text.push_str("null");
    }

    fn finish(mut self, metadata: Option<&RawValue>) -> Box<RawValue> {
        self.text.push('}');
        if let Some(metadata) = metadata {
            self.text.push_str(",\"metadata\":");
            self.text.push_str(metadata.get());
        }
        self.text.push('}');
        // Put together from JSON, so it is JSON.
        RawValue::from_string(self.text).unwrap_or_else(|_| null())
    }
}

fn push_json(out: &mut String, text: &str) {
    // A text always serialises.
    if let Ok(json) = serde_json::to_string(text) {
        out.push_str(&json);
    }
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
