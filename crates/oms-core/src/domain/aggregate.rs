//! The contract of an aggregate: its state decides which events follow from a command, and changes
//! only by applying events. Both functions are pure, so that a restart, a replay, a projection and
//! a property test all fold the same events into the same state.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::ids::Version;
use super::refusal::Refusal;
use super::weight::Weighed;

/// What is known of an event besides its data.
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

/// The events of one aggregate.
pub trait DomainEvent: Sized + Send + 'static {
    /// Schema version that [`DomainEvent::data`] writes; older ones are upcast by `decode`.
    const SCHEMA_VERSION: u32 = 1;

    /// The event's type, as stored.
    fn event_type(&self) -> &str;

    /// The event's data, as stored.
    fn data(&self) -> Result<Box<RawValue>, serde_json::Error>;

    /// The caller's metadata of this event alone: the text of a JSON object. Events of the ontology
    /// carry the metadata of their command instead.
    fn metadata(&self) -> Option<&RawValue> {
        None
    }

    /// Parses stored data, upcasting older schema versions.
    fn decode(event_type: &str, schema_version: u32, data: &RawValue) -> Result<Self, DecodeError>;
}

/// A consistency boundary: one stream, one state.
///
/// `Default` is the state of a stream without events. The state is serialisable because snapshots
/// store it.
pub trait Aggregate:
    Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Version of the state's serialised form in snapshots. Raised whenever that changes; older
    /// snapshots are then ignored.
    const SNAPSHOT_FORMAT: u32 = 1;

    /// How a refusal names an aggregate that is too large.
    const WEIGHED: Weighed = Weighed::EVENTS;

    /// What callers ask for, together with everything from outside the aggregate that the decision
    /// needs (for an instance: its class).
    type Command: Send + Sync + 'static;
    /// What its commands cause.
    type Event: DomainEvent;

    /// The events that follow from `command` in this state. An empty list means that there is
    /// nothing to change. MUST NOT change anything.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Refusal>;

    /// Applies an event. MUST accept every event that `decide` can produce and every event stored
    /// by an older version of the program; events are never refused.
    fn apply(&mut self, event: Self::Event, meta: EventMeta);

    /// Approximate bytes of heap memory that the state takes.
    fn memory_bytes(&self) -> usize {
        0
    }

    /// Bytes of the state as JSON; 0 if the state holds nothing of its events' content.
    fn stored_bytes(&self) -> usize {
        0
    }

    /// Bytes of the state after an event, as JSON; `None` if that is the event's data.
    fn stored_bytes_after(_event: &Self::Event) -> Option<usize> {
        None
    }
}
