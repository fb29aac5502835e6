//! How far each partition of the log is known to reach: written by whoever commits or catches up,
//! waited on by whoever tails the log. A hint that makes tailing quick; its absence only makes it
//! slow, since tailers also look by themselves.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use oms_core::domain::ids::{Offset, PartitionId};

/// See the module.
#[derive(Debug)]
pub struct LogHeads {
    next: Vec<AtomicU64>,
    changed: watch::Sender<u64>,
}

impl LogHeads {
    /// Heads of `partitions` empty partitions.
    pub fn new(partitions: u16) -> Self {
        Self {
            next: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
            changed: watch::Sender::new(0),
        }
    }

    /// The partition reaches at least to `next` (the offset after its last known commit).
    pub fn advance(&self, partition: PartitionId, next: Offset) {
        let Some(known) = self.next.get(usize::from(partition.0)) else {
            return;
        };
        if known.fetch_max(next, Ordering::AcqRel) < next {
            self.nudge();
        }
    }

    /// Wakes everyone though no head may have moved: something else about a partition has changed,
    /// while a tailer may have seen its head first.
    pub fn nudge(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// The offset after the partition's last known commit.
    pub fn next_offset(&self, partition: PartitionId) -> Offset {
        self.next
            .get(usize::from(partition.0))
            .map_or(0, |n| n.load(Ordering::Acquire))
    }

    /// The same; `None` while nothing of the partition is known: every log has a first commit.
    pub fn known(&self, partition: PartitionId) -> Option<Offset> {
        Some(self.next_offset(partition)).filter(|next| *next > 0)
    }

    /// Wakes whenever any partition has advanced.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
