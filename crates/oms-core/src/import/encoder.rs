//! Encodes events of a source as appends.

use bytes::Bytes;
use uuid::Uuid;

use super::mapping::ImportedEvent;
use super::spec::SourceSpec;
use crate::domain::event::{EncodedEvents, Provenance, Recorded, encode};
use crate::domain::ids::{CommandId, StreamName, Version};

/// UUIDv5 name space of the commands of an import.
const COMMAND_NAMESPACE: Uuid = Uuid::from_u128(0x6f6d_735f_696d_706f_7274_5f63_6f6d_6d64);

/// Encodes events of one source as appends.
#[derive(Debug)]
pub struct Encoder {
    source: String,
    actor: String,
}

impl Encoder {
    /// For this source.
    pub fn new(spec: &SourceSpec) -> Self {
        Self {
            source: spec.name.clone(),
            actor: format!("import:{}", spec.name),
        }
    }

    /// Encodes consecutive events of one stream as one append, with its command: the same source,
    /// stream and first version always give the same command. `None` without events.
    pub fn encode<'a>(
        &self,
        events: impl Iterator<Item = &'a ImportedEvent> + Clone,
    ) -> Option<(CommandId, EncodedEvents)> {
        let first = events.clone().next()?;
        let command = self.command(&first.stream, first.version);
        let mut provenance = Provenance {
            command_id: command,
            correlation_id: command.to_string(),
            actor: self.actor.clone(),
            trace: None,
            idempotency: None,
            time: first.time,
        };
        let recorded = Recorded::of(&provenance);
        let size = events.clone().map(ImportedEvent::size).sum();
        let mut bytes = Vec::with_capacity(size);
        let mut spans = Vec::new();
        for event in events {
            provenance.time = event.time;
            let after = Version(event.version.0.saturating_sub(1));
            let one = std::slice::from_ref(&event.event);
            let encoded = encode(&event.stream, after, one, &provenance, || event.id);
            let start = bytes.len() as u32;
            spans.extend(encoded.spans.iter().map(|s| s.start + start..s.end + start));
            bytes.extend_from_slice(&encoded.bytes);
        }
        let bytes = Bytes::from(bytes);
        let encoded = EncodedEvents {
            bytes,
            spans,
            recorded,
        };
        Some((command, encoded))
    }

    fn command(&self, stream: &StreamName, first: Version) -> CommandId {
        let name = format!("{}:{}:{stream}:{first}", self.source.len(), self.source);
        CommandId(Uuid::new_v5(&COMMAND_NAMESPACE, name.as_bytes()))
    }
}
