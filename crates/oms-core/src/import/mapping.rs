//! Converts a row of the source into an event, or says why that is impossible.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use jiff::Timestamp;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::about::{About, escaped};
use super::names::{self, GivenNames, Kind};
use super::payload::{self, Policy, Unusable};
pub use super::reasons::ParkReason;
use super::row::{ForeignRow, RowTime};
use super::spec::{BinaryPolicy, FirstVersion, SourceSpec};
use crate::domain::event::NewEvent;
use crate::domain::ids::{
    EventId, EventType, RESERVED_STREAM_TYPES, StreamName, StreamType, Version,
};

/// Distinct type names whose derivation is cached; a store has dozens.
const MAX_REMEMBERED: usize = 10_000;

/// UUIDv5 name space for ids of events whose own id is not a UUID.
const EVENT_NAMESPACE: Uuid = Uuid::from_u128(0x6f6d_735f_696d_706f_7274_5f65_7665_6e74);

/// Identifies a row in the source, for people who look it up there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRef {
    /// Its position, or else its stream and version.
    pub key: String,
    /// Type and id of its stream in the source.
    pub foreign_stream: Option<String>,
    /// Its version in the source.
    pub version: Option<i64>,
    /// Its event id in the source.
    pub event_id: Option<String>,
    /// Its event type in the source.
    pub event_type: Option<String>,
}

/// A row as an event, ready to be appended.
#[derive(Debug, Clone)]
pub struct ImportedEvent {
    /// Its stream.
    pub stream: StreamName,
    /// Its version. With `first_version = "any"` it is the source's until the log was asked, and
    /// without versions in the source it is none until then.
    pub version: Version,
    /// Its global position in the source.
    pub position: Option<i64>,
    /// Its id.
    pub id: EventId,
    /// When it happened.
    pub time: Timestamp,
    /// Type, data, metadata.
    pub event: NewEvent,
    /// Its place in the source.
    pub row: RowRef,
}

impl ImportedEvent {
    /// Approximate bytes of its envelope.
    pub fn size(&self) -> usize {
        let metadata = self.event.metadata.as_ref().map_or(0, |m| m.get().len());
        self.event.data.get().len() + metadata + ENVELOPE_BYTES
    }
}

/// Approximate bytes of an envelope without data and metadata.
const ENVELOPE_BYTES: usize = 600;

/// A row that cannot be an event.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// Its stream, if known: none of its later events are imported.
    pub stream: Option<StreamName>,
    /// Why.
    pub reason: ParkReason,
    /// What is wrong, for a person.
    pub detail: String,
    /// Its place in the source.
    pub row: RowRef,
}

/// Converts the rows of one source.
#[derive(Debug)]
pub struct Mapping {
    source: String,
    prefix: String,
    version_base: i64,
    numbered_here: bool,
    shifted: bool,
    default_stream_type: Option<String>,
    stream_types: BTreeMap<String, String>,
    event_types: BTreeMap<String, String>,
    time_pointer: Option<String>,
    policy: Policy,
    names: GivenNames,
    remembered_types: HashMap<String, Option<StreamType>>,
    remembered_events: HashMap<String, Option<EventType>>,
}

impl Mapping {
    /// `given` are the names that earlier runs have assigned.
    pub fn new(spec: &SourceSpec, given: BTreeMap<String, String>) -> Self {
        let mut names = GivenNames::new(given);
        for (kind, configured) in [
            (Kind::Stream, &spec.stream_types),
            (Kind::Event, &spec.event_types),
        ] {
            for (foreign, own) in configured {
                names.reserve(kind, own, foreign);
            }
        }
        Self {
            source: spec.name.clone(),
            prefix: spec.stream_type_prefix.clone(),
            version_base: spec.version_base,
            numbered_here: spec.numbers_by_order(),
            shifted: spec.first_version == FirstVersion::Any,
            default_stream_type: spec.default_stream_type.clone(),
            stream_types: spec.stream_types.clone(),
            event_types: spec.event_types.clone(),
            time_pointer: spec.time_pointer.clone(),
            policy: Policy {
                binary: spec.binary,
                decompress: spec.decompress,
                max_bytes: spec.max_event_bytes,
            },
            names,
            remembered_types: HashMap::new(),
            remembered_events: HashMap::new(),
        }
    }

    /// Names assigned since the last call, to be saved with the checkpoint.
    pub fn take_new_names(&mut self) -> BTreeMap<String, String> {
        self.names.take_new()
    }

    /// The row as an event; `now` is used if a time is missing.
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
        let unreadable = row.unreadable.take();
        let reject = |stream: Option<&StreamName>, reason, detail: String| {
            Err(Box::new(Rejected {
                stream: stream.cloned(),
                reason,
                detail,
                row: row_ref.clone(),
            }))
        };

        // A row that cannot be read is identified by whatever could be read of it.
        if let (Some(told), None) = (&unreadable, &foreign_id) {
            return reject(None, ParkReason::Unreadable, told.clone());
        }
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
        if let Some(told) = unreadable {
            return reject(Some(&stream), ParkReason::Unreadable, told);
        }
        let version = if self.numbered_here {
            Version::NONE
        } else {
            match self.version(&row) {
                Ok(version) => version,
                Err(detail) => return reject(Some(&stream), ParkReason::BadVersion, detail),
            }
        };
        if row.too_large {
            let detail = self.too_large("its data or metadata are far larger");
            return reject(Some(&stream), ParkReason::TooLarge, detail);
        }
        let foreign_event_type = row.event_type.take().unwrap_or_default();
        let Some(event_type) = self.event_type(&foreign_event_type) else {
            let detail = "it has no event type";
            return reject(Some(&stream), ParkReason::BadType, detail.into());
        };
        let (data, compressed) = match payload::json(row.data, self.policy) {
            Ok(taken) => (taken.json.unwrap_or_else(null), taken.compressed),
            Err(unusable) => {
                let (reason, detail) = self.describe("data", unusable);
                return reject(Some(&stream), reason, detail);
            }
        };
        let wrapping = Policy {
            binary: BinaryPolicy::Wrap,
            ..self.policy
        };
        let metadata = match payload::json(row.metadata, wrapping) {
            Ok(taken) => taken.json,
            Err(unusable) => {
                let (reason, detail) = self.describe("metadata", unusable);
                return reject(Some(&stream), reason, detail);
            }
        };

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
        if let Some(number) = row
            .version
            .filter(|_| self.version_base != 1 || self.shifted)
        {
            about.number("version", number);
        }
        if let Some(by) = compressed {
            about.text("compressed", by);
        }
        let given_id = row.event_id.as_deref().filter(|id| !id.is_empty());
        let id = match given_id.map(Uuid::try_parse) {
            Some(Ok(id)) => EventId(id),
            Some(Err(_)) => {
                let given = given_id.unwrap_or_default();
                about.text("id", given);
                self.derived_id(&["id", given])
            }
            None if self.numbered_here => {
                let position = row.position.unwrap_or_default().to_string();
                self.derived_id(&["position", stream.as_str(), &position])
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
        let time = match self.time(row.time, &data) {
            Ok(time) => time,
            Err(detail) => return reject(Some(&stream), ParkReason::BadTime, detail),
        };
        if time.is_none() {
            about.null("time");
        }
        let event = ImportedEvent {
            stream,
            version,
            position: row.position,
            id,
            time: time.unwrap_or(now),
            event: NewEvent {
                event_type,
                schema_version,
                data,
                metadata: Some(about.finish(metadata.as_deref())),
            },
            row: row_ref,
        };
        let size = event.size() + escaped(event.event.metadata.as_deref());
        if size > self.policy.max_bytes {
            let detail = self.too_large(&format!("it has about {size} bytes with its envelope"));
            return Err(Box::new(Rejected {
                stream: Some(event.stream),
                reason: ParkReason::TooLarge,
                detail,
                row: event.row,
            }));
        }
        Ok(event)
    }

    /// Its version in its stream, from 1.
    fn version(&self, row: &ForeignRow) -> Result<Version, String> {
        let version = row.version.and_then(|v| v.checked_sub(self.version_base));
        if let Some(after) = version.and_then(|v| u64::try_from(v).ok()) {
            return Ok(Version(after).plus(1));
        }
        let is = match (row.version, &row.odd_version) {
            (Some(number), _) => number.to_string(),
            (None, Some(odd)) => format!("`{odd}`"),
            (None, None) => "missing: where rows have none, leave the source's `version` out, and \
                             events are numbered in the order of their positions"
                .to_owned(),
        };
        Err(format!(
            "the first version is {}, its version is {is}",
            self.version_base
        ))
    }

    /// When it happened; `None` if the row does not say.
    fn time(&self, given: Option<RowTime>, data: &RawValue) -> Result<Option<Timestamp>, String> {
        let told = match given {
            Some(RowTime::Micros(micros)) => Timestamp::from_microsecond(micros)
                .map_err(|_| "beyond the years that have a name, or infinite".to_owned()),
            Some(RowTime::Text(text)) => parse_time(&text),
            None => match self.time_in(data)? {
                Some(text) => parse_time(&text),
                None => return Ok(None),
            },
        };
        let time = told.map_err(|what| format!("its time is {what}"))?;
        if !(FIRST_SECOND..=LAST_SECOND).contains(&time.as_nanosecond().div_euclid(1_000_000_000)) {
            return Err(format!("its time is {time}, which RFC 3339 cannot write"));
        }
        Ok(Some(time))
    }

    fn too_large(&self, what: &str) -> String {
        let max = self.policy.max_bytes;
        format!("{what}; migration.max_event_bytes is {max}")
    }

    fn describe(&self, what: &str, unusable: Unusable) -> (ParkReason, String) {
        match unusable {
            Unusable::NotJson(why) => (
                ParkReason::BadData,
                format!("its {what} are not JSON that can be kept: {why}"),
            ),
            Unusable::TooLarge => (
                ParkReason::TooLarge,
                self.too_large(&format!("its {what} are larger when they are unpacked")),
            ),
            Unusable::Compressed(by @ ("gzip" | "zlib")) => (
                ParkReason::OpaqueData,
                format!("its {what} are compressed ({by}): decompress = true unpacks them"),
            ),
            Unusable::Compressed(by) => (
                ParkReason::OpaqueData,
                format!("its {what} are compressed ({by}), which cannot be unpacked here"),
            ),
            Unusable::Opaque => (
                ParkReason::OpaqueData,
                format!("its {what} are not JSON: encrypted, compressed or in another format"),
            ),
        }
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
            None => names::stream_type(&self.prefix, foreign)
                .map(|derived| self.names.give(Kind::Stream, derived, foreign)),
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
        let derived = match self.event_types.get(foreign) {
            Some(named) => EventType::new(named).ok(),
            None => names::event_type(foreign)
                .map(|derived| self.names.give(Kind::Event, derived, foreign)),
        };
        if self.remembered_events.len() < MAX_REMEMBERED {
            self.remembered_events
                .insert(foreign.to_owned(), derived.clone());
        }
        derived
    }

    /// The time in the data, if `time_pointer` finds one; an error if it finds something else.
    fn time_in(&self, data: &RawValue) -> Result<Option<String>, String> {
        let Some(pointer) = self.time_pointer.as_deref() else {
            return Ok(None);
        };
        let data: serde_json::Value = serde_json::from_str(data.get())
            .map_err(|e| format!("its data cannot be read: {e}"))?;
        match data.pointer(pointer) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("its time at {pointer} is no text")),
        }
    }
}

/// The first and the last second that RFC 3339 can express: of the years 0000 to 9999.
const FIRST_SECOND: i128 = -62_167_219_200;
const LAST_SECOND: i128 = 253_402_300_799;

fn parse_time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(60).collect();
        format!(
            "`{shown}`, not RFC 3339 with an offset: an expression such as \
             (e.column)::timestamp AT TIME ZONE 'UTC' says what it means"
        )
    })
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// The number at the beginning of a text such as `2` or `2.1`.
fn leading_number(text: &str) -> Option<u32> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let rest = &text[digits..];
    let number = text[..digits].parse().ok()?;
    (rest.is_empty() || rest.trim_start_matches(['.', '0']).is_empty()).then_some(number)
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
