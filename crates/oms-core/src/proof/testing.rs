//! Chains of objects for tests.

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::domain::event::{EncodedEvents, NewEvent, Provenance, encode};
use crate::domain::ids::{
    CommandId, Epoch, EventId, EventType, PartitionId, StreamName, StreamType, Version, WriterId,
};
use crate::log::lead::Lead;
use crate::log::object::{
    CommitHeader, CommitKind, CommitObject, ControlRecord, FORMAT, ObjectHash,
};

fn event(partition: u16, stream: u64, version: u64) -> EncodedEvents {
    let kind = StreamType::new("order").unwrap();
    let stream = StreamName::new(&kind, &[&format!("{partition}-{stream}")]).unwrap();
    let new = NewEvent {
        event_type: EventType::new("OrderPlaced").unwrap(),
        schema_version: 1,
        data: RawValue::from_string(format!(r#"{{"amount":{version}.50}}"#)).unwrap(),
        metadata: None,
    };
    let number = u128::from(version) << 32 | u128::from(partition);
    let provenance = Provenance {
        command_id: CommandId(Uuid::from_u128(number)),
        correlation_id: "c".into(),
        actor: "a".into(),
        trace: None,
        idempotency: None,
        time: "2026-01-02T03:04:05.123456Z".parse().unwrap(),
    };
    let id = EventId(Uuid::from_u128(StreamName::key(&stream).0 ^ number));
    encode(&stream, Version(version - 1), &[new], &provenance, || id)
}

/// `n` objects of a partition: a control record, then objects with one event for each of `streams`
/// streams.
pub fn chain(partition: u16, n: u64, streams: u64) -> Vec<CommitObject> {
    let mut objects: Vec<CommitObject> = Vec::new();
    for offset in 0..n {
        let prev = objects.last().map_or(ObjectHash::NONE, CommitObject::hash);
        let control = offset == 0;
        let header = CommitHeader {
            format: FORMAT,
            partition: PartitionId(partition),
            offset,
            epoch: Epoch(1),
            writer: WriterId(Uuid::from_u128(7)),
            batch: offset,
            prev,
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            count: if control { 1 } else { streams as u32 },
            kind: if control {
                CommitKind::Control
            } else {
                CommitKind::Events
            },
        };
        objects.push(if control {
            let record = ControlRecord {
                lead: Lead::Postgres,
                epoch: Epoch(1),
            };
            CommitObject::control(header, record)
        } else {
            let events: Vec<_> = (0..streams).map(|s| event(partition, s, offset)).collect();
            CommitObject::build(header, &events.iter().collect::<Vec<_>>())
        });
    }
    objects
}
