//! The bytes of a segment: batches of records.
//!
//! ```text
//! segment  header (32 bytes), then batches
//! header   "omsseg\x01\n", number u32, reserved u32, first batch u64, reserved u32, crc u32 of the 28 before
//! batch    "OMSB", crc u32 of the rest of this header, sequence u64, payload length u32, records u32
//! record   head length u32, crc u32 of the head, head (postcard of [`Head`]), body
//! ```
//!
//! All numbers are little endian. A batch is what one `fdatasync` made durable, so it is valid or
//! invalid as a whole; sequence numbers count batches over all segments without gaps. The CRC of a
//! body is in its head, so that a body can be verified whenever it is read.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// First bytes of a segment; the seventh is the format version.
const SEGMENT_MAGIC: [u8; 8] = *b"omsseg\x01\n";

/// First bytes of a batch.
pub const BATCH_MAGIC: [u8; 4] = *b"OMSB";

/// Bytes of a segment's header.
pub const SEGMENT_HEADER: usize = 32;

/// Bytes of a batch's header.
pub const BATCH_HEADER: usize = 24;

/// Bytes before a record's head: its length and CRC.
const RECORD_PREFIX: usize = 8;

/// The content of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head<'a> {
    /// An object was created or replaced; its body follows.
    #[serde(borrow)]
    Put(PutHead<'a>),
    /// An object was removed.
    Delete {
        /// Its bucket.
        bucket: &'a str,
        /// Its key.
        key: &'a str,
    },
    /// A bucket was created.
    CreateBucket {
        /// Its name.
        bucket: &'a str,
        /// Time of creation, in milliseconds since 1970.
        created_ms: i64,
    },
    /// Compaction has emptied a segment, whose file may be missing.
    SegmentRemoved {
        /// Its number.
        segment: u32,
    },
}

/// The metadata of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutHead<'a> {
    /// Its bucket.
    pub bucket: &'a str,
    /// Its key.
    pub key: &'a str,
    /// MD5 of the body.
    pub etag: [u8; 16],
    /// When it was put, in milliseconds since 1970.
    pub modified_ms: i64,
    /// Bytes of the body.
    pub body_len: u32,
    /// CRC-32 of the body.
    pub body_crc: u32,
    /// `postcard` of the [`Attributes`](super::attributes::Attributes).
    pub attributes: &'a [u8],
}

/// A record to be written. The body stays in the pieces in which it arrived.
#[derive(Debug)]
pub struct Record {
    /// Prefix and head.
    pub frame: Vec<u8>,
    /// The body.
    pub body: Vec<Bytes>,
    /// Bytes of the body.
    pub body_len: u32,
}

impl Record {
    /// Encodes `head`; `body` must be the one that it describes.
    pub fn new(head: &Head<'_>, body: Vec<Bytes>) -> Result<Self, postcard::Error> {
        let frame = postcard::to_extend(head, vec![0; RECORD_PREFIX])?;
        let body_len = match head {
            Head::Put(put) => put.body_len,
            _ => 0,
        };
        Ok(Self::framed(frame, body, body_len))
    }

    /// A record that was read from a segment, to be written again.
    pub fn copied(head: &[u8], body: Bytes) -> Self {
        let mut frame = Vec::with_capacity(RECORD_PREFIX + head.len());
        frame.extend_from_slice(&[0; RECORD_PREFIX]);
        frame.extend_from_slice(head);
        let body_len = body.len() as u32;
        Self::framed(frame, vec![body], body_len)
    }

    fn framed(mut frame: Vec<u8>, body: Vec<Bytes>, body_len: u32) -> Self {
        let (prefix, head) = frame.split_at_mut(RECORD_PREFIX);
        prefix[..4].copy_from_slice(&(head.len() as u32).to_le_bytes());
        prefix[4..].copy_from_slice(&crc32fast::hash(head).to_le_bytes());
        Self {
            frame,
            body,
            body_len,
        }
    }

    /// Bytes of the record in the segment.
    pub fn size(&self) -> usize {
        self.frame.len() + self.body_len as usize
    }
}

/// A record that was read from a segment.
#[derive(Debug)]
pub struct Found<'a> {
    /// Byte offset of the record in its segment.
    pub offset: u64,
    /// Bytes of prefix and head.
    pub frame_len: u32,
    /// The head.
    pub head: Head<'a>,
    /// The head's bytes.
    pub head_bytes: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Encodes the header of segment `number`, whose first batch will be `first_batch`.
pub fn segment_header(number: u32, first_batch: u64) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(&SEGMENT_MAGIC);
    header[8..12].copy_from_slice(&number.to_le_bytes());
    header[16..24].copy_from_slice(&first_batch.to_le_bytes());
    let crc = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Parses a segment's header: its number and first batch. `None` if it is incomplete or not a
/// segment's.
pub fn parse_segment_header(bytes: &[u8]) -> Option<(u32, u64)> {
    let header: &[u8; SEGMENT_HEADER] = bytes.first_chunk()?;
    let sound =
        header[..8] == SEGMENT_MAGIC && u32_at(header, 28) == Some(crc32fast::hash(&header[..28]));
    sound.then_some((u32_at(header, 8)?, u64_at(header, 16)?))
}

/// The header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Sequence number of the batch.
    pub sequence: u64,
    /// Bytes of its records.
    pub payload_len: u32,
    /// Number of its records.
    pub records: u32,
}

impl BatchHeader {
    /// The encoded header.
    pub fn encode(&self) -> [u8; BATCH_HEADER] {
        let mut header = [0; BATCH_HEADER];
        header[..4].copy_from_slice(&BATCH_MAGIC);
        header[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        header[16..20].copy_from_slice(&self.payload_len.to_le_bytes());
        header[20..].copy_from_slice(&self.records.to_le_bytes());
        let crc = crc32fast::hash(&header[8..]);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Parses a header; `None` if it is invalid.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; BATCH_HEADER] = bytes.first_chunk()?;
        let sound =
            header[..4] == BATCH_MAGIC && u32_at(header, 4) == Some(crc32fast::hash(&header[8..]));
        sound.then_some(Self {
            sequence: u64_at(header, 8)?,
            payload_len: u32_at(header, 16)?,
            records: u32_at(header, 20)?,
        })
    }
}

/// Parses the records of a batch whose payload is at `offset` of its segment. `None` if any of them
/// is damaged.
pub fn parse_payload(payload: &[u8], records: u32, offset: u64) -> Option<Vec<Found<'_>>> {
    let mut found = Vec::with_capacity((records as usize).min(payload.len() / RECORD_PREFIX));
    let mut at = 0;
    for _ in 0..records {
        let head_len = u32_at(payload, at)? as usize;
        let head_crc = u32_at(payload, at + 4)?;
        let head_at = at + RECORD_PREFIX;
        let head_bytes = payload.get(head_at..head_at.checked_add(head_len)?)?;
        let head = parse_head(head_bytes, head_crc)?;
        let body_at = head_at + head_len;
        let mut body: &[u8] = &[];
        if let Head::Put(put) = &head {
            body = payload.get(body_at..body_at.checked_add(put.body_len as usize)?)?;
            if crc32fast::hash(body) != put.body_crc {
                return None;
            }
        }
        found.push(Found {
            offset: offset + at as u64,
            frame_len: (RECORD_PREFIX + head_len) as u32,
            head,
            head_bytes,
            body,
        });
        at = body_at + body.len();
    }
    (at == payload.len()).then_some(found)
}

fn parse_head(head: &[u8], crc: u32) -> Option<Head<'_>> {
    if crc32fast::hash(head) != crc {
        return None;
    }
    postcard::from_bytes(head).ok()
}

/// Parses prefix and head of one record. `None` if they are damaged.
pub fn parse_frame(frame: &[u8]) -> Option<Head<'_>> {
    let head = frame.get(RECORD_PREFIX..)?;
    if u32_at(frame, 0)? as usize != head.len() {
        return None;
    }
    parse_head(head, u32_at(frame, 4)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_back_and_any_flipped_byte_is_noticed() {
        let body = Bytes::from_static(b"0123456789");
        let put = Head::Put(PutHead {
            bucket: "b",
            key: "k",
            etag: [7; 16],
            modified_ms: -5,
            body_len: 10,
            body_crc: crc32fast::hash(&body),
            attributes: &[1, 2],
        });
        let delete = Head::Delete {
            bucket: "b",
            key: "gone",
        };
        let records = [
            Record::new(&put, vec![body.slice(..3), body.slice(3..)]).unwrap(),
            Record::new(&delete, vec![]).unwrap(),
        ];
        let mut payload = Vec::new();
        for record in &records {
            payload.extend_from_slice(&record.frame);
            record
                .body
                .iter()
                .for_each(|b| payload.extend_from_slice(b));
        }
        let found = parse_payload(&payload, 2, 100).unwrap();
        assert_eq!(
            (&found[0].head, found[0].body, found[0].offset),
            (&put, &body[..], 100)
        );
        assert_eq!(found[1].head, delete);
        assert_eq!(found[1].offset, 100 + records[0].size() as u64);
        let copied = Record::copied(found[0].head_bytes, body.clone());
        assert_eq!(copied.frame, records[0].frame);
        for i in 0..payload.len() {
            let mut damaged = payload.clone();
            damaged[i] ^= 1;
            assert!(parse_payload(&damaged, 2, 100).is_none(), "byte {i}");
        }
        let header = BatchHeader {
            sequence: 9,
            payload_len: payload.len() as u32,
            records: 2,
        };
        let bytes = header.encode();
        assert_eq!(BatchHeader::parse(&bytes), Some(header));
        for i in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[i] ^= 1;
            assert_eq!(BatchHeader::parse(&damaged), None, "byte {i}");
        }
        assert_eq!(parse_segment_header(&segment_header(3, 77)), Some((3, 77)));
    }
}
