//! One segment file: creates, appends, reads and scans it.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::LogStoreError;
use super::frame::{
    BATCH_HEADER, BATCH_MAGIC, BatchHeader, Found, Record, SEGMENT_HEADER, parse_payload,
    parse_segment_header, segment_header,
};
use crate::private;

/// Slices in one `writev`: the kernel's limit is 1,024.
const SLICES_PER_WRITE: usize = 1024;

/// A segment file that is open for reading.
#[derive(Debug)]
pub struct Segment {
    /// Its number, from 1.
    pub number: u32,
    /// Its file.
    pub path: PathBuf,
    file: File,
}

/// Whether a segment may end in the middle of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The newest segment: its last batch may be incomplete.
    MayBeTorn,
    /// An older one: all of it was durable before the next one was created.
    Whole,
}

/// The result of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// End of the last valid batch.
    pub end: u64,
    /// Sequence number of the next batch.
    pub next_batch: u64,
    /// Bytes after `end`, of a batch that was never acknowledged.
    pub torn_bytes: u64,
}

/// Makes renames, creations and removals in `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<(), LogStoreError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(LogStoreError::io("sync", dir))
}

/// Path of segment `number`.
pub fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}.seg"))
}

/// The number in a segment's file name.
pub fn parse_segment_name(name: &str) -> Option<u32> {
    name.strip_suffix(".seg")?.parse().ok()
}

impl Segment {
    /// Creates an empty segment, durably. Replaces what a failed attempt left: nothing is written
    /// to a segment before this has returned.
    pub fn create(dir: &Path, number: u32, first_batch: u64) -> Result<Self, LogStoreError> {
        let path = segment_path(dir, number);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(LogStoreError::io("remove", &path)(e));
            }
            _ => {}
        }
        let file = private::options()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(LogStoreError::io("create", &path))?;
        (&file)
            .write_all(&segment_header(number, first_batch))
            .and_then(|()| file.sync_all())
            .map_err(LogStoreError::io("write", &path))?;
        sync_dir(dir)?;
        Ok(Self { number, path, file })
    }

    /// Opens an existing segment; also returns its first batch, `None` if its header is incomplete.
    pub fn open(dir: &Path, number: u32) -> Result<(Self, Option<u64>), LogStoreError> {
        let path = segment_path(dir, number);
        let file = private::options()
            .read(true)
            .append(true)
            .open(&path)
            .map_err(LogStoreError::io("open", &path))?;
        private::close_file(&file, &path).map_err(LogStoreError::io("close", &path))?;
        let mut header = Vec::with_capacity(SEGMENT_HEADER);
        (&file)
            .take(SEGMENT_HEADER as u64)
            .read_to_end(&mut header)
            .map_err(LogStoreError::io("read", &path))?;
        let first = parse_segment_header(&header).filter(|(n, _)| *n == number);
        Ok((Self { number, path, file }, first.map(|(_, batch)| batch)))
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> Result<u64, LogStoreError> {
        let metadata = self.file.metadata();
        Ok(metadata
            .map_err(LogStoreError::io("inspect", &self.path))?
            .len())
    }

    /// Reads `len` bytes at `offset`.
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Appends a batch without making it durable; returns its length.
    pub fn append(&self, sequence: u64, records: &[Record]) -> io::Result<u64> {
        let payload: usize = records.iter().map(Record::size).sum();
        let header = BatchHeader {
            sequence,
            payload_len: u32::try_from(payload).map_err(io::Error::other)?,
            records: records.len() as u32,
        }
        .encode();
        let mut slices = Vec::with_capacity(1 + 3 * records.len());
        slices.push(IoSlice::new(&header));
        for record in records {
            slices.push(IoSlice::new(&record.frame));
            slices.extend(record.body.iter().map(|piece| IoSlice::new(piece)));
        }
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let take = rest.len().min(SLICES_PER_WRITE);
            match (&self.file).write_vectored(&rest[..take]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok((BATCH_HEADER + payload) as u64)
    }

    /// Makes everything appended durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Truncates the file, durably.
    pub fn truncate(&self, len: u64) -> Result<(), LogStoreError> {
        self.file
            .set_len(len)
            .and_then(|()| self.file.sync_all())
            .map_err(LogStoreError::io("cut", &self.path))
    }

    /// Reads all batches from `from`, where batch `next_batch` begins, and calls `visit` with every
    /// record.
    ///
    /// An invalid batch is the incomplete end of the log if no valid one follows, because a batch
    /// is written only when the previous one is durable. Otherwise the segment is damaged.
    pub fn scan<E: From<LogStoreError>>(
        &self,
        from: u64,
        mut next_batch: u64,
        tail: Tail,
        mut visit: impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<Scanned, E> {
        let len = self.file_len()?;
        let read = LogStoreError::io("read", &self.path);
        let mut at = from;
        let mut payload = Vec::new();
        let mut header = [0; BATCH_HEADER];
        loop {
            if at == len {
                return Ok(Scanned {
                    end: at,
                    next_batch,
                    torn_bytes: 0,
                });
            }
            let room = len.saturating_sub(at);
            let batch = if room < BATCH_HEADER as u64 {
                None
            } else {
                if let Err(e) = self.file.read_exact_at(&mut header, at) {
                    return Err(read(e).into());
                }
                BatchHeader::parse(&header).filter(|h| {
                    h.sequence == next_batch
                        && u64::from(h.payload_len) <= room - BATCH_HEADER as u64
                })
            };
            let found = match batch {
                None => None,
                Some(batch) => {
                    payload.resize(batch.payload_len as usize, 0);
                    let payload_at = at + BATCH_HEADER as u64;
                    if let Err(e) = self.file.read_exact_at(&mut payload, payload_at) {
                        return Err(read(e).into());
                    }
                    parse_payload(&payload, batch.records, payload_at)
                }
            };
            let Some(found) = found else {
                if tail == Tail::MayBeTorn && !self.has_batch_after(at, len, next_batch)? {
                    return Ok(Scanned {
                        end: at,
                        next_batch,
                        torn_bytes: room,
                    });
                }
                return Err(LogStoreError::Damaged {
                    path: self.path.clone(),
                    offset: at,
                    what: format!("batch {next_batch} does not check and sound ones follow it"),
                }
                .into());
            };
            for record in found {
                visit(record)?;
            }
            at += (BATCH_HEADER + payload.len()) as u64;
            next_batch += 1;
        }
    }

    /// Whether the valid header of a batch later than `batch` follows after byte `from`.
    pub fn has_batch_after(&self, from: u64, len: u64, batch: u64) -> Result<bool, LogStoreError> {
        let rest = self
            .read(from, (len - from) as usize)
            .map_err(LogStoreError::io("read", &self.path))?;
        Ok(memchr::memmem::find_iter(&rest, &BATCH_MAGIC)
            .filter_map(|at| BatchHeader::parse(&rest[at..]))
            .any(|h| h.sequence > batch))
    }
}
