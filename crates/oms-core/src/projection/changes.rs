//! Folds events of the ontology into the last states of what they changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::payload::{self, Fact};
use crate::domain::event::Envelope;
use crate::domain::ids::{Position, RESERVED_STREAM_TYPES, Version};

/// Longest reason stored with a parked event, in bytes.
const MAX_REASON_BYTES: usize = 1000;

/// The state of a database, class or instance after the last event folded. A field is `None` if no
/// folded event sets it: then it is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Version of its stream.
    pub version: Version,
    /// Version of the event that last created it.
    pub incarnation: Option<Version>,
    /// Incarnation of the database or class that contains it.
    pub parent: Option<Version>,
    /// Its content as JSON text; `None` when it was deleted.
    pub data: Option<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl State {
    /// Merges in the state after a later event.
    fn overtake(&mut self, later: State) {
        if later.version <= self.version {
            return;
        }
        *self = State {
            incarnation: later.incarnation.or(self.incarnation),
            parent: later.parent.or(self.parent),
            created_at: later.created_at.or(self.created_at),
            ..later
        };
    }
}

/// An event that could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParkedEvent {
    /// Its position in the log.
    pub position: Position,
    /// Its stream, if it could be parsed.
    pub stream: String,
    /// Its type, if it could be parsed.
    pub event_type: String,
    /// Why it could not be applied.
    pub reason: String,
}

impl ParkedEvent {
    /// `bytes` is the event, `reason` why it cannot be applied.
    pub fn new(position: Position, bytes: &[u8], mut reason: String) -> Self {
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        let (stream, event_type) = match Envelope::parse(bytes) {
            Ok(event) => (event.stream().to_string(), event.event_type.into_owned()),
            Err(_) => Default::default(),
        };
        Self {
            position,
            stream,
            event_type,
            reason,
        }
    }
}

/// The last state of everything that the folded events changed. Keys are decoded ids, sorted, so
/// that all writers take locks in the same order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Databases by name.
    pub databases: BTreeMap<String, State>,
    /// Classes by database and id.
    pub classes: BTreeMap<(String, String), State>,
    /// Instances by database, class and id.
    pub instances: BTreeMap<(String, String, String), State>,
}

impl Changes {
    /// Whether no event changed anything.
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.classes.is_empty() && self.instances.is_empty()
    }

    /// Removes all content, and with it whether something exists: only what later events build on
    /// remains.
    pub fn without_content(mut self) -> Self {
        let databases = self.databases.values_mut();
        let classes = self.classes.values_mut();
        for state in databases.chain(classes).chain(self.instances.values_mut()) {
            state.data = None;
        }
        self
    }

    /// Folds one event. Events of plain streams have no effect; the error says why an event of the
    /// ontology cannot be applied.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        let event = Envelope::parse(bytes).map_err(|e| format!("envelope: {e}"))?;
        if !RESERVED_STREAM_TYPES.contains(&&*event.stream_type) {
            return Ok(());
        }
        let fact = payload::read(&event.event_type, event.schema_version, event.data)?;
        let state = state(&event, fact);
        let stream = event.stream();
        let mut parts = stream.components().map(|c| c.into_owned());
        let id = (parts.next(), parts.next(), parts.next(), parts.next());
        let belongs = |prefix: &str| event.event_type.starts_with(prefix);
        match (&*event.stream_type, id) {
            ("database", (Some(name), None, ..)) if belongs("Database") => {
                put(&mut self.databases, name, state);
            }
            ("class", (Some(db), Some(id), None, _)) if belongs("Class") => {
                put(&mut self.classes, (db, id), state);
            }
            ("instance", (Some(db), Some(class), Some(id), None)) if belongs("Instance") => {
                put(&mut self.instances, (db, class, id), state);
            }
            _ => return Err(format!("{} in stream {stream}", event.event_type)),
        }
        Ok(())
    }
}

fn state(event: &Envelope<'_>, fact: Fact<'_>) -> State {
    let mut state = State {
        version: event.version,
        incarnation: None,
        parent: None,
        data: None,
        created_at: None,
        updated_at: event.time,
    };
    match fact {
        Fact::Created { data, parent } => {
            state.incarnation = Some(event.version);
            state.parent = parent;
            state.created_at = Some(event.time);
            state.data = Some(data.get().to_owned());
        }
        Fact::Updated { data } => state.data = Some(data.get().to_owned()),
        Fact::Deleted => {}
    }
    state
}

fn put<K: Ord>(map: &mut BTreeMap<K, State>, key: K, state: State) {
    use std::collections::btree_map::Entry;
    match map.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(state);
        }
        Entry::Occupied(mut entry) => entry.get_mut().overtake(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(stream: (&str, &str), version: u64, event_type: &str, data: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"00000000-0000-0000-0000-000000000009","source":"/oms","type":"{event_type}","time":"2026-01-02T03:04:0{version}Z","streamtype":"{}","streamid":"{}","streamversion":{version},"commandid":"00000000-0000-0000-0000-000000000007","correlationid":"c","actor":"ann","schemaversion":1,"data":{data}}}"#,
            stream.0, stream.1
        )
    }

    const FILM: (&str, &str) = ("instance", "films/Film/a%20b");

    fn life() -> Vec<String> {
        vec![
            event(
                FILM,
                1,
                "InstanceCreated",
                r#"{"data":{"n":1},"class_incarnation":4}"#,
            ),
            event(
                FILM,
                2,
                "InstanceUpdated",
                r#"{"data":{"n":2},"changed":["n"]}"#,
            ),
            event(FILM, 3, "InstanceDeleted", "{}"),
            event(
                FILM,
                4,
                "InstanceCreated",
                r#"{"data":{"n":3},"class_incarnation":7}"#,
            ),
        ]
    }

    #[test]
    fn events_fold_to_the_last_state() {
        let key = ("films".to_owned(), "Film".to_owned(), "a b".to_owned());
        let mut changes = Changes::default();
        let mut seen = Vec::new();
        for event in life() {
            changes.take(event.as_bytes()).unwrap();
            let state = &changes.instances[&key];
            let data = state.data.clone();
            seen.push((data, state.incarnation.unwrap().0, state.parent.unwrap().0));
        }
        let data = |n| Some(format!(r#"{{"n":{n}}}"#));
        assert_eq!(
            seen,
            [
                (data(1), 1, 4),
                (data(2), 1, 4),
                (None, 1, 4),
                (data(3), 4, 7)
            ]
        );
        // Older events again change nothing.
        let before = changes.clone();
        for event in life() {
            changes.take(event.as_bytes()).unwrap();
        }
        assert_eq!(changes, before);
    }

    #[test]
    fn an_update_alone_leaves_what_it_does_not_say() {
        let mut changes = Changes::default();
        changes.take(life()[1].as_bytes()).unwrap();
        let state = changes.instances.values().next().unwrap();
        assert_eq!(
            (state.incarnation, state.parent, state.created_at),
            (None, None, None)
        );
    }

    #[test]
    fn law_3_what_cannot_be_read_is_named_and_plain_streams_are_not_ours() {
        let mut changes = Changes::default();
        for (bad, reason) in [
            ("not json".to_owned(), "envelope"),
            (event(FILM, 1, "InstanceMoved", "{}"), "not known"),
            (
                event(FILM, 1, "InstanceCreated", r#"{"data":{}}"#),
                "class_incarnation",
            ),
            (
                event(FILM, 1, "InstanceUpdated", r#"{"data":[]}"#),
                "no JSON object",
            ),
            (event(FILM, 1, "ClassDeleted", "{}"), "in stream"),
            (
                event(("class", "films"), 1, "ClassDeleted", "{}"),
                "in stream",
            ),
            (
                life()[2].replace(r#""schemaversion":1"#, r#""schemaversion":2"#),
                "schema version 2",
            ),
        ] {
            let error = changes.take(bad.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error} / {reason}");
        }
        let plain = event(("order", "1"), 1, "InstanceCreated", "7");
        changes.take(plain.as_bytes()).unwrap();
        assert!(changes.is_empty());
    }
}
