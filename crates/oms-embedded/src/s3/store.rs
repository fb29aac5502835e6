//! The durable store under the embedded S3 endpoint: append-only segments, one writer, an ordered
//! index in memory.
//!
//! **Why not a key-value store.** redb 2 and fjall 2 were compared with a plain append-only file
//! with one `fdatasync` per commit, alternately on one busy disk, with 1 KiB objects in commits of
//! 64:
//!
//! | | append-only file | fjall | redb |
//! |---|---|---|---|
//! | objects/s | 8,700–10,600 | 9,000–12,000 | 7,200–9,500 |
//! | CPU µs an object | 3–4 | 4–6 | 11–12 |
//! | bytes written an object | 1,115 | 1,150, and again at the flush | 2,550 |
//!
//! (For an object alone in a commit redb writes 26,000–31,000 bytes, the others 5,200.) The disk
//! limits the rate, so fjall would be fast enough too. Three reasons decided for the file: the
//! single writer that decides conditions and batches changes is needed with any of them; a part of
//! an object, which the relay reads out of commit objects of up to 8 MiB, is one `pread` here and a
//! whole value there; and a log-structured tree keeps bodies in memory until it writes them a
//! second time. A library would only replace the file format and its recovery, which are small
//! because nothing is changed in place.
//!
//! **Durability.** A change is answered after `fdatasync`. A failed write or `fdatasync` poisons
//! the store: it is unknown what the kernel has written, so that all writes are refused until a
//! restart reads what is there. A full disk does not poison it: the batch is truncated, its callers
//! are told that nothing was written, and the next batch is tried. Neither does a next segment that
//! cannot be created, because nothing of the batch was written then ([`super::commit`]).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::attributes::Attributes;
use super::commit::{Writer, delete_record};
use super::error::{ChangeError, LogStoreError};
use super::frame::{Head, PutHead, Record, parse_frame};
use super::index::{Entry, From, Listed};
use super::queue::{Change, Condition, Job, Queue};
use super::recovery::recover;
use super::schedule::Schedule;
use super::segment::Segment;
use super::shared::{Options, Poison, Shared};
use super::upkeep;
use crate::only::{NotAlone, OnlyOne};
use crate::private;

/// Largest object: segments stay far below 4 GiB, and an object is in memory as a whole. The log's
/// commit objects are below 8 MiB.
pub const MAX_OBJECT_BYTES: usize = 64 << 20;

/// Longest key in bytes, as in S3.
pub const MAX_KEY_BYTES: usize = 1024;

/// An object to be put.
#[derive(Debug)]
pub struct Upload {
    /// Its bytes, in the pieces in which they arrived.
    pub body: Vec<Bytes>,
    /// Number of bytes.
    pub len: u32,
    /// CRC-32 of the bytes.
    pub crc: u32,
    /// MD5 of the bytes.
    pub etag: [u8; 16],
    /// Its headers.
    pub attributes: Attributes,
    /// Time of the put, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// An object that was found: readable as long as this is held, even if the key is replaced or
/// removed.
#[derive(Debug)]
pub struct Stored {
    /// Its entry in the index.
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

    /// Its headers and bytes, verified against their CRC.
    pub fn whole(&self) -> Result<(Attributes, Bytes), LogStoreError> {
        let mut bytes = self.read(0, self.entry.frame_len + self.entry.body_len)?;
        let body = bytes.split_off(self.entry.frame_len as usize);
        if crc32fast::hash(&body) != self.entry.body_crc {
            return Err(self.damaged("the object's bytes do not check"));
        }
        Ok((self.parse(&bytes)?, body))
    }

    /// Its headers and a part of its bytes; the range must be within the object.
    pub fn part(&self, range: Range<u64>) -> Result<(Attributes, Bytes), LogStoreError> {
        let attributes = self.attributes()?;
        let from = self.entry.frame_len + range.start as u32;
        let body = self.read(from, (range.end - range.start) as u32)?;
        Ok((attributes, body))
    }
}

/// The open store.
pub struct LogStore {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    // Held for its `Drop`: the lock is released with it.
    _lock: OnlyOne,
}

impl LogStore {
    /// Opens the store in `dir`, which is created if necessary. Blocks while it is loaded.
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
            upkeep: Schedule::new(
                end,
                recovered.replayed_records,
                recovered.checkpoint_bytes,
                (options.checkpoint_records, options.checkpoint_bytes),
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
        // The sender was dropped without an answer: the writer ended with the change in progress.
        let died = || ChangeError::Unknown("the writer ended".into());
        answer.await.unwrap_or_else(|_| Err(died()))
    }

    /// Puts an object if `condition` holds. Returns when it is durable.
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

    /// Removes an object if it exists and `condition` holds. Returns when that is durable.
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

    /// Creates a bucket. Returns when it is durable.
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

    /// Finds an object; the outer `None` means that the bucket does not exist.
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

    /// At most `limit` entries of a listing, and whether there are more; `None` if the bucket does
    /// not exist.
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

    /// Buckets by name, with their times of creation in milliseconds since 1970.
    pub fn buckets(&self) -> Vec<(String, i64)> {
        let index = self.shared.index.read();
        (index.buckets.iter())
            .map(|(name, bucket)| (name.to_string(), bucket.created_ms))
            .collect()
    }
}

impl Drop for LogStore {
    /// Finishes waiting changes and takes a checkpoint.
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.upkeep.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the embedded S3 store panicked");
            }
        }
        if self.poisoned().is_none()
            && let Err(error) = upkeep::checkpoint(&self.shared)
        {
            tracing::warn!(%error, "cannot write the index checkpoint of the embedded S3 store");
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
