//! Identifiers: streams, versions, commands, partitions, positions.
//!
//! Every id is a newtype that can only be built from valid text, so that code that holds one need
//! not check it again. A stream id is made of one or more ids, each percent-encoded, joined by `/`,
//! which no encoded id contains.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use stream_name::{StreamKey, StreamName};

mod stream_name;

/// Longest id component in bytes: keeps S3 keys (limit 1,024 bytes) and index entries bounded.
pub const MAX_COMPONENT_BYTES: usize = 200;

/// Stream types owned by the ontology; programs with their own domain may not append to them.
pub const RESERVED_STREAM_TYPES: [&str; 3] = ["database", "class", "instance"];

/// An id that breaks its rule; the message says which one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {rule}")]
pub struct InvalidId {
    /// What the id should identify, for example `class id`.
    pub what: &'static str,
    /// The broken rule, as the end of a sentence.
    pub rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $example:literal, $valid:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, example = $example))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Parses a ", $what, "; the error names the rule that was broken.")]
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId { what: $what, rule: $rule })
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }
    };
}

text_id!(
    /// A database: `[a-z][a-z0-9_-]{2,49}`.
    DatabaseName,
    "database name",
    "films",
    |t| (3..=50).contains(&t.len())
        && t.as_bytes()[0].is_ascii_lowercase()
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-'),
    "must match [a-z][a-z0-9_-]{2,49}"
);

text_id!(
    /// An ontology class: `[A-Za-z][A-Za-z0-9_:-]{0,99}`.
    ClassId,
    "class id",
    "Person",
    |t| (1..=100).contains(&t.len())
        && t.as_bytes()[0].is_ascii_alphabetic()
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-')),
    "must match [A-Za-z][A-Za-z0-9_:-]{0,99}"
);

text_id!(
    /// An instance: 1 to 200 bytes, not `.` or `..`, without control characters or `/`.
    InstanceId,
    "instance id",
    "metropolis-1927",
    is_component,
    "must be 1 to 200 bytes without control characters or '/', and not '.' or '..'"
);

text_id!(
    /// The type of a stream: `[a-z][a-z0-9_-]{0,49}`.
    StreamType,
    "stream type",
    "order",
    |t| (1..=50).contains(&t.len())
        && t.as_bytes()[0].is_ascii_lowercase()
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-'),
    "must match [a-z][a-z0-9_-]{0,49}"
);

text_id!(
    /// The type of an event: `[A-Za-z][A-Za-z0-9_.:-]{0,99}`.
    EventType,
    "event type",
    "OrderPlaced",
    |t| (1..=100).contains(&t.len())
        && t.as_bytes()[0].is_ascii_alphabetic()
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-')),
    "must match [A-Za-z][A-Za-z0-9_.:-]{0,99}"
);

pub(super) fn is_component(text: &str) -> bool {
    (1..=MAX_COMPONENT_BYTES).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.chars().any(|c| c.is_control() || c == '/')
}

/// A shard of the log; a stream lives in exactly one, by hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct PartitionId(pub u16);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An event's number in its stream, from 1; as the version of a stream, the number of its last
/// event, 0 if it has none.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// The version of a stream that has no events.
    pub const NONE: Version = Version(0);

    /// The version after so many more events.
    pub fn plus(self, events: usize) -> Version {
        Version(self.0 + events as u64)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A commit object's number in its partition, from 0.
pub type Offset = u64;

/// The number of the current hand-off; each hand-off increments it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The position of an event in the log: partition, commit object, index in the object. As text
/// `partition/offset/index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: PartitionId,
    /// Number of the commit object in its partition.
    pub offset: Offset,
    /// Index among the object's events, from 0.
    pub index: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.partition, self.offset, self.index)
    }
}

impl FromStr for Position {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId {
            what: "position",
            rule: "must be partition/offset/index",
        };
        let mut parts = text.split('/');
        let (Some(p), Some(o), Some(i), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid);
        };
        match (p.parse(), o.parse(), i.parse()) {
            (Ok(p), Ok(offset), Ok(index)) => Ok(Self {
                partition: PartitionId(p),
                offset,
                index,
            }),
            _ => Err(invalid),
        }
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    /// A command; a retry of it has the same id.
    CommandId
);
uuid_id!(
    /// An event, UUIDv7.
    EventId
);
uuid_id!(
    /// An incarnation of a log writer (an EventStoreActor of one process).
    WriterId
);

/// UUIDv5 name space of command ids that are derived from a client's idempotency key.
const IDEMPOTENCY_NAMESPACE: Uuid = Uuid::from_u128(0x6f6d_735f_6964_656d_706f_7465_6e63_7931);

/// UUIDv5 name space of the command ids of a batch's items. A separate one, so that no key of a
/// single command can give the id of an item.
const ITEM_NAMESPACE: Uuid = Uuid::from_u128(0x6f6d_735f_6261_7463_685f_6974_656d_7631);

impl CommandId {
    /// The command id for a client's idempotency key: the same principal and key always give the
    /// same id, in every process.
    pub fn from_idempotency_key(principal: &str, key: &str) -> Self {
        let name = format!("{}:{principal}:{key}", principal.len());
        Self(Uuid::new_v5(&IDEMPOTENCY_NAMESPACE, name.as_bytes()))
    }

    /// The command id of the item at index `place` of a batch with an idempotency key: differs from
    /// that of every other item and every single command.
    pub fn for_item(principal: &str, key: &str, place: usize) -> Self {
        let name = format!("{}:{principal}:{place}:{key}", principal.len());
        Self(Uuid::new_v5(&ITEM_NAMESPACE, name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_of_a_single_command_stands_for_an_item_of_a_batch() {
        let item = CommandId::for_item("ann", "k", 0);
        assert_eq!(item, CommandId::for_item("ann", "k", 0));
        let others = [
            CommandId::from_idempotency_key("ann", "k"),
            CommandId::from_idempotency_key("ann", "k#0"),
            CommandId::from_idempotency_key("ann", "0:k"),
            CommandId::for_item("ann", "k", 1),
            CommandId::for_item("bob", "k", 0),
            CommandId::for_item("ann:0", "k", 0),
            CommandId::for_item("ann", "0:k", 0),
        ];
        let distinct: std::collections::HashSet<_> = others.iter().collect();
        assert_eq!(distinct.len(), others.len());
        assert!(!others.contains(&item));
        // Golden: after a change, items recorded before would not be recognised as repeated.
        assert_eq!(item.to_string(), "d1bd8af0-c426-5013-8dfe-fce8a7f9ce4e");
    }

    #[test]
    fn bad_ids_are_refused() {
        for bad in ["", "ab", "Abc", "1abc", "a b", &"a".repeat(51)] {
            assert!(DatabaseName::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "1x", "a/b", "a b"] {
            assert!(ClassId::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "a\nb", &"x".repeat(201)] {
            assert!(InstanceId::new(bad).is_err(), "{bad:?}");
        }
        assert!(InstanceId::new("Amélie (2001)").is_ok());
    }

    #[test]
    fn positions_read_back_as_written() {
        let p: Position = "3/1045/2".parse().unwrap();
        assert_eq!(p.to_string(), "3/1045/2");
        for bad in ["", "1/2", "1/2/3/4", "-1/2/3", "a/b/c"] {
            assert!(bad.parse::<Position>().is_err());
        }
    }
}
