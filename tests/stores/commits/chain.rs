//! Commit objects that follow one another, with whatever data a test wants in them.

use std::collections::HashMap;
use std::sync::Arc;

use oms::clock::new_uuid;
use oms::domain::event::{EncodedEvents, Envelope, NewEvent, Provenance, encode};
use oms::domain::ids::{
    CommandId, Epoch, EventId, EventType, Offset, PartitionId, StreamName, StreamType, Version,
    WriterId,
};
use oms::log::index::Location;
use oms::log::lead::Lead;
use oms::log::object::{CommitHeader, CommitKind, CommitObject, ControlRecord, FORMAT, ObjectHash};
use serde_json::value::RawValue;

/// JSON whose text says more than its value: order, white space, escapes, repeated keys, numbers
/// that no machine type holds.
pub const ODD: &[&str] = &[
    r#"{}"#,
    r#"null"#,
    r#""plain""#,
    r#"  {"spaces" :  [ 1 ,2,  3 ]   }  "#,
    r#"{"z":1,"a":2,"m":3}"#,
    r#"{"twice":1,"twice":2,"twice":{"twice":[]}}"#,
    r#"{"n":[1.50,1e400,-0,0.1e-7,123456789012345678901234567890,1E+2]}"#,
    r#""\u0000 \ud800 \uD83D\uDE00 \/ \" \\ \b\f\n\r\t é""#,
    "\"é 日本 😀 \u{7f} \u{85} \u{2028} \u{feff}\"",
    "{\"tabs\":\t[\t]\t}",
    r#"{"":{"":""},"$":"\\n"}"#,
];

/// The end of a log that grows.
#[derive(Clone)]
pub struct Chain {
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub next: Offset,
    pub prev: ObjectHash,
    /// The id of every event that is added, in place of one of its own.
    pub id: Option<EventId>,
    writer: WriterId,
    versions: HashMap<StreamName, u64>,
}

pub fn order(n: usize) -> StreamName {
    StreamName::new(&StreamType::new("order").unwrap(), &[&n.to_string()]).unwrap()
}

impl Chain {
    pub fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            epoch: Epoch(1),
            next: 0,
            prev: ObjectHash::NONE,
            id: None,
            writer: WriterId(new_uuid()),
            versions: HashMap::new(),
        }
    }

    fn header(&self, count: usize, kind: CommitKind) -> CommitHeader {
        CommitHeader {
            format: FORMAT,
            partition: self.partition,
            offset: self.next,
            epoch: self.epoch,
            writer: self.writer,
            batch: self.next,
            prev: self.prev,
            at: oms_testkit::now(),
            count: count.try_into().unwrap(),
            kind,
        }
    }

    fn grown(&mut self, object: CommitObject) -> Arc<CommitObject> {
        self.follow(&object);
        Arc::new(object)
    }

    /// Goes on from an object that somebody else put there.
    pub fn follow(&mut self, object: &CommitObject) {
        self.next = object.header.offset + 1;
        self.prev = object.hash();
        if object.header.kind == CommitKind::Events {
            for i in 0..object.lines.len() {
                let line = object.line(i);
                let event = Envelope::parse(&line).unwrap();
                self.versions.insert(event.stream(), event.version.0);
            }
        }
    }

    /// A control object.
    pub fn control(&mut self) -> Arc<CommitObject> {
        let record = ControlRecord {
            lead: Lead::Postgres,
            epoch: self.epoch,
        };
        let object = CommitObject::control(self.header(1, CommitKind::Control), record);
        self.grown(object)
    }

    /// One event of each text in turn, over a few streams.
    pub fn events(&mut self, data: &[&str]) -> Arc<CommitObject> {
        let parts: Vec<EncodedEvents> = data
            .iter()
            .enumerate()
            .map(|(i, data)| self.event(&order(usize::from(self.partition.0) * 10 + i % 3), data))
            .collect();
        let parts: Vec<&EncodedEvents> = parts.iter().collect();
        let header = self.header(parts.len(), CommitKind::Events);
        let object = CommitObject::build(header, &parts);
        self.grown(object)
    }

    /// The next event of a stream.
    fn event(&mut self, stream: &StreamName, data: &str) -> EncodedEvents {
        let version = self.versions.entry(stream.clone()).or_default();
        *version += 1;
        let event = NewEvent {
            event_type: EventType::new("Happened").unwrap(),
            schema_version: 1,
            data: RawValue::from_string(data.trim().to_owned()).unwrap(),
            metadata: Some(RawValue::from_string(r#"{ "by" : "é\n" }"#.into()).unwrap()),
        };
        let provenance = Provenance {
            command_id: CommandId(new_uuid()),
            correlation_id: "a \"story\" \u{1}".into(),
            actor: "ann 😀".into(),
            trace: None,
            idempotency: None,
            time: "1969-12-31T23:59:59.123456Z".parse().unwrap(),
        };
        let encoded = encode(stream, Version(*version - 1), &[event], &provenance, || {
            self.id.unwrap_or_else(|| EventId(new_uuid()))
        });
        if data.trim() == data {
            return encoded;
        }
        // White space of the envelope itself.
        let text = String::from_utf8(encoded.event(0).to_vec()).unwrap();
        let bytes = format!(" {} \n", text.replacen("\"data\":", "\"data\" : ", 1));
        let end = bytes.len() as u32 - 1;
        EncodedEvents {
            bytes: bytes.into(),
            spans: std::iter::once(0..end).collect(),
            recorded: encoded.recorded,
        }
    }
}

/// Where an object's events lie.
pub fn places(object: &CommitObject) -> Vec<Location> {
    if object.header.kind == CommitKind::Control {
        return Vec::new();
    }
    let place = |i: usize| Location {
        version: Envelope::parse(&object.line(i)).unwrap().version,
        offset: object.header.offset,
        index: i as u32,
        start: object.lines[i].start,
        len: object.lines[i].len() as u32,
    };
    (0..object.lines.len()).map(place).collect()
}
