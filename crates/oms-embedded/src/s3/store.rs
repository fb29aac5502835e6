//! The durable store under the embedded S3 endpoint: append-only segments, one writer, an ordered
//! index in memory.
//!
//! **Why not a key-value store.** redb 2 and fjall 2 were weighed against a bare append-only file
//! with one `fdatasync` a commit, in turns on one busy disk, 1 KiB objects in commits of 64:
//!
//! | | append-only file | fjall | redb |
//! |---|---|---|---|
//! | objects/s | 8,700–10,600 | 9,000–12,000 | 7,200–9,500 |
//! | CPU µs an object | 3–4 | 4–6 | 11–12 |
//! | bytes written an object | 1,115 | 1,150, and again at the flush | 2,550 |
//!
//! (Alone in a commit redb writes 26,000–31,000 bytes, the others 5,200.) The disk decides the
//! rate, so fjall would do as well, at first. Three things speak for the file: the one writer that
//! decides conditions and gathers what waits is needed over any of them; a part of an object, which
//! is how the relay takes events out of commit objects of up to 8 MiB, is one `pread` here and a
//! whole value there; and a log-structured tree holds bodies in memory until it writes them a
//! second time. What is left of our code with one of them underneath is everything but the file
//! format and its recovery, and those are small because nothing is ever changed in place.
//!
//! **Durability.** A change is answered after `fdatasync`. A failed write or `fdatasync` poisons the
//! store: after it nobody can say what the kernel still holds, so all writes are refused until a
//! restart reads back what is there. A full disk does not: the batch is cut off again, whoever is in
//! it learns that nothing was written, and the next one is tried; nor does a next segment that cannot
//! be made, since nothing of the batch was written then ([`super::commit`]).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::attributes::Attributes;
use super::commit::{Change, Condition, Job, Queue, Writer, delete_record};
use super::error::{ChangeError, LogStoreError};
use super::frame::{Head, PutHead, Record, parse_frame};
use super::index::{Entry, From, Index, Listed};
use super::recovery::recover;
use super::segment::Segment;
use super::upkeep::{self, Upkeep};
use crate::only::{NotAlone, OnlyOne};
use crate::private;

/// Largest object: segments stay far below 4 GiB, and an object is in memory whole. The log's
/// commit objects are below 8 MiB.
pub const MAX_OBJECT_BYTES: usize = 64 << 20;

/// Longest key in bytes, as in S3.
pub const MAX_KEY_BYTES: usize = 1024;

/// Sizes that tests make small.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment that has grown to this is followed by a new one. 64 MiB: compaction of one is
    /// done in a moment, and a terabyte is 16,000 files.
    pub segment_bytes: u64,
    /// Records after which a checkpoint is taken, at the least. 200,000 are read back in about a
    /// second on a machine that is busy with other things.
    pub checkpoint_records: u64,
    /// Bytes after which a checkpoint is taken, at the least. 256 MiB: four segments, a second or
    /// two of a disk's reading.
    pub checkpoint_bytes: u64,
    /// Bytes that puts leave free on the disk, for others beside the store. Deletes and compaction,
    /// which make room, go below.
    pub min_free_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            checkpoint_records: 200_000,
            checkpoint_bytes: 256 << 20,
            min_free_bytes: 0,
        }
    }
}

/// Why no write is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Poison {
    /// The disk was full and what was written of a batch could not be cut off; that is tried again
    /// before the next one.
    Uncut(String),
    /// Nobody knows what is on the disk: only a restart reads it back.
    Broken(String),
}

/// What the store's threads share.
pub struct Shared {
    /// The folder.
    pub dir: PathBuf,
    /// Sizes.
    pub options: Options,
    /// What is durable.
    pub index: RwLock<Index>,
    /// What waits for the writer.
    pub queue: Queue,
    /// Why writes are refused, after one has failed.
    pub poison: Mutex<Option<Poison>>,
    /// For the keeper.
    pub upkeep: Upkeep,
}

/// An object to be put.
#[derive(Debug)]
pub struct Upload {
    /// Its bytes, as they came.
    pub body: Vec<Bytes>,
    /// Their number.
    pub len: u32,
    /// Their CRC-32.
    pub crc: u32,
    /// Their MD5.
    pub etag: [u8; 16],
    /// Its headers.
    pub attributes: Attributes,
    /// When, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// An object found: readable for as long as this is held, whatever becomes of the key.
#[derive(Debug)]
pub struct Stored {
    /// What the index says.
    pub entry: Entry,
    segment: Arc<Segment>,
}

impl Stored {
    fn damaged(&self, what: &str) -> LogStoreError {
        LogStoreError::Damaged {
            path: self.segment.path.clone(),
            offset: self.entry.offset.into(),
            what: what.to_owned(),
        }
    }

    fn read(&self, from: u32, len: u32) -> Result<Bytes, LogStoreError> {
        let at = u64::from(self.entry.offset) + u64::from(from);
        let bytes = self.segment.read(at, len as usize);
        Ok(bytes
            .map_err(LogStoreError::io("read", &self.segment.path))?
            .into())
    }

    fn parse(&self, frame: &[u8]) -> Result<Attributes, LogStoreError> {
        match parse_frame(frame) {
            Some(Head::Put(put)) => postcard::from_bytes(put.attributes)
                .map_err(|e| self.damaged(&format!("attributes: {e}"))),
            _ => Err(self.damaged("the record's head does not check")),
        }
    }

    /// Its headers.
    pub fn attributes(&self) -> Result<Attributes, LogStoreError> {
        self.parse(&self.read(0, self.entry.frame_len)?)
    }

    /// Its headers and bytes, checked against the CRC they were written with.
    pub fn whole(&self) -> Result<(Attributes, Bytes), LogStoreError> {
        let mut bytes = self.read(0, self.entry.frame_len + self.entry.body_len)?;
        let body = bytes.split_off(self.entry.frame_len as usize);
        if crc32fast::hash(&body) != self.entry.body_crc {
            return Err(self.damaged("the object's bytes do not check"));
        }
        Ok((self.parse(&bytes)?, body))
    }

    /// Its headers and a part of its bytes; the range must lie inside.
    pub fn part(&self, range: Range<u64>) -> Result<(Attributes, Bytes), LogStoreError> {
        let attributes = self.attributes()?;
        let from = self.entry.frame_len + range.start as u32;
        let body = self.read(from, (range.end - range.start) as u32)?;
        Ok((attributes, body))
    }
}

/// See the module.
pub struct LogStore {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    // Held, not read: the lock goes with it.
    _lock: OnlyOne,
}

impl LogStore {
    /// Opens the store in `dir`, making it if need be. Blocks while it is read.
    pub fn open(dir: &Path, options: Options) -> Result<Self, LogStoreError> {
        private::create_dir(dir).map_err(LogStoreError::io("create", dir))?;
        let path = dir.join("lock");
        let lock = OnlyOne::lock(&path).map_err(|why| match why {
            NotAlone::Held => LogStoreError::Locked { path },
            NotAlone::Io { what, source } => LogStoreError::io(what, &path)(source),
        })?;
        let recovered = recover(dir)?;
        let end = recovered.end;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            index: RwLock::new(recovered.index),
            queue: Queue::default(),
            poison: Mutex::new(None),
            upkeep: Upkeep::new(
                end,
                recovered.replayed_records,
                recovered.checkpoint_bytes,
                &options,
            ),
            options,
        });
        let mut store = Self {
            shared: shared.clone(),
            threads: Vec::with_capacity(2),
            _lock: lock,
        };
        let writer = Writer::new(shared.clone(), recovered.segment, end);
        store.spawn("s3-writer", move || writer.run())?;
        store.spawn("s3-keeper", move || upkeep::run(&shared))?;
        Ok(store)
    }

    fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), LogStoreError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.map_err(LogStoreError::io("start a thread for", &self.shared.dir))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Why writes are refused, if they are.
    pub fn poisoned(&self) -> Option<Poison> {
        self.shared.poison.lock().clone()
    }

    /// Number of objects.
    pub fn objects(&self) -> usize {
        self.shared.index.read().objects()
    }

    async fn change(&self, change: Change, record: Record) -> Result<(), ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.submit(Job {
            change,
            record,
            reply,
        })?;
        // Dropped without an answer: the writer died with the change in hand.
        let died = || ChangeError::Unknown("the writer ended".into());
        answer.await.unwrap_or_else(|_| Err(died()))
    }

    /// Puts an object if `condition` holds. Answered when it is durable.
    pub async fn put(
        &self,
        bucket: &str,
        key: &str,
        upload: Upload,
        condition: Condition,
    ) -> Result<(), ChangeError> {
        let encode = |e: postcard::Error| ChangeError::Unknown(format!("cannot encode: {e}"));
        let attributes = postcard::to_allocvec(&upload.attributes).map_err(encode)?;
        let head = Head::Put(PutHead {
            bucket,
            key,
            etag: upload.etag,
            modified_ms: upload.modified_ms,
            body_len: upload.len,
            body_crc: upload.crc,
            attributes: &attributes,
        });
        let record = Record::new(&head, upload.body).map_err(encode)?;
        let entry = Entry {
            segment: 0,
            offset: 0,
            frame_len: 0,
            body_len: upload.len,
            body_crc: upload.crc,
            etag: upload.etag,
            modified_ms: upload.modified_ms,
        };
        let change = Change::Put {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            condition,
            entry,
        };
        self.change(change, record).await
    }

    /// Removes an object, if it is there and `condition` holds.
    pub async fn delete(
        &self,
        bucket: &str,
        key: &str,
        condition: Condition,
    ) -> Result<(), ChangeError> {
        let record = delete_record(bucket, key)
            .map_err(|e| ChangeError::Unknown(format!("cannot encode: {e}")))?;
        let change = Change::Delete {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            condition,
        };
        self.change(change, record).await
    }

    /// Makes a bucket.
    pub async fn create_bucket(&self, bucket: &str, created_ms: i64) -> Result<(), ChangeError> {
        let head = Head::CreateBucket { bucket, created_ms };
        let record = Record::new(&head, Vec::new())
            .map_err(|e| ChangeError::Unknown(format!("cannot encode: {e}")))?;
        let change = Change::CreateBucket {
            bucket: bucket.to_owned(),
            created_ms,
        };
        self.change(change, record).await
    }

    /// Finds an object; the outer `None` means there is no such bucket.
    pub fn find(&self, bucket: &str, key: &str) -> Option<Option<Stored>> {
        let index = self.shared.index.read();
        let entry = index.buckets.get(bucket)?.objects.get(key.as_bytes());
        Some(entry.and_then(|entry| {
            let segment = index.segments.get(&entry.segment)?.segment.clone();
            Some(Stored {
                entry: *entry,
                segment,
            })
        }))
    }

    /// At most `limit` entries of a listing and whether there are more; `None` when there is no
    /// such bucket.
    pub fn list(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: Option<&str>,
        from: &From,
        limit: usize,
    ) -> Option<(Vec<Listed>, bool)> {
        let index = self.shared.index.read();
        index.list(bucket, prefix, delimiter, from, limit)
    }

    /// Buckets by name, with when each was made in milliseconds since 1970.
    pub fn buckets(&self) -> Vec<(String, i64)> {
        let index = self.shared.index.read();
        (index.buckets.iter())
            .map(|(name, bucket)| (name.to_string(), bucket.created_ms))
            .collect()
    }
}

impl Drop for LogStore {
    /// Finishes what waits and takes a checkpoint.
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.upkeep.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the embedded S3 store panicked");
            }
        }
        if self.poisoned().is_none()
            && let Err(error) = self.shared.upkeep.checkpoint(&self.shared)
        {
            tracing::warn!(%error, "cannot write the index checkpoint of the embedded S3 store");
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
