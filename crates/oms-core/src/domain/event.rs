//! The envelope: a CloudEvents 1.0 event in structured JSON, one line, the same bytes in S3,
//! PostgreSQL and Kafka (law 8). Written once by [`encode`], read by [`Envelope::parse`].
//!
//! `data` is kept as given. `metadata` is the caller's JSON object as text, because a CloudEvents
//! attribute may not be an object.

use std::borrow::Cow;
use std::io::Write as _;
use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::ids::{CommandId, EventId, EventType, StreamName, Version};
use super::trace::TraceContext;

/// CloudEvents `source` of every event.
pub const SOURCE: &str = "/oms";

/// An event before it is recorded.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its type.
    pub event_type: EventType,
    /// Schema version of `data`.
    pub schema_version: u32,
    /// Its content, as given.
    pub data: Box<RawValue>,
    /// The caller's metadata: the text of a JSON object.
    pub metadata: Option<Box<RawValue>>,
}

/// What all events of one command have in common.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// The command that caused them.
    pub command_id: CommandId,
    /// Correlates the events that one client action caused, also across streams; the command id if
    /// the caller gave none.
    pub correlation_id: String,
    /// The authenticated principal, or `anonymous`.
    pub actor: String,
    /// The client's idempotency key and the hash of the request it stands for.
    pub idempotency: Option<Idempotency>,
    /// The command in its trace; kept with the events if the trace is recorded, so that what becomes of
    /// them later, in whichever process, joins it.
    pub trace: Option<TraceContext>,
    /// When they were recorded.
    pub time: Timestamp,
}

/// An idempotency key: the client promises to use it for one request and its retries only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// As the client gave it.
    pub key: String,
    /// Hash of the request; distinguishes a retry from another request with the same key.
    pub request_hash: u64,
}

/// Identifies a principal where only a distinction is needed: part of a hash of the name. Two
/// principals may share one by chance; then they share a budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PrincipalTag(pub u32);

impl PrincipalTag {
    /// Unknown: read from a checkpoint that does not record it.
    pub const UNKNOWN: Self = Self(0);

    /// The tag of a principal. Part of the stored format of checkpoints.
    pub fn of(principal: &str) -> Self {
        let hash = Sha256::digest(principal.as_bytes());
        Self(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]).max(1))
    }
}

/// What the index of the log keeps of the origin of events; the same whether it is taken from
/// events to be written or from stored ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// When they were recorded, in milliseconds since 1970.
    pub at_ms: i64,
    /// The principal who caused them.
    pub principal: PrincipalTag,
}

impl Recorded {
    /// Taken from the provenance of events to be written.
    pub fn of(provenance: &Provenance) -> Self {
        Self {
            at_ms: provenance.time.as_millisecond(),
            principal: PrincipalTag::of(&provenance.actor),
        }
    }
}

/// Encoded events: one line each, every line ending in `\n`.
#[derive(Debug, Clone)]
pub struct EncodedEvents {
    /// All lines.
    pub bytes: Bytes,
    /// The range of each event in `bytes`, without its line end.
    pub spans: Vec<Range<u32>>,
    /// What the index keeps of their origin.
    pub recorded: Recorded,
}

impl EncodedEvents {
    /// The bytes of event `i`.
    pub fn event(&self, i: usize) -> Bytes {
        let span = &self.spans[i];
        self.bytes.slice(span.start as usize..span.end as usize)
    }
}

/// Encodes `events` as versions `after`+1, `after`+2, … of `stream`.
///
/// `ids` gives each event its id, in order.
pub fn encode(
    stream: &StreamName,
    after: Version,
    events: &[NewEvent],
    provenance: &Provenance,
    mut ids: impl FnMut() -> EventId,
) -> EncodedEvents {
    let data_bytes: usize = events.iter().map(|e| e.data.get().len()).sum();
    let mut out = Vec::with_capacity(data_bytes + events.len() * 640);
    let mut spans = Vec::with_capacity(events.len());
    let time = format_time(provenance.time);
    for (i, event) in events.iter().enumerate() {
        let start = out.len();
        write_event(
            &mut out,
            stream,
            after.plus(i + 1),
            event,
            provenance,
            &time,
            ids(),
        );
        spans.push(start as u32..out.len() as u32);
        out.push(b'\n');
    }
    EncodedEvents {
        bytes: out.into(),
        spans,
        recorded: Recorded::of(provenance),
    }
}

fn write_event(
    out: &mut Vec<u8>,
    stream: &StreamName,
    version: Version,
    event: &NewEvent,
    provenance: &Provenance,
    time: &str,
    id: EventId,
) {
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        r#"{{"specversion":"1.0","id":"{id}","source":"{SOURCE}","type":""#
    );
    out.extend_from_slice(event.event_type.as_str().as_bytes());
    let _ = write!(
        out,
        r#"","subject":"{stream}","time":"{time}","datacontenttype":"application/json","streamtype":"{}","streamid":"{}","streamversion":{version},"commandid":"{}","correlationid":"#,
        stream.stream_type(),
        stream.id(),
        provenance.command_id,
    );
    write_json_string(out, &provenance.correlation_id);
    out.extend_from_slice(br#","actor":"#);
    write_json_string(out, &provenance.actor);
    let _ = write!(out, r#","schemaversion":{}"#, event.schema_version);
    if let Some(idempotency) = &provenance.idempotency {
        out.extend_from_slice(br#","idempotencykey":"#);
        write_json_string(out, &idempotency.key);
        let _ = write!(out, r#","requesthash":"{:016x}""#, idempotency.request_hash);
    }
    if let Some(trace) = provenance.trace.filter(|trace| trace.sampled) {
        let _ = write!(out, r#","traceparent":"{trace}""#);
    }
    if let Some(metadata) = &event.metadata {
        out.extend_from_slice(br#","metadata":"#);
        write_json_string(out, metadata.get());
    }
    out.extend_from_slice(br#","data":"#);
    write_on_one_line(out, event.data.get());
    out.push(b'}');
}

fn write_json_string(out: &mut Vec<u8>, text: &str) {
    // Serialising a str into a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Copies JSON text with line ends replaced by spaces, because an event is one line. JSON has no
/// raw line ends within strings, so only white space is changed.
fn write_on_one_line(out: &mut Vec<u8>, json: &str) {
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    for byte in &mut out[start..] {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

fn format_time(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// A parsed event, which borrows from its bytes where possible.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Envelope<'a> {
    /// The event's id.
    pub id: EventId,
    /// Its type, for example `InstanceCreated`.
    #[serde(rename = "type", borrow)]
    pub event_type: Cow<'a, str>,
    /// When it was recorded.
    pub time: Timestamp,
    /// Type of its stream.
    #[serde(rename = "streamtype", borrow)]
    pub stream_type: Cow<'a, str>,
    /// Id of its stream: percent-encoded components joined by `/`.
    #[serde(rename = "streamid", borrow)]
    pub stream_id: Cow<'a, str>,
    /// Its number in its stream, from 1.
    #[serde(rename = "streamversion")]
    pub version: Version,
    /// The command that caused it.
    #[serde(rename = "commandid")]
    pub command_id: CommandId,
    /// Correlates the events that one client action caused, also across streams.
    #[serde(rename = "correlationid", borrow)]
    pub correlation_id: Cow<'a, str>,
    /// The principal who caused it.
    #[serde(borrow)]
    pub actor: Cow<'a, str>,
    /// Schema version of `data`.
    #[serde(rename = "schemaversion")]
    pub schema_version: u32,
    /// The client's idempotency key.
    #[serde(rename = "idempotencykey", borrow, default)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub idempotency_key: Option<Cow<'a, str>>,
    /// Hash of the request that came with the key, 16 hex digits.
    #[serde(rename = "requesthash", borrow, default)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub request_hash: Option<Cow<'a, str>>,
    /// The command that caused it, in its trace: W3C Trace Context; there if the trace was recorded.
    #[serde(borrow, default)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub traceparent: Option<Cow<'a, str>>,
    /// The caller's metadata: the text of a JSON object.
    #[serde(borrow, default)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub metadata: Option<Cow<'a, str>>,
    /// The event's data, as given.
    #[serde(borrow)]
    #[cfg_attr(feature = "openapi", schema(value_type = Value))]
    pub data: &'a RawValue,
}

impl<'a> Envelope<'a> {
    /// Parses one event's bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The stream it belongs to.
    pub fn stream(&self) -> StreamName {
        StreamName::from_stored(&self.stream_type, &self.stream_id)
    }

    /// The idempotency key and the hash of its request, if the client gave a key.
    pub fn idempotency(&self) -> Option<Idempotency> {
        let key = self.idempotency_key.as_ref()?.to_string();
        let request_hash = u64::from_str_radix(self.request_hash.as_deref()?, 16).ok()?;
        Some(Idempotency { key, request_hash })
    }

    /// The command that caused it in its trace, if that was recorded.
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::parse(self.traceparent.as_deref()?).filter(|trace| trace.sampled)
    }
}

/// [`Envelope::trace`] of one event's bytes, without parsing those that have none.
pub fn trace_of(bytes: &[u8]) -> Option<TraceContext> {
    // An event's data may have such a member too: only the envelope tells.
    memchr::memmem::find(bytes, br#""traceparent":""#)?;
    Envelope::parse(bytes).ok()?.trace()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::StreamType;
    use uuid::Uuid;

    fn sample(data: &str, metadata: Option<&str>) -> EncodedEvents {
        traced(data, metadata, None)
    }

    fn traced(data: &str, metadata: Option<&str>, trace: Option<TraceContext>) -> EncodedEvents {
        let stream = StreamName::new(&StreamType::new("order").unwrap(), &["a b"]).unwrap();
        let event = NewEvent {
            event_type: EventType::new("OrderPlaced").unwrap(),
            schema_version: 1,
            data: RawValue::from_string(data.to_owned()).unwrap(),
            metadata: metadata.map(|m| RawValue::from_string(m.to_owned()).unwrap()),
        };
        let provenance = Provenance {
            command_id: CommandId(Uuid::from_u128(7)),
            correlation_id: "story \"1\"".into(),
            actor: "ann".into(),
            idempotency: Some(Idempotency {
                key: "k\n1".into(),
                request_hash: 0xab,
            }),
            trace,
            time: "2026-01-02T03:04:05.678901Z".parse().unwrap(),
        };
        encode(
            &stream,
            Version(4),
            &[event.clone(), event],
            &provenance,
            || EventId(Uuid::from_u128(9)),
        )
    }

    #[test]
    fn law_8_one_envelope_golden_bytes() {
        let encoded = sample(r#"{"n":1.50}"#, None);
        // Stored for good: what is written today must be read by every later build, and look like this.
        insta::assert_snapshot!(std::str::from_utf8(&encoded.event(0)).unwrap());
    }

    #[test]
    fn an_event_is_one_line_and_reads_back() {
        let encoded = sample(
            "{\r\n \"s\": \"a\\nb\",\n \"n\": 1 }",
            Some("{\"src\":\n\"x\"}"),
        );
        let lines: Vec<&[u8]> = encoded.bytes.split_inclusive(|b| *b == b'\n').collect();
        assert_eq!(lines.len(), 2);
        let second = encoded.event(1);
        let envelope = Envelope::parse(&second).unwrap();
        assert_eq!(envelope.version, Version(6));
        assert_eq!(envelope.stream().as_str(), "order/a%20b");
        assert_eq!(envelope.idempotency().unwrap().request_hash, 0xab);
        let data: serde_json::Value = serde_json::from_str(envelope.data.get()).unwrap();
        assert_eq!(data["s"], "a\nb");
        let metadata: serde_json::Value =
            serde_json::from_str(envelope.metadata.as_deref().unwrap()).unwrap();
        assert_eq!(metadata["src"], "x");
    }

    #[test]
    fn a_recorded_trace_is_kept_with_its_events_and_another_leaves_no_mark() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = TraceContext::parse(text).unwrap();
        let encoded = traced("1", Some("{}"), Some(trace));
        let line = encoded.event(1);
        let attribute = format!(r#","traceparent":"{text}","metadata":"#);
        assert!(memchr::memmem::find(&line, attribute.as_bytes()).is_some());
        assert_eq!(trace_of(&line), Some(trace));
        let unsampled = TraceContext {
            sampled: false,
            ..trace
        };
        let plain = sample("1", Some("{}"));
        assert_eq!(traced("1", Some("{}"), Some(unsampled)).bytes, plain.bytes);
        // Members of the data and of the metadata are the caller's own.
        let own = format!(r#"{{"traceparent":"{text}"}}"#);
        let line = sample(&own, Some(&own)).event(0);
        assert_eq!(trace_of(&line), None);
    }

    #[test]
    fn a_reader_that_knows_no_traces_reads_such_an_event() {
        // The members of the envelope as the first release had them.
        #[derive(Deserialize)]
        struct Before<'a> {
            id: EventId,
            #[serde(borrow)]
            data: &'a RawValue,
        }
        let trace = TraceContext {
            trace: 1,
            span: 2,
            sampled: true,
        };
        let line = traced("[1]", None, Some(trace)).event(0);
        let read: Before<'_> = serde_json::from_slice(&line).unwrap();
        assert_eq!(read.id, EventId(Uuid::from_u128(9)));
        assert_eq!(read.data.get(), "[1]");
    }
}
