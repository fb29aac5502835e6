//! From a row of the outbox and its event's bytes to a message.
//!
//! The value is the envelope, byte for byte (law 8): a CloudEvent in structured mode, as the
//! content type says. The attributes are repeated as `ce_` headers, so that a consumer can route
//! without parsing, and the event's address in the log as `s3_` headers, so that one whose body
//! did not travel (or was lost) can be fetched with one ranged GET and checked.

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::domain::event::{Envelope, SOURCE};
use crate::flaws::{Flaw, flawed};
use crate::log::keys;
use crate::store::delivery::OutboxRow;
use crate::store::transport::Message;

const CONTENT_TYPE: &str = "application/cloudevents+json; charset=UTF-8";

/// Builds the message of `row`, whose event is `bytes`, with the time the event was recorded. A
/// body over `inline_limit` bytes travels by reference. Fails if the bytes are not the row's event.
pub fn message(
    row: &OutboxRow,
    bytes: Bytes,
    bucket: &str,
    inline_limit: usize,
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
        ("content-type", CONTENT_TYPE.to_owned()),
        ("ce_specversion", "1.0".to_owned()),
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
    let by_reference = row.body.is_none() && bytes.len() > inline_limit;
    if row.body.is_none() {
        let at = row.position;
        headers.extend([
            ("s3_bucket", bucket.to_owned()),
            ("s3_key", keys::commit(at.partition, at.offset)),
            ("s3_offset", row.start.to_string()),
            ("s3_length", row.len.to_string()),
            ("s3_sha256", hex::encode(Sha256::digest(&bytes))),
        ]);
    }
    if by_reference {
        headers.push(("claim_check", "true".to_owned()));
    }
    let message = Message {
        topic: row.topic.clone(),
        key: row.stream.id().to_owned(),
        headers,
        payload: if by_reference {
            Bytes::new()
        } else if flawed(Flaw::ReencodeMessages) {
            serde_json::from_slice::<serde_json::Value>(&bytes)
                .map_or(bytes, |event| event.to_string().into())
        } else {
            bytes
        },
    };
    Ok((message, time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{NewEvent, Provenance, encode};
    use crate::domain::ids::{
        CommandId, Epoch, EventId, EventType, PartitionId, Position, StreamName, Version,
    };
    use crate::migration::stage::Mode;
    use uuid::Uuid;

    fn sample() -> (OutboxRow, Bytes) {
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
        assert_eq!(message.key, "db/Car/a%20b");
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
    fn law_13_a_large_body_travels_by_reference() {
        let (row, bytes) = sample();
        let (message, _) = message(&row, bytes.clone(), "bucket", bytes.len() - 1).unwrap();
        assert!(message.payload.is_empty());
        assert_eq!(header(&message, "claim_check"), Some("true"));
        let hash = hex::encode(Sha256::digest(&bytes));
        assert_eq!(header(&message, "s3_sha256"), Some(hash.as_str()));
    }

    #[test]
    fn bytes_of_another_event_are_refused() {
        let (row, bytes) = sample();
        let other = OutboxRow {
            event_id: EventId(Uuid::from_u128(10)),
            ..row.clone()
        };
        assert!(message(&other, bytes.clone(), "b", 1000).is_err());
        assert!(message(&row, bytes.slice(1..), "b", 1000).is_err());
    }
}
