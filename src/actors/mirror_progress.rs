//! Progress of the copies in the store that does not lead, for writers that wait for it. In the
//! stages with two copies a write is answered when both stores have it; while the copy is in
//! trouble, the leader alone counts and the copy follows.

use std::time::Duration;

use tokio::sync::watch;

use crate::domain::ids::{Offset, PartitionId};
use crate::log::lead::Lead;

/// The copy of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mirror {
    /// Which store holds it; `None` while nothing is known of it.
    pub to: Option<Lead>,
    /// It has every commit before this offset.
    pub next: Offset,
    /// Whether it has caught up and keeps up, so that waiting for it is worthwhile.
    pub in_step: bool,
}

#[derive(Debug)]
pub struct Mirrors {
    partitions: Vec<watch::Sender<Mirror>>,
}

impl Mirrors {
    /// Nothing is known of any copy yet.
    pub fn new(partitions: u16) -> Self {
        let unknown = |_| watch::Sender::new(Mirror::default());
        Self {
            partitions: (0..partitions).map(unknown).collect(),
        }
    }

    /// A partition's copy as last published.
    pub fn of(&self, partition: PartitionId) -> Mirror {
        let known = self.partitions.get(usize::from(partition.0));
        known.map_or_else(Mirror::default, |mirror| *mirror.borrow())
    }

    /// A partition's copy in this store; `None` while its end is unknown.
    pub fn known(&self, partition: PartitionId, to: Lead) -> Option<Mirror> {
        Some(self.of(partition)).filter(|mirror| mirror.to == Some(to))
    }

    /// Publishes how far the copy is.
    pub fn set(&self, partition: PartitionId, mirror: Mirror) {
        if let Some(known) = self.partitions.get(usize::from(partition.0)) {
            known.send_if_modified(|was| std::mem::replace(was, mirror) != mirror);
        }
    }

    /// Waits until the copy has everything before `next`. Returns false if the copy is not in step.
    /// A copy that takes longer than `patience` falls out of step, so that nobody waits for it
    /// until it has caught up.
    pub async fn wait(&self, partition: PartitionId, next: Offset, patience: Duration) -> bool {
        let Some(sender) = self.partitions.get(usize::from(partition.0)) else {
            return false;
        };
        let mut mirror = sender.subscribe();
        let settled = mirror.wait_for(|m| m.next >= next || !m.in_step);
        match tokio::time::timeout(patience, settled).await {
            Ok(Ok(mirror)) => mirror.next >= next,
            Ok(Err(_)) => false,
            Err(_) => {
                sender.send_modify(|m| m.in_step = false);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(0);
    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn law_13_nobody_waits_twice_for_a_copy_that_does_not_keep_up() {
        let mirrors = Mirrors::new(1);
        assert!(!mirrors.wait(P, 1, PATIENCE).await, "never in step");
        let in_step = |next| Mirror {
            to: Some(Lead::S3),
            next,
            in_step: true,
        };
        mirrors.set(P, in_step(3));
        assert!(mirrors.wait(P, 3, PATIENCE).await);
        let (waited, ()) = tokio::join!(mirrors.wait(P, 5, PATIENCE), async {
            mirrors.set(P, in_step(5));
        });
        assert!(waited);
        let begun = tokio::time::Instant::now();
        assert!(!mirrors.wait(P, 6, PATIENCE).await);
        assert_eq!(begun.elapsed(), PATIENCE);
        assert!(!mirrors.wait(P, 6, PATIENCE).await);
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
