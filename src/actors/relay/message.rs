//! Builds a Kafka message from an outbox row and the bytes of its event.
//!
//! The value is the envelope, byte for byte (law 8): a CloudEvent in structured mode, as the
//! content type says. The attributes are repeated as `ce_` headers, so that a consumer can route
//! without parsing, and the event's address in the log as `s3_` headers, so that one whose body
//! was lost can be fetched with one ranged GET and checked.
//!
//! An event that is too large for the broker travels by *reference*: the value says where the event
//! can be had, and is no event itself. Its content type and headers differ from an event's, so that
//! a consumer cannot mistake it for one. The service serves the event in every mode; S3 has it only
//! where a commit object was written.

use bytes::Bytes;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::domain::event::{Envelope, SOURCE};
use crate::domain::ids::{EventId, StreamName, Version};
use crate::flaws::{Flaw, flawed};
use crate::log::keys;
use crate::store::ports::delivery::OutboxRow;
use crate::store::ports::transport::Message;

const EVENT: &str = "application/cloudevents+json; charset=UTF-8";
const REFERENCE: &str = "application/vnd.oms.reference+json; charset=UTF-8";

/// Characters that stay unescaped in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The value of a message whose event is too large for the broker.
#[derive(Debug, Serialize)]
struct Reference<'a> {
    event_id: EventId,
    /// Path and query at the service's API: a page with the event as its one item.
    href: String,
    /// Bytes of the envelope.
    length: usize,
    /// SHA-256 of the envelope, in hex.
    sha256: &'a str,
    /// The commit object that holds the event, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    s3: Option<InObject<'a>>,
}

#[derive(Debug, Serialize)]
struct InObject<'a> {
    bucket: &'a str,
    key: String,
    offset: u32,
}

/// Builds the message of `row`, whose event is `bytes`, with the time at which the event was
/// recorded. A message larger than `message_max` carries a reference instead of the event. Fails if
/// the bytes are not the row's event.
pub fn message(
    row: &OutboxRow,
    bytes: Bytes,
    bucket: &str,
    message_max: usize,
) -> Result<(Message, Timestamp), String> {
    let event = Envelope::parse(&bytes).map_err(|e| format!("not an event: {e}"))?;
    if event.id != row.event_id || event.version != row.version {
        return Err(format!(
            "expected event {}, found event {} of {}",
            row.event_id,
            event.id,
            event.stream()
        ));
    }
    let time = event.time;
    let mut headers = vec![
        ("content-type", EVENT.to_owned()),
        (SPEC_VERSION, "1.0".to_owned()),
        ("ce_id", event.id.to_string()),
        ("ce_source", SOURCE.to_owned()),
        ("ce_type", event.event_type.into_owned()),
        ("ce_subject", row.stream.to_string()),
        ("ce_time", format!("{time:.6}")),
        ("ce_correlationid", event.correlation_id.into_owned()),
        ("position", row.position.to_string()),
        ("version", row.version.to_string()),
        ("mode", row.mode.as_str().to_owned()),
        ("epoch", row.epoch.0.to_string()),
    ];
    if let Some(trace) = event.traceparent {
        // The attribute, and the same for consumers that look for where the message comes from: a
        // relay that records traces puts its own operation there.
        headers.push(("ce_traceparent", trace.clone().into_owned()));
        headers.push((TRACEPARENT, trace.into_owned()));
    }
    let object = row.body.is_none().then(|| InObject {
        bucket,
        key: keys::commit(row.position.partition, row.position.offset),
        offset: row.start,
    });
    if let Some(object) = &object {
        headers.extend([
            ("s3_bucket", object.bucket.to_owned()),
            ("s3_key", object.key.clone()),
            ("s3_offset", object.offset.to_string()),
            ("s3_length", row.len.to_string()),
            ("s3_sha256", hex::encode(Sha256::digest(&bytes))),
        ]);
    }
    let mut message = Message {
        partition: row.position.partition,
        topic: row.topic.clone(),
        // The whole stream name: streams of two types may share an id, and a topic may hold many
        // types.
        key: row.stream.to_string(),
        headers,
        payload: bytes,
    };
    if message.wire_size() > message_max {
        let reference = Reference {
            event_id: row.event_id,
            href: href(&row.stream, row.version),
            length: message.payload.len(),
            sha256: &hex::encode(Sha256::digest(&message.payload)),
            s3: object,
        };
        let reference = serde_json::to_vec(&reference).map_err(|e| e.to_string())?;
        message.payload = reference.into();
        message.headers.retain(|(name, _)| *name != SPEC_VERSION);
        message.headers[0].1 = REFERENCE.to_owned();
        message.headers.push(("claim_check", "true".to_owned()));
    } else if flawed(Flaw::ReencodeMessages)
        && let Ok(event) = serde_json::from_slice::<serde_json::Value>(&message.payload)
    {
        message.payload = event.to_string().into();
    }
    Ok((message, time))
}

/// The header that says what the message is part of, in which trace.
pub const TRACEPARENT: &str = "traceparent";

/// The header by which CloudEvents libraries recognise an event.
const SPEC_VERSION: &str = "ce_specversion";

fn href(stream: &StreamName, version: Version) -> String {
    let components: Vec<_> = stream.components().collect();
    let id = components.join("/");
    let id = utf8_percent_encode(&id, SEGMENT);
    let stream_type = stream.stream_type();
    format!("/api/v1/streams/{stream_type}/{id}/events?from_version={version}&limit=1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{NewEvent, Provenance, encode};
    use crate::domain::ids::{
        CommandId, Epoch, EventId, EventType, PartitionId, Position, StreamName, Version,
    };
    use crate::domain::trace::TraceContext;
    use crate::migration::stage::Mode;
    use uuid::Uuid;

    fn sample() -> (OutboxRow, Bytes) {
        traced(None)
    }

    fn traced(trace: Option<TraceContext>) -> (OutboxRow, Bytes) {
        let stream = StreamName::from_stored("instance", "db/Car/a%20b");
        let event = NewEvent {
            event_type: EventType::new("InstanceCreated").unwrap(),
            schema_version: 1,
            data: serde_json::value::to_raw_value("x").unwrap(),
            metadata: None,
        };
        let provenance = Provenance {
            command_id: CommandId(Uuid::from_u128(7)),
            correlation_id: "story".into(),
            actor: "ann".into(),
            trace,
            idempotency: None,
            time: Timestamp::UNIX_EPOCH,
        };
        let id = EventId(Uuid::from_u128(9));
        let bytes = encode(&stream, Version(4), &[event], &provenance, || id).event(0);
        let row = OutboxRow {
            position: Position {
                partition: PartitionId(3),
                offset: 17,
                index: 2,
            },
            event_id: id,
            stream,
            version: Version(5),
            topic: "oms.instance".into(),
            epoch: Epoch(2),
            mode: Mode::S3Only,
            start: 120,
            len: bytes.len() as u32,
            body: None,
            attempts: 0,
            next_attempt: None,
        };
        (row, bytes)
    }

    fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
        let found = message.headers.iter().find(|h| h.0 == name);
        found.map(|h| h.1.as_str())
    }

    #[test]
    fn law_8_the_value_is_the_envelope_and_the_headers_say_where_it_lies() {
        let (row, bytes) = sample();
        let (message, time) = message(&row, bytes.clone(), "bucket", 1 << 20).unwrap();
        assert_eq!(message.payload, bytes);
        assert_eq!(message.key, "instance/db/Car/a%20b");
        assert_eq!(time, Timestamp::UNIX_EPOCH);
        let expected = [
            ("ce_type", "InstanceCreated"),
            ("ce_subject", "instance/db/Car/a%20b"),
            ("ce_time", "1970-01-01T00:00:00.000000Z"),
            ("position", "3/17/2"),
            ("version", "5"),
            ("s3_key", "events/0003/00000000000000000017.ndjson"),
            ("s3_offset", "120"),
            ("mode", "s3_only"),
            ("epoch", "2"),
        ];
        for (name, value) in expected {
            assert_eq!(header(&message, name), Some(value), "{name}");
        }
        assert_eq!(header(&message, "claim_check"), None);
    }

    #[test]
    fn the_trace_of_an_event_goes_on_in_the_headers_of_its_message() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (row, bytes) = traced(TraceContext::parse(text));
        let (sent, _) = message(&row, bytes.clone(), "bucket", 1 << 20).unwrap();
        assert_eq!(sent.payload, bytes);
        assert_eq!(header(&sent, "ce_traceparent"), Some(text));
        assert_eq!(header(&sent, TRACEPARENT), Some(text));
        let (row, bytes) = sample();
        let (sent, _) = message(&row, bytes, "bucket", 1 << 20).unwrap();
        assert_eq!(header(&sent, "ce_traceparent"), None);
        assert_eq!(header(&sent, TRACEPARENT), None);
    }

    fn reference(message: &Message) -> serde_json::Value {
        let content_type = header(message, "content-type").unwrap();
        assert!(content_type.starts_with("application/vnd.oms.reference+json"));
        assert_eq!(header(message, "claim_check"), Some("true"));
        assert_eq!(header(message, "ce_specversion"), None, "it is no event");
        assert_eq!(header(message, "ce_type"), Some("InstanceCreated"));
        serde_json::from_slice(&message.payload).unwrap()
    }

    #[test]
    fn law_13_an_event_too_large_for_the_broker_travels_by_reference() {
        let (row, bytes) = sample();
        let (whole, _) = message(&row, bytes.clone(), "bucket", 1 << 20).unwrap();
        let size = whole.wire_size();
        let (fits, _) = message(&row, bytes.clone(), "bucket", size).unwrap();
        assert_eq!(fits.payload, bytes);
        let (referring, _) = message(&row, bytes.clone(), "bucket", size - 1).unwrap();
        let hash = hex::encode(Sha256::digest(&bytes));
        let expected = serde_json::json!({
            "event_id": row.event_id,
            "href": "/api/v1/streams/instance/db%2FCar%2Fa%20b/events?from_version=5&limit=1",
            "length": bytes.len(),
            "sha256": hash,
            "s3": {"bucket": "bucket", "key": "events/0003/00000000000000000017.ndjson", "offset": 120},
        });
        assert_eq!(reference(&referring), expected);
        assert_eq!(header(&referring, "s3_sha256"), Some(hash.as_str()));
    }

    #[test]
    fn law_9_an_event_that_no_object_holds_is_referred_to_where_it_can_be_had() {
        let (row, bytes) = sample();
        let row = OutboxRow {
            body: Some(bytes.clone()),
            ..row
        };
        let (referring, _) = message(&row, bytes, "bucket", 100).unwrap();
        let reference = reference(&referring);
        assert_eq!(reference["s3"], serde_json::Value::Null);
        assert!(
            reference["href"]
                .as_str()
                .unwrap()
                .starts_with("/api/v1/streams/")
        );
        assert_eq!(header(&referring, "s3_key"), None);
    }

    #[test]
    fn bytes_of_another_event_are_refused() {
        let (row, bytes) = sample();
        let other = OutboxRow {
            event_id: EventId(Uuid::from_u128(10)),
            ..row.clone()
        };
        assert!(message(&other, bytes.clone(), "b", 10_000).is_err());
        assert!(message(&row, bytes.slice(1..), "b", 10_000).is_err());
    }
}
