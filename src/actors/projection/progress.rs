//! Progress of the live read model, for readers that wait for what was just written.

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::domain::ids::{Offset, PartitionId, Position};
use crate::store::log::log_heads::LogHeads;

/// Written by the projector, or by [`super::follow()`] where another process keeps the model.
#[derive(Debug)]
pub struct ProjectionProgress {
    /// The offset after the last commit applied, by partition; empty while unknown.
    next: watch::Sender<Vec<Offset>>,
}

impl Default for ProjectionProgress {
    fn default() -> Self {
        Self {
            next: watch::Sender::new(Vec::new()),
        }
    }
}

impl ProjectionProgress {
    pub(super) fn publish(&self, next: &[Offset]) {
        self.next.send_if_modified(|known| {
            let changed = known != next;
            if changed {
                known.clear();
                known.extend_from_slice(next);
            }
            changed
        });
    }

    /// The offset after the last commit applied, as last seen; `None` while unknown.
    pub fn known(&self, partition: PartitionId) -> Option<Offset> {
        let next = self.next.borrow();
        next.get(usize::from(partition.0)).copied()
    }

    fn next_offset(&self, partition: PartitionId) -> Offset {
        self.known(partition).unwrap_or(0)
    }

    /// Commits of a partition that the read model lacks; `None` while either end is unknown.
    pub fn lag(&self, heads: &LogHeads, partition: PartitionId) -> Option<u64> {
        let (head, next) = (heads.known(partition)?, self.known(partition)?);
        Some(head.saturating_sub(next))
    }

    /// Commits that the read model lacks, over all partitions.
    pub fn lag_commits(&self, heads: &LogHeads, partitions: u16) -> u64 {
        (0..partitions)
            .map(PartitionId)
            .map(|p| heads.next_offset(p).saturating_sub(self.next_offset(p)))
            .sum()
    }

    /// Waits until the read model has applied this position; false when it has not by `deadline`.
    pub async fn wait_for(&self, position: Position, deadline: Instant) -> bool {
        let partition = usize::from(position.partition.0);
        let mut next = self.next.subscribe();
        let reached = next.wait_for(|n| n.get(partition).is_some_and(|n| *n > position.offset));
        matches!(timeout_at(deadline, reached).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn readers_wait_for_a_position_and_no_longer_than_they_said() {
        let progress = Arc::new(ProjectionProgress::default());
        let at = |text: &str| text.parse::<Position>().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let waiter = tokio::spawn({
            let progress = progress.clone();
            async move { progress.wait_for(at("1/7/3"), deadline).await }
        });
        progress.publish(&[9, 7]);
        assert!(progress.wait_for(at("0/8/0"), deadline).await);
        assert!(!waiter.is_finished());
        progress.publish(&[9, 8]);
        assert!(waiter.await.unwrap());
        assert!(!progress.wait_for(at("1/8/0"), deadline).await, "not there");
        assert!(
            !progress.wait_for(at("2/0/0"), deadline).await,
            "no such partition"
        );
        assert_eq!(Instant::now(), deadline);
    }
}
