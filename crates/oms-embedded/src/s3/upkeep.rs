//! Background work of the store: checkpoints of the index, and compaction.
//!
//! **Compaction.** Derived objects (`index/`, `snapshots/`) are overwritten, so that segments fill
//! with obsolete records. A segment with mostly obsolete records is read, the single writer writes
//! the live ones again at the end of the log (and checks that they are still live), a record
//! declares the segment removed, a checkpoint is taken, and only then the file is deleted. After an
//! interruption at any point the log replays to the same index. Deletes are kept unless the segment
//! is the oldest: an older segment may hold the put that they undo.

use std::fs;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::checkpoint;
use super::error::{ChangeError, LogStoreError};
use super::frame::{Found, Head, Record, SEGMENT_HEADER};
use super::queue::{Change, Job};
use super::recovery::entry_of;
use super::segment::{Segment, Tail, sync_dir};
use super::shared::Shared;

/// Bytes given to the writer at once while compacting: little beside what clients write, and far
/// below the limit of waiting bytes.
const COMPACTION_STEP_BYTES: usize = 4 << 20;

/// A segment is compacted if less than this fraction of it is live. Each byte kept is thus written
/// at most 4/3 times, and a store is at most about four times as large as its content.
const LIVE_FRACTION: u64 = 4;

/// Takes a checkpoint if anything was written since the last one.
pub fn checkpoint(shared: &Shared) -> Result<(), LogStoreError> {
    let Some(unsaved) = shared.upkeep.unsaved() else {
        return Ok(());
    };
    let saved = checkpoint::save(&shared.dir, &shared.index, unsaved.end);
    shared.upkeep.tried(unsaved);
    shared.upkeep.saved(saved?);
    Ok(())
}

/// The loop of the upkeep thread.
pub fn run(shared: &Arc<Shared>) {
    while shared.upkeep.wait() {
        if let Err(error) = checkpoint(shared) {
            tracing::warn!(%error, "cannot write the index checkpoint of the embedded S3 store");
            continue;
        }
        for number in mostly_dead(shared) {
            if shared.upkeep.stopped() {
                return;
            }
            match compact(shared, number) {
                Ok(()) => {}
                Err(CompactionError::Change(ChangeError::Closed)) => return,
                Err(error) => {
                    tracing::warn!(%error, segment = number, "cannot compact a segment of the embedded S3 store");
                    break;
                }
            }
        }
    }
}

/// Segments to compact, oldest first.
pub fn mostly_dead(shared: &Shared) -> Vec<u32> {
    let index = shared.index.read();
    let newest = index.segments.keys().next_back().copied();
    (index.segments.iter())
        .filter(|(number, _)| Some(**number) != newest)
        .filter(|(_, state)| state.live * LIVE_FRACTION < state.len)
        .map(|(number, _)| *number)
        .collect()
}

/// Why a compaction did not finish; nothing is lost by that.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// An error of files.
    #[error(transparent)]
    Store(#[from] LogStoreError),
    /// An error of the writer.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A record cannot be encoded.
    #[error("cannot encode a record: {0}")]
    Encode(#[from] postcard::Error),
}

/// Moves the live records out of segment `number` and removes it.
pub fn compact(shared: &Arc<Shared>, number: u32) -> Result<(), CompactionError> {
    let (segment, len, oldest) = {
        let index = shared.index.read();
        let Some(state) = index.segments.get(&number) else {
            return Ok(());
        };
        let oldest = index.segments.keys().next() == Some(&number);
        (state.segment.clone(), state.len, oldest)
    };
    let mut step = Step::default();
    let first_batch = Segment::open(&shared.dir, number)?.1.unwrap_or(0);
    segment.scan(SEGMENT_HEADER as u64, first_batch, Tail::Whole, |found| {
        if let Some(change) = still_counts(number, &found, oldest) {
            let body = bytes::Bytes::copy_from_slice(found.body);
            step.submit(shared, change, Record::copied(found.head_bytes, body))?;
        }
        if step.bytes >= COMPACTION_STEP_BYTES {
            step.wait()?;
        }
        Ok::<(), CompactionError>(())
    })?;
    let removed = Head::SegmentRemoved { segment: number };
    let change = Change::Keep {
        removes: Some(number),
    };
    step.wait()?;
    step.submit(shared, change, Record::new(&removed, Vec::new())?)?;
    step.wait()?;
    checkpoint(shared)?;
    let emptied = {
        let mut index = shared.index.write();
        let live = index.segments.get(&number).map_or(0, |s| s.live);
        if live == 0 {
            index.segments.remove(&number);
        }
        live == 0
    };
    if !emptied {
        tracing::error!(
            segment = number,
            "a compacted segment is still in use; it stays"
        );
        return Ok(());
    }
    // Readers that have already found an object in it hold the file open.
    fs::remove_file(&segment.path).map_err(LogStoreError::io("remove", &segment.path))?;
    sync_dir(&shared.dir)?;
    tracing::info!(
        segment = number,
        bytes = len,
        "compacted a segment of the embedded S3 store"
    );
    Ok(())
}

fn still_counts(segment: u32, found: &Found<'_>, oldest: bool) -> Option<Change> {
    Some(match &found.head {
        Head::Put(put) => Change::Move {
            bucket: put.bucket.to_owned(),
            key: put.key.to_owned(),
            entry: entry_of(segment, found)?,
        },
        Head::Delete { .. } if oldest => return None,
        Head::Delete { bucket, key } => Change::KeepDelete {
            bucket: (*bucket).to_owned(),
            key: (*key).to_owned(),
        },
        Head::CreateBucket { .. } => Change::Keep { removes: None },
        Head::SegmentRemoved { segment } => Change::Keep {
            removes: Some(*segment),
        },
    })
}

/// Changes given to the writer that were not answered yet.
#[derive(Default)]
struct Step {
    bytes: usize,
    replies: Vec<oneshot::Receiver<Result<(), ChangeError>>>,
}

impl Step {
    fn submit(
        &mut self,
        shared: &Shared,
        change: Change,
        record: Record,
    ) -> Result<(), ChangeError> {
        self.bytes += record.size();
        let (reply, answer) = oneshot::channel();
        self.replies.push(answer);
        shared.queue.submit(Job {
            change,
            record,
            reply,
        })
    }

    fn wait(&mut self) -> Result<(), ChangeError> {
        self.bytes = 0;
        for reply in self.replies.drain(..) {
            reply.blocking_recv().unwrap_or(Err(ChangeError::Closed))?;
        }
        Ok(())
    }
}
