//! The contract of an aggregate: a state that decides which facts follow from a command, and that
//! changes only by applying facts. Both functions are pure, so a restart, a replay, a projection
//! and a property test all fold the same events into the same state.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::ids::Version;
use super::refusal::Refusal;
use super::weight::Weighed;

/// What an event says about itself besides its data.
#[derive(Debug, Clone, Copy)]
pub struct EventMeta {
    /// Its number in its stream.
    pub version: Version,
    /// When it was recorded.
    pub time: Timestamp,
}

/// Stored bytes that no version of this program can have written, or that are damaged.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot decode {event_type} (schema {schema_version}): {reason}")]
pub struct DecodeError {
    /// Type of the event.
    pub event_type: String,
    /// Schema version it was stored with.
    pub schema_version: u32,
    /// Why it does not decode.
    pub reason: String,
}

/// One kind of fact of one aggregate.
pub trait DomainEvent: Sized + Send + 'static {
    /// Schema version that [`DomainEvent::data`] writes; older ones are upcast by `decode`.
    const SCHEMA_VERSION: u32 = 1;

    /// The event's type, as stored.
    fn event_type(&self) -> &str;

    /// The event's data, as stored.
    fn data(&self) -> Result<Box<RawValue>, serde_json::Error>;

    /// A caller's remarks on this very event: the text of a JSON object. Events of the ontology
    /// carry their command's instead.
    fn metadata(&self) -> Option<&RawValue> {
        None
    }

    /// Reads stored data back, upcasting older schema versions.
    fn decode(event_type: &str, schema_version: u32, data: &RawValue) -> Result<Self, DecodeError>;
}

/// A consistency boundary: one stream, one state.
///
/// `Default` is the state of a stream without events. The state is serialisable because snapshots
/// store it.
pub trait Aggregate:
    Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Form of the state in snapshots; raised whenever it changes, which makes older snapshots
    /// unused and nothing worse.
    const SNAPSHOT_FORMAT: u32 = 1;

    /// How one that would be too large is refused.
    const WEIGHED: Weighed = Weighed::EVENTS;

    /// What callers ask for, with everything from outside the aggregate that the decision needs
    /// (for an instance: its class as it stands).
    type Command: Send + Sync + 'static;
    /// What may follow.
    type Event: DomainEvent;

    /// The facts that follow from `command` in this state. An empty list means that the command
    /// asks for what already is. MUST NOT change anything.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Refusal>;

    /// Takes a fact in. MUST accept every event that `decide` can produce and every event stored
    /// by an older version; facts are never refused.
    fn apply(&mut self, event: Self::Event, meta: EventMeta);

    /// Bytes of memory the state takes, about, beyond its own place.
    fn memory_bytes(&self) -> usize {
        0
    }

    /// Bytes of the state as JSON; 0 where an event leaves nothing of its content behind.
    fn stored_bytes(&self) -> usize {
        0
    }

    /// The same of the state that an event leaves behind; `None` where that is the event's data.
    fn stored_bytes_after(_event: &Self::Event) -> Option<usize> {
        None
    }
}
