//! Given-when-then tests of aggregates.

use std::fmt::Debug;

use serde_json::value::RawValue;

use super::aggregate::{Aggregate, DomainEvent, EventMeta};
use super::ids::Version;
use super::refusal::Refusal;

/// The metadata of event number `version`: one second passes between two events.
pub(crate) fn meta(version: u64) -> EventMeta {
    EventMeta {
        version: Version(version),
        time: jiff::Timestamp::from_second(1_700_000_000 + version as i64).unwrap(),
    }
}

/// A stream under test.
#[derive(Debug, Clone)]
pub(crate) struct Stream<A: Aggregate> {
    pub state: A,
    pub events: Vec<A::Event>,
}

impl<A> Stream<A>
where
    A: Aggregate + PartialEq + Debug,
    A::Event: Clone + PartialEq + Debug,
{
    pub fn new() -> Self {
        Self {
            state: A::default(),
            events: vec![],
        }
    }

    /// Given: these commands were accepted.
    pub fn given(commands: impl IntoIterator<Item = A::Command>) -> Self {
        let mut stream = Self::new();
        for command in commands {
            stream.when(&command).unwrap();
        }
        stream
    }

    /// When: this command is decided and its events are applied; returns the events.
    pub fn when(&mut self, command: &A::Command) -> Result<Vec<A::Event>, Refusal> {
        let events = self.state.decide(command)?;
        for event in &events {
            self.events.push(event.clone());
            self.state
                .apply(event.clone(), meta(self.events.len() as u64));
        }
        Ok(events)
    }

    /// Then: this command is refused with this code, and changes nothing.
    pub fn refuses(&mut self, command: &A::Command) -> &'static str {
        let before = self.state.clone();
        let refusal = self.when(command).unwrap_err();
        assert_eq!(self.state, before);
        refusal.code
    }

    /// Then: the state is the same when it is folded from the stored bytes, and when it comes from
    /// a snapshot.
    pub fn folds_alike(&self) {
        let mut folded = A::default();
        for (event, version) in self.events.iter().zip(1..) {
            let data = event.data().unwrap();
            let read = A::Event::decode(event.event_type(), 1, &data).unwrap();
            assert_eq!(&read, event);
            folded.apply(read, meta(version));
        }
        assert_eq!(folded, self.state);
        let snapshot = serde_json::to_vec(&self.state).unwrap();
        assert_eq!(serde_json::from_slice::<A>(&snapshot).unwrap(), self.state);
    }
}

/// The event has this type and these bytes, and reads back from them. Golden: events like these
/// are stored for good, so a change here must come with a new schema version and its upcast.
pub(crate) fn golden<E: DomainEvent + PartialEq + Debug>(event: E, event_type: &str, data: &str) {
    assert_eq!(event.event_type(), event_type);
    assert_eq!(event.data().unwrap().get(), data);
    let stored = RawValue::from_string(data.to_owned()).unwrap();
    assert_eq!(E::decode(event_type, 1, &stored).unwrap(), event);
    assert!(E::decode(event_type, 2, &stored).is_err());
    assert!(E::decode("SomethingElse", 1, &stored).is_err());
}
