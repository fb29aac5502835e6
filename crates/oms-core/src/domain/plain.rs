//! Streams of other event-sourced programs. The service records what they append and decides
//! nothing: the rules are in those programs.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::aggregate::{Aggregate, DecodeError, DomainEvent, EventMeta};
use super::event::NewEvent;
use super::ids::EventType;
use super::refusal::Refusal;

/// Events of one append at most. They are one commit, so that their bytes are in memory together.
pub const MAX_APPEND_EVENTS: usize = 1_000;

/// A stream of another program. It has no state, because nothing is decided on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainStream {}

/// An event of a plain stream, as given.
#[derive(Debug, Clone)]
pub struct PlainEvent(pub NewEvent);

impl DomainEvent for PlainEvent {
    fn event_type(&self) -> &str {
        self.0.event_type.as_str()
    }

    fn data(&self) -> Result<Box<RawValue>, serde_json::Error> {
        Ok(self.0.data.clone())
    }

    fn metadata(&self) -> Option<&RawValue> {
        self.0.metadata.as_deref()
    }

    /// Accepts any data of any schema version: their meaning is the other program's.
    fn decode(event_type: &str, schema_version: u32, data: &RawValue) -> Result<Self, DecodeError> {
        let event_type = EventType::new(event_type).map_err(|error| DecodeError {
            event_type: event_type.to_owned(),
            schema_version,
            reason: error.to_string(),
        })?;
        Ok(Self(NewEvent {
            event_type,
            schema_version,
            data: data.to_owned(),
            metadata: None,
        }))
    }
}

impl Aggregate for PlainStream {
    /// The events to append, all or none.
    type Command = Vec<NewEvent>;
    type Event = PlainEvent;

    fn decide(&self, command: &Vec<NewEvent>) -> Result<Vec<PlainEvent>, Refusal> {
        if command.is_empty() {
            return Err(Refusal::invalid("no_events", "there is nothing to append"));
        }
        if command.len() > MAX_APPEND_EVENTS {
            let count = command.len();
            return Err(Refusal::invalid(
                "too_many_events",
                format!("an append may have {MAX_APPEND_EVENTS} events (it has {count})"),
            ));
        }
        Ok(command.iter().cloned().map(PlainEvent).collect())
    }

    fn apply(&mut self, _event: PlainEvent, _meta: EventMeta) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> NewEvent {
        NewEvent {
            event_type: EventType::new("OrderPlaced").unwrap(),
            schema_version: 1,
            data: RawValue::from_string(data.to_owned()).unwrap(),
            metadata: Some(RawValue::from_string(r#"{"by":"ann"}"#.to_owned()).unwrap()),
        }
    }

    #[test]
    fn events_are_appended_as_given() {
        let stream = PlainStream::default();
        let given = r#"{ "n" : 1.50, "n" : 2 }"#;
        let events = stream.decide(&vec![event(given), event("[]")]).unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].event_type(), "OrderPlaced");
        assert_eq!(events[0].data().unwrap().get(), given);
        assert_eq!(events[0].metadata().unwrap().get(), r#"{"by":"ann"}"#);
        let read = PlainEvent::decode("OrderPlaced", 7, &events[0].data().unwrap()).unwrap();
        assert_eq!(read.data().unwrap().get(), given);
    }

    #[test]
    fn an_append_has_some_events_but_not_too_many() {
        let stream = PlainStream::default();
        assert_eq!(stream.decide(&vec![]).unwrap_err().code, "no_events");
        let most = vec![event("1"); MAX_APPEND_EVENTS];
        assert_eq!(stream.decide(&most).unwrap().len(), MAX_APPEND_EVENTS);
        let more = vec![event("1"); MAX_APPEND_EVENTS + 1];
        assert_eq!(stream.decide(&more).unwrap_err().code, "too_many_events");
    }
}
