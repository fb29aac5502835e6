//! The name of a stream, and the key under which indexes know it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::{ClassId, DatabaseName, InstanceId, InvalidId, PartitionId, StreamType, is_component};

/// Everything outside `A-Za-z0-9-_.~:@` is encoded in a component of a stream id. `.` and `..`
/// as whole components are refused by [`StreamName::new`], since S3 clients normalise them.
const COMPONENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b'(')
    .add(b')')
    .add(b'*')
    .add(b'+')
    .add(b',')
    .add(b'/')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'!')
    .add(b'$');

/// A stream: one aggregate's events, named `type/id`. The id of an ontology stream is made of
/// percent-encoded components joined by `/`; a plain stream's id is one such component.
#[derive(Clone)]
pub struct StreamName {
    name: Arc<str>,
    type_bytes: u16,
    /// Made when it is first asked for; clones made after that have it.
    key: OnceLock<StreamKey>,
}

impl StreamName {
    /// Names a stream of `stream_type` by id components; each is checked and encoded.
    pub fn new(stream_type: &StreamType, components: &[&str]) -> Result<Self, InvalidId> {
        if components.is_empty() || !components.iter().all(|c| is_component(c)) {
            return Err(InvalidId {
                what: "stream id",
                rule: "must be 1 to 200 bytes without control characters or '/', and not '.' or '..'",
            });
        }
        let mut name = String::with_capacity(64);
        name.push_str(stream_type.as_str());
        for component in components {
            name.push('/');
            name.extend(utf8_percent_encode(component, COMPONENT));
        }
        Ok(Self {
            name: name.into(),
            type_bytes: stream_type.as_str().len() as u16,
            key: OnceLock::new(),
        })
    }

    /// Rebuilds a stream from an envelope's `streamtype` and `streamid`, as stored.
    pub fn from_stored(stream_type: &str, stream_id: &str) -> Self {
        let mut name = String::with_capacity(stream_type.len() + 1 + stream_id.len());
        name.push_str(stream_type);
        name.push('/');
        name.push_str(stream_id);
        Self {
            name: name.into(),
            type_bytes: stream_type.len() as u16,
            key: OnceLock::new(),
        }
    }

    /// The stream of a database.
    pub fn database(db: &DatabaseName) -> Self {
        Self::of("database", &[db.as_str()])
    }

    /// The stream of an ontology class.
    pub fn class(db: &DatabaseName, class: &ClassId) -> Self {
        Self::of("class", &[db.as_str(), class.as_str()])
    }

    /// The stream of an instance.
    pub fn instance(db: &DatabaseName, class: &ClassId, id: &InstanceId) -> Self {
        Self::of("instance", &[db.as_str(), class.as_str(), id.as_str()])
    }

    fn of(stream_type: &str, components: &[&str]) -> Self {
        let mut id = String::with_capacity(64);
        for (i, component) in components.iter().enumerate() {
            if i > 0 {
                id.push('/');
            }
            id.extend(utf8_percent_encode(component, COMPONENT));
        }
        Self::from_stored(stream_type, &id)
    }

    /// The whole name, `type/id`.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The type part.
    pub fn stream_type(&self) -> &str {
        &self.name[..usize::from(self.type_bytes)]
    }

    /// The id part: encoded components joined by `/`.
    pub fn id(&self) -> &str {
        &self.name[usize::from(self.type_bytes) + 1..]
    }

    /// The id's components, decoded.
    pub fn components(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.id()
            .split('/')
            .map(|c| percent_decode_str(c).decode_utf8_lossy())
    }

    /// The key under which indexes know this stream.
    pub fn key(&self) -> StreamKey {
        *self.key.get_or_init(|| StreamKey::of(&self.name))
    }
}

// The name says which stream it is; its key follows from it.
impl PartialEq for StreamName {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for StreamName {}

impl PartialOrd for StreamName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StreamName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

impl Hash for StreamName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamName({:?})", self.name)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// First 128 bits of the SHA-256 of a stream's name. Stands for the stream in indexes: two streams
/// would have to collide on 128 bits of a cryptographic hash to be confused, and a read would
/// still notice, since every event carries its stream's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub u128);

impl StreamKey {
    fn of(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(u128::from_be_bytes(bytes))
    }

    /// The partition this stream lives in, of `partitions` (at least 1). Part of the storage
    /// format: it must never change for an existing store.
    pub fn partition(self, partitions: u16) -> PartitionId {
        PartitionId(((self.0 >> 64) as u64 % u64::from(partitions.max(1))) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_components_and_never_joined_ambiguously() {
        let t = StreamType::new("order").unwrap();
        let a = StreamName::new(&t, &["a", "b"]).unwrap();
        assert_eq!(a.as_str(), "order/a/b");
        assert!(StreamName::new(&t, &["a/b"]).is_err());
        let odd = StreamName::new(&t, &["50% off & ünïcode"]).unwrap();
        assert_eq!(odd.components().next().unwrap(), "50% off & ünïcode");
        assert!(odd.as_str().is_ascii());
        assert!(StreamName::new(&t, &[".."]).is_err());
        assert_eq!(StreamName::from_stored(odd.stream_type(), odd.id()), odd);
    }

    #[test]
    fn partition_of_a_stream_is_part_of_the_format() {
        let t = StreamType::new("order").unwrap();
        let name = StreamName::new(&t, &["1"]).unwrap();
        // Golden: changing this breaks every existing store.
        assert_eq!(name.key().partition(4), PartitionId(2));
    }
}
