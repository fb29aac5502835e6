//! What the index keeps of one commit object: where its events lie and which commands it holds.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::object::{CommitKind, CommitObject, CorruptObject};
use crate::domain::event::{Envelope, PrincipalTag};
use crate::domain::ids::{CommandId, Offset, StreamKey, Version};

/// The outcome of a committed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutcome {
    /// The stream it changed.
    pub stream: StreamKeyBytes,
    /// Version of its last event.
    pub version: Version,
    /// Number of its events.
    pub events: u32,
    /// Offset of the commit object that holds them.
    pub offset: Offset,
    /// Index of its first event in the object.
    pub index: u32,
    /// Hash of the request, if it had an idempotency key.
    pub request_hash: Option<u64>,
    /// When its first event was recorded, in milliseconds since 1970.
    pub at_ms: i64,
    /// The principal who caused it. Stored beside the summaries ([`super::segment`]), so that
    /// checkpoints stay compatible with versions that do not record it.
    #[serde(skip)]
    pub principal: PrincipalTag,
}

/// A [`StreamKey`] in a form that every serialisation format supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamKeyBytes(pub [u8; 16]);

impl From<StreamKey> for StreamKeyBytes {
    fn from(key: StreamKey) -> Self {
        Self(key.0.to_be_bytes())
    }
}

impl From<StreamKeyBytes> for StreamKey {
    fn from(bytes: StreamKeyBytes) -> Self {
        StreamKey(u128::from_be_bytes(bytes.0))
    }
}

/// What the index stores of one commit object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitSummary {
    /// The object's offset.
    pub offset: Offset,
    /// First byte of its first event.
    pub first_start: u32,
    /// Stream and length of each event, in order; each is followed by one line end.
    pub events: Vec<(StreamKeyBytes, u32)>,
    /// The commands in it.
    pub commands: Vec<(CommandId, CommandOutcome)>,
}

impl CommitSummary {
    /// Reads the summary of a commit object. `head` returns a stream's version before the object:
    /// the versions in the object must follow it without a gap.
    pub fn of(
        object: &CommitObject,
        head: impl Fn(StreamKey) -> Version,
    ) -> Result<Self, CorruptObject> {
        let mut summary = Self {
            offset: object.header.offset,
            first_start: object
                .lines
                .first()
                .map_or(object.bytes.len() as u32, |l| l.start),
            events: Vec::with_capacity(object.event_count()),
            commands: Vec::new(),
        };
        if object.header.kind == CommitKind::Control {
            return Ok(summary);
        }
        let mut heads: HashMap<StreamKey, Version> = HashMap::new();
        for (i, line) in object.lines.iter().enumerate() {
            let bytes = &object.bytes[line.start as usize..line.end as usize];
            let event = Envelope::parse(bytes).map_err(|e| {
                CorruptObject(format!("offset {} line {i}: {e}", object.header.offset))
            })?;
            let key = event.stream().key();
            let before = heads.get(&key).copied().unwrap_or_else(|| head(key));
            if event.version != before.plus(1) {
                return Err(CorruptObject(format!(
                    "offset {} line {i}: stream {} is at version {before}, the event says {}",
                    object.header.offset,
                    event.stream(),
                    event.version
                )));
            }
            heads.insert(key, event.version);
            summary.events.push((key.into(), line.end - line.start));
            match summary.commands.last_mut() {
                Some((id, outcome)) if *id == event.command_id => {
                    outcome.version = event.version;
                    outcome.events += 1;
                }
                _ => summary.commands.push((
                    event.command_id,
                    CommandOutcome {
                        stream: key.into(),
                        version: event.version,
                        events: 1,
                        offset: object.header.offset,
                        index: i as u32,
                        request_hash: event.idempotency().map(|k| k.request_hash),
                        at_ms: event.time.as_millisecond(),
                        principal: PrincipalTag::of(&event.actor),
                    },
                )),
            }
        }
        Ok(summary)
    }
}
