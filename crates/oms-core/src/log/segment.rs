//! A segment: a checkpoint of a part of a partition's index, so that a start need not read the
//! commit objects it covers. Derived and disposable: a damaged one is ignored.
//!
//! Bytes: `postcard` of [`Segment`], then `postcard` of [`Trailer`] (absent in those of older
//! versions, which ignore it), then the CRC-32 of both (4 bytes, little endian).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::identity::{LogId, Mark};
use super::lead::Leadership;
use super::object::ObjectHash;
use super::summary::{CommandOutcome, CommitSummary};
use crate::domain::event::PrincipalTag;
use crate::domain::ids::{Offset, PartitionId};

/// Format version of segments written by this program; others are ignored.
const FORMAT: u32 = 2;

/// Fields added after the format was first released; older versions ignore them.
#[derive(Debug, Serialize, Deserialize)]
struct Trailer {
    /// The log that the segment belongs to.
    log: Option<Uuid>,
    /// Tags of the principals of the commands with keys, in the order of these commands.
    principals: Vec<u32>,
}

/// The index entries of the commits `from..to`, and the state of the partition at `to`.
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
    /// Summary of each commit, in order.
    pub commits: Vec<CommitSummary>,
    /// The log it belongs to, if recorded.
    #[serde(skip)]
    pub log: Option<LogId>,
}

impl Segment {
    /// A segment of `commits`, the first of which is at `from`; `prev` is the hash of the last one.
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

    /// Records the log that it belongs to.
    #[must_use]
    pub fn of_log(self, log: Option<LogId>) -> Self {
        Self { log, ..self }
    }

    /// Its end, as the mark of a copy.
    pub fn mark(&self) -> Mark {
        Mark::on(self.log, self.to, self.prev())
    }

    /// Hash of the last commit covered.
    pub fn prev(&self) -> ObjectHash {
        ObjectHash(self.prev)
    }

    fn keyed(&self) -> impl Iterator<Item = &CommandOutcome> {
        let commands = self.commits.iter().flat_map(|c| &c.commands);
        commands
            .map(|(_, outcome)| outcome)
            .filter(|outcome| outcome.request_hash.is_some())
    }

    /// The segment as stored.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let mut bytes = postcard::to_allocvec(self)?;
        let trailer = Trailer {
            log: self.log.map(|log| log.0),
            principals: self.keyed().map(|outcome| outcome.principal.0).collect(),
        };
        bytes.extend(postcard::to_allocvec(&trailer)?);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// Parses a segment; `None` if the bytes are damaged or of another format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (segment, rest) = postcard::take_from_bytes::<Self>(body).ok()?;
        let mut segment = segment;
        let mut log = None;
        if !rest.is_empty() {
            let trailer: Trailer = postcard::from_bytes(rest).ok()?;
            if trailer.principals.len() != segment.keyed().count() {
                return None;
            }
            let commands = segment.commits.iter_mut().flat_map(|c| &mut c.commands);
            let keyed = commands.filter(|(_, outcome)| outcome.request_hash.is_some());
            for ((_, outcome), tag) in keyed.zip(trailer.principals) {
                outcome.principal = PrincipalTag(tag);
            }
            log = trailer.log.map(LogId);
        }
        let segment = segment.of_log(log);
        // The checksum only proves that the bytes are those written, not that they are consistent.
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
    fn principals_come_along_and_a_checkpoint_of_the_build_before_is_read() {
        let outcome = |request_hash, principal| CommandOutcome {
            stream: crate::log::summary::StreamKeyBytes([1; 16]),
            version: crate::domain::ids::Version(1),
            events: 1,
            offset: 0,
            index: 0,
            request_hash,
            at_ms: 5,
            principal,
        };
        let command = |n| crate::domain::ids::CommandId(uuid::Uuid::from_u128(n));
        let of = |ann, none| {
            let commit = CommitSummary {
                offset: 0,
                first_start: 9,
                events: vec![],
                commands: vec![
                    (command(1), outcome(None, none)),
                    (command(2), outcome(Some(3), ann)),
                ],
            };
            Segment::new(PartitionId(1), 0, ObjectHash([7; 32]), vec![], vec![commit])
        };
        let unknown = PrincipalTag::UNKNOWN;
        let segment = of(PrincipalTag::of("ann"), unknown);
        assert_eq!(Segment::decode(&segment.encode().unwrap()), Some(segment));
        // As it was written before: the same, and nothing behind it.
        let mut old = postcard::to_allocvec(&of(unknown, unknown)).unwrap();
        old.extend(crc32fast::hash(&old).to_le_bytes());
        assert_eq!(Segment::decode(&old), Some(of(unknown, unknown)));
    }

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
