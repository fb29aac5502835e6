//! What a store holds at an offset, valid or not.

use std::sync::Arc;

use bytes::Bytes;

use crate::domain::event::Envelope;
use crate::domain::ids::{StreamKey, StreamName, Version};
use crate::log::object::{CommitKind, CommitObject, ObjectHash};

/// Bytes that are no commit object, or not the one of their offset.
#[derive(Debug, Clone)]
pub struct Damage {
    /// The bytes as stored.
    pub bytes: Bytes,
    /// What is wrong with them.
    pub why: String,
}

/// What a store holds at an offset.
#[derive(Debug, Clone)]
pub enum Found {
    /// Nothing.
    Absent,
    /// A readable commit object.
    Object(Arc<CommitObject>),
    /// Something unreadable.
    Damaged(Damage),
}

impl Found {
    /// The object, if it is readable.
    pub fn object(&self) -> Option<&CommitObject> {
        match self {
            Found::Object(object) => Some(object),
            Found::Absent | Found::Damaged(_) => None,
        }
    }

    /// The bytes, readable or not.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Found::Absent => None,
            Found::Object(object) => Some(&object.bytes),
            Found::Damaged(damage) => Some(&damage.bytes),
        }
    }

    /// SHA-256 of the bytes; `None` if absent.
    pub fn hash(&self) -> Option<ObjectHash> {
        self.bytes().map(|bytes| ObjectHash::of(bytes))
    }

    /// Whether both hold the same readable object.
    pub fn agrees_with(&self, other: &Found) -> bool {
        match (self.object(), other.object()) {
            (Some(a), Some(b)) => a.bytes == b.bytes,
            _ => false,
        }
    }

    /// The bytes of the events, as far as lines can be distinguished.
    fn events(&self) -> Vec<Bytes> {
        match self {
            Found::Absent => Vec::new(),
            Found::Object(object) if object.header.kind == CommitKind::Control => Vec::new(),
            Found::Object(object) => (0..object.lines.len()).map(|i| object.line(i)).collect(),
            Found::Damaged(damage) => {
                let mut lines = Vec::new();
                let mut start = 0;
                for end in memchr::memchr_iter(b'\n', &damage.bytes) {
                    lines.push(damage.bytes.slice(start..end));
                    start = end + 1;
                }
                if start < damage.bytes.len() {
                    lines.push(damage.bytes.slice(start..));
                }
                // The first line is the header, or what remains of it.
                lines.into_iter().skip(1).collect()
            }
        }
    }
}

/// Identifies an event by stream and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName {
    /// The stream.
    pub stream: StreamName,
    /// Its version in the stream.
    pub version: Version,
}

impl EventName {
    fn of(line: &[u8]) -> Option<Self> {
        let event = Envelope::parse(line).ok()?;
        Some(Self {
            stream: event.stream(),
            version: event.version,
        })
    }
}

/// The difference between the events of two objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventDifference {
    /// Index of the first event that differs.
    pub index: Option<u32>,
    /// Stream and version of that event, if it is readable in either store.
    pub first: Option<EventName>,
    /// SHA-256 of that event in S3.
    pub s3: Option<ObjectHash>,
    /// SHA-256 of that event in PostgreSQL.
    pub postgres: Option<ObjectHash>,
    /// Number of events that differ.
    pub events: u64,
    /// The streams they belong to.
    pub streams: Vec<StreamKey>,
}

/// Compares event by event what the two stores hold at an offset.
pub fn drill_down(s3: &Found, postgres: &Found) -> EventDifference {
    let (a, b) = (s3.events(), postgres.events());
    let mut found = EventDifference::default();
    for i in 0..a.len().max(b.len()) {
        let (left, right) = (a.get(i), b.get(i));
        if left == right {
            continue;
        }
        found.events += 1;
        let names = [left, right].map(|line| line.and_then(|l| EventName::of(l)));
        for name in names.iter().flatten() {
            let key = name.stream.key();
            if !found.streams.contains(&key) {
                found.streams.push(key);
            }
        }
        if found.index.is_none() {
            let [left_name, right_name] = names;
            found.index = Some(i as u32);
            found.first = left_name.or(right_name);
            found.s3 = left.map(|l| ObjectHash::of(l));
            found.postgres = right.map(|l| ObjectHash::of(l));
        }
    }
    found
}
