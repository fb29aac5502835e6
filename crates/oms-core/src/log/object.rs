//! A commit object: newline-delimited JSON that `mc cat … | jq` can read. Line 0 is the header,
//! every further line one event (or, in a control object, one control record).

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::lead::{Lead, Leadership};
use crate::domain::event::{EncodedEvents, Recorded};
use crate::domain::ids::{Epoch, Offset, PartitionId, Position, WriterId};

/// Format version of commit objects written by this program.
pub const FORMAT: u32 = 1;

/// SHA-256 of an object's bytes; in JSON as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectHash(pub [u8; 32]);

impl ObjectHash {
    /// The `prev` of the first object of a partition.
    pub const NONE: ObjectHash = ObjectHash([0; 32]);

    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ObjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ObjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ObjectHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(text.as_ref(), &mut hash).map_err(serde::de::Error::custom)?;
        Ok(Self(hash))
    }
}

/// The content of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitKind {
    /// Events of commands.
    Events,
    /// A control record: which store leads from here on.
    Control,
}

/// Line 0 of a commit object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitHeader {
    /// Format version, see [`FORMAT`].
    pub format: u32,
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// Its number in the partition, from 0.
    pub offset: Offset,
    /// The epoch it was committed under.
    pub epoch: Epoch,
    /// The writer that formed it.
    pub writer: WriterId,
    /// The writer's number of this batch: together with `writer` it distinguishes an own earlier
    /// attempt from another writer's object.
    pub batch: u64,
    /// Hash of the previous object.
    pub prev: ObjectHash,
    /// When it was formed.
    pub at: Timestamp,
    /// Number of lines after the header.
    pub count: u32,
    /// What these lines are.
    pub kind: CommitKind,
}

/// The line of a control object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ControlRecord {
    /// The store that leads from here on.
    pub lead: Lead,
    /// The epoch that begins here.
    pub epoch: Epoch,
}

impl From<ControlRecord> for Leadership {
    fn from(record: ControlRecord) -> Self {
        Self {
            lead: record.lead,
            epoch: record.epoch,
        }
    }
}

/// Bytes that are no valid commit object, or not the expected one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("commit object is damaged: {0}")]
pub struct CorruptObject(pub String);

/// A commit object with the ranges of its lines. Clones share what is large.
#[derive(Debug, Clone)]
pub struct CommitObject {
    /// The header, line 0.
    pub header: CommitHeader,
    /// All bytes of the object, as stored.
    pub bytes: Bytes,
    /// Each further line's bytes, without its end.
    pub lines: Arc<[Range<u32>]>,
    /// Made when it is first asked for.
    hash: OnceLock<ObjectHash>,
}

impl CommitObject {
    /// Builds an object from encoded events, in order.
    pub fn build(header: CommitHeader, parts: &[&EncodedEvents]) -> Self {
        let body: usize = parts.iter().map(|p| p.bytes.len()).sum();
        let mut bytes = Vec::with_capacity(body + 512);
        // Cannot fail: plain data serialised into memory.
        let _ = serde_json::to_writer(&mut bytes, &header);
        bytes.push(b'\n');
        let mut lines = Vec::with_capacity(header.count as usize);
        for part in parts {
            let base = bytes.len() as u32;
            lines.extend(part.spans.iter().map(|s| base + s.start..base + s.end));
            bytes.extend_from_slice(&part.bytes);
        }
        Self {
            header,
            bytes: bytes.into(),
            lines: lines.into(),
            hash: OnceLock::new(),
        }
    }

    /// Builds a control object.
    pub fn control(header: CommitHeader, record: ControlRecord) -> Self {
        // Cannot fail, as above.
        let mut line = serde_json::to_vec(&record).unwrap_or_default();
        let end = line.len() as u32;
        line.push(b'\n');
        let part = EncodedEvents {
            bytes: line.into(),
            spans: std::iter::once(0..end).collect(),
            recorded: Recorded::default(),
        };
        Self::build(header, &[&part])
    }

    /// Parses an object and checks that it is complete.
    pub fn parse(bytes: Bytes) -> Result<Self, CorruptObject> {
        let corrupt = |what: &str| CorruptObject(what.to_owned());
        if bytes.last() != Some(&b'\n') {
            return Err(corrupt("cut short: no line end at its end"));
        }
        if u32::try_from(bytes.len()).is_err() {
            return Err(corrupt("larger than 4 GiB"));
        }
        let mut ends = memchr::memchr_iter(b'\n', &bytes);
        let header_end = ends.next().ok_or_else(|| corrupt("empty"))?;
        let header: CommitHeader = serde_json::from_slice(&bytes[..header_end])
            .map_err(|e| CorruptObject(format!("header: {e}")))?;
        if header.format != FORMAT {
            return Err(CorruptObject(format!(
                "format {} is not known",
                header.format
            )));
        }
        let mut lines = Vec::with_capacity((header.count as usize).min(bytes.len()));
        let mut start = header_end + 1;
        for end in ends {
            lines.push(start as u32..end as u32);
            start = end + 1;
        }
        if lines.len() != header.count as usize {
            return Err(CorruptObject(format!(
                "header says {} lines, found {}",
                header.count,
                lines.len()
            )));
        }
        Ok(Self {
            header,
            bytes,
            lines: lines.into(),
            hash: OnceLock::new(),
        })
    }

    /// SHA-256 of the object, the `prev` of its successor. Computed at the first call, up to some
    /// milliseconds for a large object: not the first time under a lock.
    pub fn hash(&self) -> ObjectHash {
        *self.hash.get_or_init(|| ObjectHash::of(&self.bytes))
    }

    /// The bytes of line `i`, from 0, without the header.
    pub fn line(&self, i: usize) -> Bytes {
        let line = &self.lines[i];
        self.bytes.slice(line.start as usize..line.end as usize)
    }

    /// The control record of a control object.
    pub fn control_record(&self) -> Result<Option<ControlRecord>, CorruptObject> {
        if self.header.kind != CommitKind::Control {
            return Ok(None);
        }
        let first = self
            .lines
            .first()
            .ok_or_else(|| CorruptObject("control without line".into()))?;
        serde_json::from_slice(&self.bytes[first.start as usize..first.end as usize])
            .map(Some)
            .map_err(|e| CorruptObject(format!("control record: {e}")))
    }

    /// Number of events; 0 for a control object.
    pub fn event_count(&self) -> usize {
        match self.header.kind {
            CommitKind::Events => self.lines.len(),
            CommitKind::Control => 0,
        }
    }

    /// The position of line `i`.
    pub fn position(&self, i: usize) -> Position {
        Position {
            partition: self.header.partition,
            offset: self.header.offset,
            index: i as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn header(count: u32, kind: CommitKind) -> CommitHeader {
        CommitHeader {
            format: FORMAT,
            partition: PartitionId(1),
            offset: 7,
            epoch: Epoch(2),
            writer: WriterId(Uuid::from_u128(1)),
            batch: 3,
            prev: ObjectHash::NONE,
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            count,
            kind,
        }
    }

    #[test]
    fn objects_read_back_and_damage_is_named() {
        let part = EncodedEvents {
            bytes: Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n"),
            spans: vec![0..7, 8..15],
            recorded: Recorded::default(),
        };
        let object = CommitObject::build(header(2, CommitKind::Events), &[&part]);
        let again = CommitObject::parse(object.bytes.clone()).unwrap();
        assert_eq!(again.header, object.header);
        assert_eq!(again.lines, object.lines);
        assert_eq!(&again.line(1)[..], b"{\"b\":2}");
        for cut in 0..object.bytes.len() {
            assert!(
                CommitObject::parse(object.bytes.slice(..cut)).is_err(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn control_objects_carry_lead_and_epoch() {
        let record = ControlRecord {
            lead: Lead::Postgres,
            epoch: Epoch(3),
        };
        let object = CommitObject::control(header(1, CommitKind::Control), record);
        let again = CommitObject::parse(object.bytes).unwrap();
        assert_eq!(again.control_record().unwrap(), Some(record));
        assert_eq!(again.event_count(), 0);
    }
}
