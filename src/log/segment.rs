//! A segment: a checkpoint of a stretch of a partition's index, so that a start need not read the
//! commit objects it covers. Derived and disposable; whoever finds one damaged ignores it.
//!
//! Bytes: `postcard` of [`Segment`], the log's id (16 bytes; none in those of the build before, which
//! reads over it), then the CRC-32 of both (4 bytes, little endian).

use serde::{Deserialize, Serialize};

use uuid::Uuid;

use super::identity::{LogId, Mark};
use super::index::CommitSummary;
use super::object::ObjectHash;
use crate::domain::ids::{Offset, PartitionId};
use crate::migration::lead::Leadership;

/// Format of segments written by this program; others are ignored.
const FORMAT: u32 = 2;

/// The index entries of the commits `from..to` and the state of the partition at `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    format: u32,
    /// The partition.
    pub partition: PartitionId,
    /// First commit covered.
    pub from: Offset,
    /// First commit not covered.
    pub to: Offset,
    prev: [u8; 32],
    /// The control records of the log up to `to`, each with its offset: few, since each is a
    /// hand-off.
    pub controls: Vec<(Offset, Leadership)>,
    /// One for each commit, in order.
    pub commits: Vec<CommitSummary>,
    /// The log it is of, if it says so.
    #[serde(skip)]
    pub log: Option<LogId>,
}

impl Segment {
    /// A segment of `commits`, which begin at `from`; `prev` is the hash of the last of them.
    pub fn new(
        partition: PartitionId,
        from: Offset,
        prev: ObjectHash,
        controls: Vec<(Offset, Leadership)>,
        commits: Vec<CommitSummary>,
    ) -> Self {
        let to = from + commits.len() as u64;
        Self {
            format: FORMAT,
            partition,
            from,
            to,
            prev: prev.0,
            controls,
            commits,
            log: None,
        }
    }

    /// The same, of this log.
    #[must_use]
    pub fn of_log(self, log: Option<LogId>) -> Self {
        Self { log, ..self }
    }

    /// Where it ends and the commit it stands on.
    pub fn mark(&self) -> Mark {
        Mark::on(self.log, self.to, self.prev())
    }

    /// Hash of the last commit covered.
    pub fn prev(&self) -> ObjectHash {
        ObjectHash(self.prev)
    }

    /// The segment as stored.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let mut bytes = postcard::to_allocvec(self)?;
        if let Some(log) = self.log {
            bytes.extend_from_slice(log.0.as_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// Reads a segment; `None` when the bytes are damaged or of another format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (segment, rest) = postcard::take_from_bytes::<Self>(body).ok()?;
        let log = match rest {
            [] => None,
            id => Some(LogId(Uuid::from_slice(id).ok()?)),
        };
        let segment = segment.of_log(log);
        // A checksum only tells that the bytes are as they were written, not that they make sense.
        let to = (segment.from).checked_add(segment.commits.len() as u64);
        let whole = segment.format == FORMAT
            && to == Some(segment.to)
            && (segment.commits.iter())
                .zip(segment.from..segment.to)
                .all(|(c, offset)| c.offset == offset);
        whole.then_some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_segments_are_ignored() {
        let commit = |offset| CommitSummary {
            offset,
            first_start: 9,
            events: vec![],
            commands: vec![],
        };
        let segment = Segment::new(
            PartitionId(1),
            5,
            ObjectHash([7; 32]),
            vec![(0, Leadership::GENESIS_S3)],
            vec![commit(5), commit(6)],
        );
        // As the build before wrote them.
        let bytes = segment.encode().unwrap();
        assert_eq!(Segment::decode(&bytes), Some(segment.clone()));
        let segment = segment.of_log(Some(LogId(Uuid::from_u128(9))));
        let bytes = segment.encode().unwrap();
        assert_eq!(Segment::decode(&bytes), Some(segment));
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 1;
            assert_eq!(Segment::decode(&damaged), None, "byte {i}");
        }
        assert_eq!(Segment::decode(&bytes[..3]), None);
    }
}
