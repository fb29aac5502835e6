//! Audits one partition: checks its objects, given in order, against the laws of the log. Keeps
//! only the stream heads.

use hashbrown::HashMap;

use super::object::{CommitKind, CommitObject, ObjectHash};
use crate::domain::event::Envelope;
use crate::domain::ids::{Epoch, Offset, PartitionId, StreamKey, Version};

/// The state of an audit of one partition.
#[derive(Debug)]
pub struct PartitionAudit {
    partition: PartitionId,
    partitions: u16,
    next: Offset,
    prev: ObjectHash,
    epoch: Epoch,
    heads: HashMap<StreamKey, Version>,
    events: u64,
    bytes: u64,
}

impl PartitionAudit {
    /// Starts an audit of `partition`, one of `partitions`, at its first object.
    pub fn new(partition: PartitionId, partitions: u16) -> Self {
        Self {
            partition,
            partitions,
            next: 0,
            prev: ObjectHash::NONE,
            epoch: Epoch(0),
            heads: HashMap::new(),
            events: 0,
            bytes: 0,
        }
    }

    /// The offset expected next.
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Hash of the last object, which covers all objects before it.
    pub fn head(&self) -> ObjectHash {
        self.prev
    }

    /// Events found.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Streams found.
    pub fn streams(&self) -> usize {
        self.heads.len()
    }

    /// Bytes found.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Checks the next object; the error says what is wrong with it.
    pub fn take(&mut self, object: &CommitObject) -> Result<(), String> {
        let header = &object.header;
        if header.partition != self.partition || header.offset != self.next {
            return Err(format!(
                "it says it is {}/{}",
                header.partition, header.offset
            ));
        }
        if header.prev != self.prev {
            return Err(format!(
                "it follows an object with hash {}, but the one before it has {}",
                header.prev, self.prev
            ));
        }
        if header.epoch < self.epoch {
            let (was, is) = (self.epoch.0, header.epoch.0);
            return Err(format!("its epoch {is} comes after epoch {was}"));
        }
        match header.kind {
            CommitKind::Control => {
                object.control_record().map_err(|e| e.to_string())?;
            }
            CommitKind::Events => {
                for i in 0..object.lines.len() {
                    self.event(&object.line(i))
                        .map_err(|what| format!("event {i}: {what}"))?;
                }
            }
        }
        self.next += 1;
        self.prev = object.hash();
        self.epoch = header.epoch;
        self.bytes += object.bytes.len() as u64;
        Ok(())
    }

    fn event(&mut self, bytes: &[u8]) -> Result<(), String> {
        let event = Envelope::parse(bytes).map_err(|e| e.to_string())?;
        let stream = event.stream();
        let key = stream.key();
        let belongs = key.partition(self.partitions);
        if belongs != self.partition {
            return Err(format!("{stream} belongs to partition {belongs}"));
        }
        let head = self.heads.entry(key).or_insert(Version::NONE);
        if event.version != head.plus(1) {
            return Err(format!(
                "version {} of {stream} comes after version {head}",
                event.version
            ));
        }
        *head = event.version;
        self.events += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{EncodedEvents, NewEvent, Provenance, encode};
    use crate::domain::ids::{CommandId, EventId, EventType, StreamName, StreamType, WriterId};
    use crate::log::object::{CommitHeader, FORMAT};
    use serde_json::value::RawValue;
    use uuid::Uuid;

    fn event(version: u64) -> EncodedEvents {
        let stream = StreamName::new(&StreamType::new("order").unwrap(), &["1"]).unwrap();
        let new = NewEvent {
            event_type: EventType::new("OrderPlaced").unwrap(),
            schema_version: 1,
            data: RawValue::from_string("{}".to_owned()).unwrap(),
            metadata: None,
        };
        let provenance = Provenance {
            command_id: CommandId(Uuid::nil()),
            correlation_id: "c".into(),
            actor: "a".into(),
            trace: None,
            idempotency: None,
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        let id = || EventId(Uuid::nil());
        encode(&stream, Version(version - 1), &[new], &provenance, id)
    }

    fn object(offset: Offset, prev: ObjectHash, epoch: u64, version: u64) -> CommitObject {
        let header = CommitHeader {
            format: FORMAT,
            partition: PartitionId(0),
            offset,
            epoch: Epoch(epoch),
            writer: WriterId(Uuid::nil()),
            batch: offset,
            prev,
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            count: 1,
            kind: CommitKind::Events,
        };
        CommitObject::build(header, &[&event(version)])
    }

    /// An audit that has checked one good object.
    fn begun() -> PartitionAudit {
        let mut audit = PartitionAudit::new(PartitionId(0), 1);
        audit.take(&object(0, ObjectHash::NONE, 1, 1)).unwrap();
        audit
    }

    #[test]
    fn law_5_a_sound_chain_passes() {
        let mut audit = begun();
        audit.take(&object(1, audit.head(), 1, 2)).unwrap();
        assert_eq!(
            (audit.events(), audit.streams(), audit.next_offset()),
            (2, 1, 2)
        );
    }

    #[test]
    fn law_5_every_break_of_the_chain_is_found() {
        let head = begun().head();
        let broken = [
            ("another predecessor", object(1, ObjectHash::of(b"x"), 1, 2)),
            ("a skipped offset", object(2, head, 1, 2)),
            ("a repeated version", object(1, head, 1, 1)),
            ("a skipped version", object(1, head, 1, 3)),
            ("an older epoch", object(1, head, 0, 2)),
        ];
        for (what, object) in broken {
            assert!(begun().take(&object).is_err(), "{what}");
        }
        let mut elsewhere = PartitionAudit::new(PartitionId(0), 1);
        elsewhere.partitions = 1024;
        let first = object(0, ObjectHash::NONE, 1, 1);
        let wrong = elsewhere.take(&first).unwrap_err();
        assert!(wrong.contains("belongs to partition"), "{wrong}");
    }
}
