//! What the threads of the store share.

use std::path::PathBuf;

use parking_lot::{Mutex, RwLock};

use super::index::Index;
use super::queue::Queue;
use super::schedule::Schedule;

/// Sizes, which tests reduce.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment of this size is followed by a new one. 64 MiB: compaction of one is quick, and a
    /// terabyte is 16,000 files.
    pub segment_bytes: u64,
    /// Records at least between two checkpoints. 200,000 are replayed in about a second on a busy
    /// machine.
    pub checkpoint_records: u64,
    /// Bytes at least between two checkpoints. 256 MiB: four segments, which a disk reads in one or
    /// two seconds.
    pub checkpoint_bytes: u64,
    /// Bytes of free space that puts leave for other programs. Deletes and compaction, which free
    /// space, may use them.
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

/// Why writes are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Poison {
    /// The disk was full and the file could not be truncated to its length before the batch; that
    /// is tried again before the next batch.
    Uncut(String),
    /// It is unknown what is on the disk: only a restart reads it.
    Broken(String),
}

/// State shared by the store's threads.
pub struct Shared {
    /// The folder.
    pub dir: PathBuf,
    /// Sizes and limits.
    pub options: Options,
    /// The index of what is durable.
    pub index: RwLock<Index>,
    /// Changes that wait for the writer.
    pub queue: Queue,
    /// Why writes are refused, if one has failed.
    pub poison: Mutex<Option<Poison>>,
    /// When the upkeep thread has to work.
    pub upkeep: Schedule,
}
