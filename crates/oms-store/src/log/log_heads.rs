//! How far each partition of the log is known to reach: published by components that commit or
//! catch up, awaited by those that tail the log. Only a hint that makes tailing faster: tailers
//! also check by themselves.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use oms_core::domain::ids::{Offset, PartitionId};

/// The known end of each partition.
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

    /// Publishes that the partition reaches at least `next`, the offset after its last known
    /// commit.
    pub fn advance(&self, partition: PartitionId, next: Offset) {
        let Some(known) = self.next.get(usize::from(partition.0)) else {
            return;
        };
        if known.fetch_max(next, Ordering::AcqRel) < next {
            self.nudge();
        }
    }

    /// Wakes all waiters although no head may have moved: something else about a partition has
    /// changed, after a tailer may have seen its head.
    pub fn nudge(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// The offset after the partition's last known commit.
    pub fn next_offset(&self, partition: PartitionId) -> Offset {
        self.next
            .get(usize::from(partition.0))
            .map_or(0, |n| n.load(Ordering::Acquire))
    }

    /// [`Self::next_offset`], or `None` while it is unknown: a known log has at least one commit.
    pub fn known(&self, partition: PartitionId) -> Option<Offset> {
        Some(self.next_offset(partition)).filter(|next| *next > 0)
    }

    /// Changes whenever the head of any partition advances, and on [`Self::nudge`].
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
