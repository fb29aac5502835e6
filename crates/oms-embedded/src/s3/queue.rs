//! Changes of the store, and the queue in which they wait for the single writer.

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::error::ChangeError;
use super::frame::Record;
use super::index::Entry;

/// Bytes that may wait to be written; beyond it writes are refused for the moment. Two full
/// batches.
const MAX_WAITING_BYTES: usize = 128 << 20;

/// The condition of a put or delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    None,
    /// `If-None-Match: *`: only if the key is free.
    Absent,
    /// `If-Match: *`: only if the key is taken.
    Present,
    /// `If-Match`: only if the object has this ETag.
    Matches([u8; 16]),
    /// `If-Match` with an ETag that this server never issues.
    Never,
}

/// A change of the store.
#[derive(Debug)]
pub enum Change {
    /// Create or replace an object. The writer fills in the entry's location.
    Put {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
        /// The condition.
        condition: Condition,
        /// The entry without its location.
        entry: Entry,
    },
    /// Remove an object if it exists.
    Delete {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
        /// The condition.
        condition: Condition,
    },
    /// Create a bucket.
    CreateBucket {
        /// Its name.
        bucket: String,
        /// Time of creation, in milliseconds since 1970.
        created_ms: i64,
    },
    /// Compaction: write an object's record again if its location is still the same.
    Move {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
        /// The entry as found.
        entry: Entry,
    },
    /// Compaction: write a delete's record again if the key is still free.
    KeepDelete {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
    },
    /// Compaction: write again a record that does not concern an object.
    Keep {
        /// The segment that it declares removed, if it does.
        removes: Option<u32>,
    },
}

/// A change with its record and its caller.
#[derive(Debug)]
pub struct Job {
    /// The change.
    pub change: Change,
    /// The record to write if the change is made.
    pub record: Record,
    /// Where the caller waits for the outcome.
    pub reply: oneshot::Sender<Result<(), ChangeError>>,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: Vec<Job>,
    bytes: usize,
    closed: bool,
}

/// Changes that wait for the writer.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Queue {
    /// Queues a change.
    pub fn submit(&self, job: Job) -> Result<(), ChangeError> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(ChangeError::Closed);
        }
        let len = job.record.size();
        if waiting.bytes + len > MAX_WAITING_BYTES && !waiting.jobs.is_empty() {
            return Err(ChangeError::Busy);
        }
        waiting.bytes += len;
        waiting.jobs.push(job);
        if waiting.jobs.len() == 1 {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Accepts no more changes; the writer finishes those that wait.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Accepts no more changes, and takes those that wait.
    pub fn end(&self) -> Vec<Job> {
        self.close();
        std::mem::take(&mut self.waiting.lock().jobs)
    }

    /// Waits for changes and takes them; `None` if the queue is closed and empty.
    pub fn take(&self) -> Option<Vec<Job>> {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            self.arrived.wait(&mut waiting);
        }
        waiting.bytes = 0;
        Some(std::mem::take(&mut waiting.jobs))
    }
}
