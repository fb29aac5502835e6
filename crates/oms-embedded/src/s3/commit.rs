//! The one writer. It drains what is waiting, decides each change against the index and the
//! changes before it in the same batch, writes them with one `writev`, makes them durable with one
//! `fdatasync`, publishes them to the index and answers. Deciding and committing are one serial
//! step, so of any number of racing conditional puts exactly one wins; and since the index changes
//! after the `fdatasync`, no reader ever sees what a power failure could take back.
//!
//! **A full disk.** What was written of the batch is cut off again and the cut made durable; then
//! nothing of it is there, whatever the kernel had of it, and whoever is in it is told so. Everything
//! before was durable and is not touched. Other failures say nothing about what the disk holds.
//!
//! **No next segment.** When it cannot be made (no file descriptors are left, say), nothing of the
//! batch was written: whoever is in it is told so, and the next one tries again.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::checkpoint::LogEnd;
use super::decide::{Decision, decide};
use super::error::{ChangeError, LogStoreError};
use super::frame::{Head, Record, SEGMENT_HEADER};
use super::index::{Entry, SegmentState};
use super::segment::Segment;
use super::store::{Poison, Shared};
use crate::space::free_bytes;

/// Bytes that may wait to be written; beyond, writers are told to come back. Two full batches.
const MAX_WAITING_BYTES: usize = 128 << 20;

/// Bytes in one batch, unless a single record is larger: well below what a disk writes in a
/// second, so that nobody in it waits long.
const MAX_BATCH_BYTES: usize = 32 << 20;

/// When a put may happen.
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
    /// `If-Match` with something that is no ETag of ours.
    Never,
}

/// What is to change.
#[derive(Debug)]
pub enum Change {
    /// Make or replace an object. The entry's place is filled in by the writer.
    Put {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
        /// Only if.
        condition: Condition,
        /// All of the entry but its place.
        entry: Entry,
    },
    /// Remove an object, if it is there.
    Delete {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
        /// Only if.
        condition: Condition,
    },
    /// Make a bucket.
    CreateBucket {
        /// Its name.
        bucket: String,
        /// When.
        created_ms: i64,
    },
    /// Compaction: write an object's record again, if it still lies where it was found.
    Move {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
        /// The entry as found.
        entry: Entry,
    },
    /// Compaction: write a delete's record again, if the key is still free.
    KeepDelete {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
    },
    /// Compaction: write a record again that says nothing of an object.
    Keep {
        /// The segment it declares removed, if it does.
        removes: Option<u32>,
    },
}

/// A change, its record and who waits for it.
#[derive(Debug)]
pub struct Job {
    /// The change.
    pub change: Change,
    /// What is written if it is made.
    pub record: Record,
    /// Who waits.
    pub reply: oneshot::Sender<Result<(), ChangeError>>,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: Vec<Job>,
    bytes: usize,
    closed: bool,
}

/// What waits for the writer.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Queue {
    /// Hands a change to the writer.
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

    /// No more changes are taken; the writer finishes those that wait.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_all();
    }

    /// What waits, once something does; `None` when closed and empty.
    fn take(&self) -> Option<Vec<Job>> {
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

/// Why a batch was not written.
enum WriteFailure {
    /// The segment to write it to could not be made: nothing of it was written.
    NoSegment(LogStoreError),
    /// It was begun.
    Batch(LogStoreError),
}

/// The end of the log, which only the writer moves.
pub struct Writer {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    end: LogEnd,
    /// Whether the last batch found no room.
    is_full: bool,
    /// Whether the next segment could not be made.
    is_stuck: bool,
}

impl Writer {
    /// A writer that goes on at `end` of `segment`.
    pub fn new(shared: Arc<Shared>, segment: Arc<Segment>, end: LogEnd) -> Self {
        Self {
            shared,
            segment,
            end,
            is_full: false,
            is_stuck: false,
        }
    }

    /// Works until the queue is closed and empty.
    pub fn run(mut self) {
        let shared = self.shared.clone();
        while let Some(jobs) = shared.queue.take() {
            let mut jobs = jobs.into_iter().peekable();
            while jobs.peek().is_some() {
                let mut batch = Vec::with_capacity(jobs.len());
                let mut bytes = 0;
                while let Some(job) =
                    jobs.next_if(|job| bytes == 0 || bytes + job.record.size() <= MAX_BATCH_BYTES)
                {
                    bytes += job.record.size();
                    batch.push(job);
                }
                self.commit(batch);
            }
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        if let Err(why) = self.heal() {
            for job in jobs {
                answer(job.reply, Err(ChangeError::Poisoned(why.clone())));
            }
            return;
        }
        let full = self.lacks_room(&jobs);
        let verdicts = decide(&self.shared.index.read(), &jobs, full.as_deref());
        let mut records = Vec::with_capacity(jobs.len());
        let mut written = Vec::with_capacity(jobs.len());
        let mut others = Vec::new();
        for (job, verdict) in jobs.into_iter().zip(verdicts) {
            match verdict {
                Decision::Write => {
                    records.push(job.record);
                    written.push((job.change, job.reply));
                }
                Decision::Nothing => others.push((job.reply, Ok(()))),
                Decision::Refused(why) => others.push((job.reply, Err(why))),
            }
        }
        if !records.is_empty()
            && let Err(failed) = self.write(&records)
        {
            let why = self.failed(&failed);
            // Of the changes in the batch, and of those that others were refused for, the same is
            // known.
            written
                .into_iter()
                .for_each(|(_, r)| answer(r, Err(why.clone())));
            others
                .into_iter()
                .for_each(|(r, _)| answer(r, Err(why.clone())));
            return;
        }
        let hindered = self.is_full || self.is_stuck;
        if !records.is_empty() && hindered {
            (self.is_full, self.is_stuck) = (false, false);
            tracing::info!("the embedded S3 store takes writes again");
        }
        let replies = self.publish(written, &records);
        for reply in replies {
            answer(reply, Ok(()));
        }
        for (reply, outcome) in others {
            answer(reply, outcome);
        }
        let bytes = records.iter().map(|r| r.size() as u64).sum();
        let records = records.len() as u64;
        self.shared.upkeep.written(records, bytes, self.end);
    }

    /// Finishes what a full disk has kept from being cut off; why nothing can be written otherwise.
    fn heal(&mut self) -> Result<(), String> {
        let poison = self.shared.poison.lock().clone();
        match poison {
            None => Ok(()),
            Some(Poison::Broken(why)) => Err(why),
            Some(Poison::Uncut(_)) => match self.segment.truncate(self.end.offset) {
                Ok(()) => {
                    *self.shared.poison.lock() = None;
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// What a failed write means for those in the batch, and for the next one.
    fn failed(&mut self, failed: &WriteFailure) -> ChangeError {
        let (failed, begun) = match failed {
            WriteFailure::NoSegment(error) => (error, false),
            WriteFailure::Batch(error) => (error, true),
        };
        let why = failed.to_string();
        if !begun && !failed.is_full() {
            if !std::mem::replace(&mut self.is_stuck, true) {
                tracing::error!(error = %why, "the embedded S3 store cannot begin a file and refuses writes until it can");
            }
            return ChangeError::NotBegun(why);
        }
        if !failed.is_full() {
            tracing::error!(error = %why, "the embedded S3 store takes no more writes until a restart");
            *self.shared.poison.lock() = Some(Poison::Broken(why.clone()));
            return ChangeError::Unknown(why);
        }
        self.note_full(&why);
        match self.segment.truncate(self.end.offset) {
            Ok(()) => ChangeError::Full(why),
            Err(error) => {
                tracing::error!(%error, "what was written of a batch cannot be cut off; trying again before the next");
                *self.shared.poison.lock() = Some(Poison::Uncut(why.clone()));
                ChangeError::Unknown(why)
            }
        }
    }

    /// Once for all batches that find the disk full: a log on the same disk would only fill it.
    fn note_full(&mut self, why: &str) {
        if !self.is_full {
            self.is_full = true;
            tracing::error!(error = %why, "the embedded S3 store refuses writes until there is room on its disk");
        }
    }

    /// Why there is no room for the puts among `jobs`, if there are any and there is none.
    fn lacks_room(&mut self, jobs: &[Job]) -> Option<String> {
        let wanted = self.shared.options.min_free_bytes;
        let is_put = |job: &Job| matches!(job.change, Change::Put { .. });
        if wanted == 0 || !jobs.iter().any(is_put) {
            return None;
        }
        // A disk that cannot be asked shows by itself whether it has room.
        let free = free_bytes(&self.shared.dir).ok()?;
        if free >= wanted {
            return None;
        }
        let why = format!("{free} bytes are left, {wanted} are kept free");
        self.note_full(&why);
        Some(why)
    }

    /// Writes a batch and makes it durable.
    fn write(&mut self, records: &[Record]) -> Result<(), WriteFailure> {
        if self.end.offset >= self.shared.options.segment_bytes {
            self.rotate().map_err(WriteFailure::NoSegment)?;
        }
        let name = |e| WriteFailure::Batch(LogStoreError::io("write", &self.segment.path)(e));
        let len = self
            .segment
            .append(self.end.next_batch, records)
            .map_err(name)?;
        self.segment.sync().map_err(name)?;
        self.end.offset += len;
        self.end.next_batch += 1;
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), LogStoreError> {
        let number = self.end.segment + 1;
        let segment = Segment::create(&self.shared.dir, number, self.end.next_batch)?;
        self.segment = Arc::new(segment);
        self.end.segment = number;
        self.end.offset = SEGMENT_HEADER as u64;
        let state = SegmentState {
            segment: self.segment.clone(),
            len: self.end.offset,
            live: 0,
        };
        self.shared.index.write().segments.insert(number, state);
        Ok(())
    }

    /// Makes a durable batch visible.
    fn publish(
        &self,
        written: Vec<(Change, oneshot::Sender<Result<(), ChangeError>>)>,
        records: &[Record],
    ) -> Vec<oneshot::Sender<Result<(), ChangeError>>> {
        let payload: u64 = records.iter().map(|r| r.size() as u64).sum();
        let mut offset = self.end.offset - payload;
        let mut replies = Vec::with_capacity(written.len());
        let mut index = self.shared.index.write();
        for ((change, reply), record) in written.into_iter().zip(records) {
            let place = |entry: Entry| Entry {
                segment: self.end.segment,
                offset: offset as u32,
                frame_len: record.frame.len() as u32,
                ..entry
            };
            match change {
                Change::Put {
                    bucket, key, entry, ..
                }
                | Change::Move { bucket, key, entry } => index.put(&bucket, &key, place(entry)),
                Change::Delete { bucket, key, .. } => index.delete(&bucket, &key),
                Change::CreateBucket { bucket, created_ms } => {
                    index.create_bucket(&bucket, created_ms);
                }
                Change::KeepDelete { .. } | Change::Keep { removes: None } => {}
                Change::Keep {
                    removes: Some(segment),
                } => {
                    index.removed.insert(segment);
                }
            }
            offset += record.size() as u64;
            replies.push(reply);
        }
        if let Some(state) = index.segments.get_mut(&self.end.segment) {
            state.len = self.end.offset;
        }
        replies
    }
}

/// However the writer ends, nobody is left waiting for it.
impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.close();
        let left = std::mem::take(&mut self.shared.queue.waiting.lock().jobs);
        for job in left {
            answer(job.reply, Err(ChangeError::Closed));
        }
    }
}

/// Whoever asked may be gone; the change stands all the same.
fn answer(reply: oneshot::Sender<Result<(), ChangeError>>, outcome: Result<(), ChangeError>) {
    reply.send(outcome).ok();
}

/// The record of a delete.
pub fn delete_record(bucket: &str, key: &str) -> Result<Record, postcard::Error> {
    Record::new(&Head::Delete { bucket, key }, Vec::new())
}
