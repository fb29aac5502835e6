//! A copy of the index on disk, so that opening a large store reads only what was written since.
//! Derived: a damaged one is ignored and the segments are read from the beginning.
//!
//! It is taken while writes go on, so it is *fuzzy*: an entry has the state at the position
//! recorded at its beginning, or a later one. Replaying the records from that position on gives the
//! same index in either case, because the last record of a key decides.
//!
//! ```text
//! file   "omsckp\x01\n", then chunks
//! chunk  length u32, crc u32, postcard of [`Chunk`]
//! ```

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::error::LogStoreError;
use super::index::{Bucket, Entry, Index, Key};
use super::segment::sync_dir;
use crate::private;

const MAGIC: [u8; 8] = *b"omsckp\x01\n";

/// Entries copied while the index is locked for reading, which takes some tens of microseconds, so
/// that no write waits long.
const ENTRIES_PER_CHUNK: usize = 2048;

/// Maximum length of a chunk: 2,048 entries with keys of at most 1,024 bytes.
const MAX_CHUNK_BYTES: usize = 8 << 20;

/// A position in the log, between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// Number of the segment.
    pub segment: u32,
    /// Byte offset in the segment.
    pub offset: u64,
    /// Sequence number of the batch that begins there.
    pub next_batch: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Chunk<'a> {
    Begin {
        end: LogEnd,
        removed: Vec<u32>,
    },
    Bucket {
        name: &'a str,
        created_ms: i64,
    },
    #[serde(borrow)]
    Objects(Vec<(&'a str, Entry)>),
    End,
}

/// Path of a store's checkpoint.
pub fn checkpoint_path(dir: &Path) -> PathBuf {
    dir.join("checkpoint")
}

/// Writes a checkpoint of `index` with the state at `end` or later. Returns its size in bytes.
pub fn save(dir: &Path, index: &RwLock<Index>, end: LogEnd) -> Result<u64, LogStoreError> {
    let path = checkpoint_path(dir);
    let temporary = dir.join("checkpoint.new");
    let mut options = private::options();
    let file = options.write(true).create(true).truncate(true);
    let file = (file.open(&temporary)).map_err(LogStoreError::io("create", &temporary))?;
    private::close_file(&file, &temporary).map_err(LogStoreError::io("close", &temporary))?;
    let failed = LogStoreError::io("write", &temporary);
    let written = write(&file, index, end).and_then(|len| file.sync_all().map(|()| len));
    let len = match written {
        Ok(len) => len,
        Err(error) => {
            // An incomplete checkpoint is useless and takes space that the disk may lack.
            if let Err(error) = fs::remove_file(&temporary) {
                tracing::warn!(path = %temporary.display(), %error, "cannot remove half a checkpoint");
            }
            return Err(failed(error));
        }
    };
    fs::rename(&temporary, &path).map_err(LogStoreError::io("rename", &temporary))?;
    sync_dir(dir)?;
    Ok(len)
}

fn write(file: &File, index: &RwLock<Index>, end: LogEnd) -> std::io::Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut len = MAGIC.len() as u64;
    out.write_all(&MAGIC)?;
    let mut put = |chunk: &[u8]| -> std::io::Result<()> {
        out.write_all(&(chunk.len() as u32).to_le_bytes())?;
        out.write_all(&crc32fast::hash(chunk).to_le_bytes())?;
        len += 8 + chunk.len() as u64;
        out.write_all(chunk)
    };
    let encode = |chunk: &Chunk<'_>| postcard::to_allocvec(chunk).map_err(std::io::Error::other);
    let (removed, buckets) = {
        let index = index.read();
        let buckets: Vec<(Box<str>, i64)> = (index.buckets.iter())
            .map(|(name, b)| (name.clone(), b.created_ms))
            .collect();
        (index.removed.iter().copied().collect(), buckets)
    };
    put(&encode(&Chunk::Begin { end, removed })?)?;
    for (name, created_ms) in &buckets {
        put(&encode(&Chunk::Bucket {
            name,
            created_ms: *created_ms,
        })?)?;
        let mut after: Option<Key> = None;
        loop {
            let chunk = {
                let index = index.read();
                let low = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let Some(bucket) = index.buckets.get(name) else {
                    break;
                };
                let objects: Vec<(&str, Entry)> = bucket
                    .objects
                    .range::<Key, _>((low, Bound::Unbounded))
                    .take(ENTRIES_PER_CHUNK)
                    .map(|(key, entry)| (&*key.0, *entry))
                    .collect();
                let Some((last, _)) = objects.last() else {
                    break;
                };
                after = Some(Key((*last).into()));
                encode(&Chunk::Objects(objects))?
            };
            put(&chunk)?;
        }
    }
    put(&encode(&Chunk::End)?)?;
    out.flush()?;
    Ok(len)
}

/// A checkpoint that was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The log must be replayed from here.
    pub end: LogEnd,
    /// Buckets and removed segments; `segments` is empty.
    pub index: Index,
    /// Bytes of the file.
    pub len: u64,
}

/// Loads the checkpoint; `None` if there is none or it is damaged.
pub fn load(dir: &Path) -> Option<Loaded> {
    let path = checkpoint_path(dir);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "cannot read the index checkpoint; reading all segments");
            return None;
        }
    };
    // Only until the next one is written, which is created private.
    if let Err(error) = private::close_file(&file, &path) {
        tracing::warn!(path = %path.display(), %error, "others may read the index checkpoint");
    }
    let loaded = read(BufReader::with_capacity(1 << 20, file));
    if loaded.is_none() {
        tracing::warn!(path = %path.display(), "the index checkpoint is damaged; reading all segments");
    }
    loaded
}

/// The bucket whose objects are being loaded.
struct Reading {
    name: Box<str>,
    created_ms: i64,
    objects: Vec<(Key, Entry)>,
}

fn read(mut input: impl Read) -> Option<Loaded> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic).ok()?;
    if magic != MAGIC {
        return None;
    }
    let mut len = MAGIC.len() as u64;
    let mut chunk = Vec::new();
    let mut begin = None;
    let mut index = Index::default();
    let mut bucket: Option<Reading> = None;
    loop {
        let mut prefix = [0; 8];
        input.read_exact(&mut prefix).ok()?;
        let (chunk_len, crc) = prefix.split_at(4);
        let chunk_len = u32::from_le_bytes(chunk_len.try_into().ok()?) as usize;
        if chunk_len > MAX_CHUNK_BYTES {
            return None;
        }
        chunk.resize(chunk_len, 0);
        input.read_exact(&mut chunk).ok()?;
        if crc32fast::hash(&chunk).to_le_bytes() != crc {
            return None;
        }
        len += 8 + chunk_len as u64;
        let chunk: Chunk<'_> = postcard::from_bytes(&chunk).ok()?;
        if !matches!(chunk, Chunk::Objects(_))
            && let Some(read) = bucket.take()
        {
            // The entries are sorted, so that the tree is built in one pass.
            let bucket = Bucket {
                created_ms: read.created_ms,
                objects: read.objects.into_iter().collect(),
            };
            index.buckets.insert(read.name, bucket);
        }
        match chunk {
            Chunk::Begin { end, removed } => {
                index.removed = removed.into_iter().collect();
                begin = Some(end);
            }
            Chunk::Bucket { name, created_ms } => {
                bucket = Some(Reading {
                    name: name.into(),
                    created_ms,
                    objects: Vec::new(),
                });
            }
            Chunk::Objects(objects) => {
                let objects = objects.into_iter().map(|(k, e)| (Key(k.into()), e));
                bucket.as_mut()?.objects.extend(objects);
            }
            Chunk::End => {
                let end = begin?;
                return Some(Loaded { end, index, len });
            }
        }
    }
}
