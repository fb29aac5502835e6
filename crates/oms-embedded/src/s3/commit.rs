//! The single writer. It takes all waiting changes, decides each against the index and the changes
//! before it in the same batch, writes them with one `writev`, makes them durable with one
//! `fdatasync`, publishes them to the index and answers. Deciding and committing are one serial
//! step, so that of any number of racing conditional puts exactly one wins; and because the index
//! changes after the `fdatasync`, readers never see a change that a power failure could undo.
//!
//! **A full disk.** The file is truncated to its length before the batch, durably. Then nothing of
//! the batch is stored, whatever the kernel had written of it, and its callers are told so.
//! Everything before was durable and is not affected. After other failures it is unknown what is on
//! the disk.
//!
//! **No next segment.** If it cannot be created (for example without free file descriptors),
//! nothing of the batch was written: its callers are told so, and the next batch tries again.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::checkpoint::LogEnd;
use super::decide::{Decision, decide};
use super::error::{ChangeError, LogStoreError};
use super::frame::{Head, Record, SEGMENT_HEADER};
use super::index::{Entry, SegmentState};
use super::queue::{Change, Job};
use super::segment::Segment;
use super::shared::{Poison, Shared};
use crate::space::free_bytes;

/// Bytes of a batch, unless a single record is larger: well below what a disk writes in a second,
/// so that no caller in it waits long.
const MAX_BATCH_BYTES: usize = 32 << 20;

/// Why a batch was not written.
enum WriteFailure {
    /// The next segment could not be created: nothing was written.
    NoSegment(LogStoreError),
    /// Writing was started.
    Batch(LogStoreError),
}

/// The single writer, which moves the end of the log.
pub struct Writer {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    end: LogEnd,
    /// Whether there was no space for the last batch.
    is_full: bool,
    /// Whether the next segment could not be created.
    is_stuck: bool,
}

impl Writer {
    /// A writer that continues at `end` of `segment`.
    pub fn new(shared: Arc<Shared>, segment: Arc<Segment>, end: LogEnd) -> Self {
        Self {
            shared,
            segment,
            end,
            is_full: false,
            is_stuck: false,
        }
    }

    /// Runs until the queue is closed and empty.
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
            // A refusal because of another change of the batch depends on its outcome: both get the
            // same answer.
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

    /// Truncates what a full disk left of a batch, if that failed before; the error says why
    /// nothing can be written.
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

    /// Handles a failed write: returns the answer for the callers in the batch, and decides whether
    /// the next one may be written.
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

    /// Logged once for all batches until there is space again: a log on the same disk would fill it
    /// further.
    fn note_full(&mut self, why: &str) {
        if !self.is_full {
            self.is_full = true;
            tracing::error!(error = %why, "the embedded S3 store refuses writes until there is room on its disk");
        }
    }

    /// Why there is no space for the puts among `jobs`; `None` if there is, or there are no puts.
    fn lacks_room(&mut self, jobs: &[Job]) -> Option<String> {
        let wanted = self.shared.options.min_free_bytes;
        let is_put = |job: &Job| matches!(job.change, Change::Put { .. });
        if wanted == 0 || !jobs.iter().any(is_put) {
            return None;
        }
        // If the free space cannot be determined, the write itself shows whether there is some.
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

    /// Publishes a durable batch to the index.
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

/// However the writer ends, its callers get an answer.
impl Drop for Writer {
    fn drop(&mut self) {
        for job in self.shared.queue.end() {
            answer(job.reply, Err(ChangeError::Closed));
        }
    }
}

/// The caller may be gone; the change is made all the same.
fn answer(reply: oneshot::Sender<Result<(), ChangeError>>, outcome: Result<(), ChangeError>) {
    reply.send(outcome).ok();
}

/// The record of a delete.
pub fn delete_record(bucket: &str, key: &str) -> Result<Record, postcard::Error> {
    Record::new(&Head::Delete { bucket, key }, Vec::new())
}
