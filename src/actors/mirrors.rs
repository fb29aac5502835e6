//! How far the copy in the place that does not lead has got, for whoever waits for it: in the
//! stages with two copies a write is answered when both have it, unless the second one is in
//! trouble; then the first one alone counts, and the copy follows.

use std::time::Duration;

use tokio::sync::watch;

use crate::domain::ids::{Offset, PartitionId};
use crate::log::lead::Lead;

/// A partition's copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mirror {
    /// Which place holds it; `None` while nothing is known of it.
    pub to: Option<Lead>,
    /// It has everything before this offset.
    pub next: Offset,
    /// It has caught up and keeps up, so that waiting for it is worth while.
    pub in_step: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Mirrors {
    partitions: Vec<watch::Sender<Mirror>>,
}

impl Mirrors {
    /// Copies of which nothing is known.
    pub fn new(partitions: u16) -> Self {
        let unknown = |_| watch::Sender::new(Mirror::default());
        Self {
            partitions: (0..partitions).map(unknown).collect(),
        }
    }

    /// A partition's copy as last seen.
    pub fn of(&self, partition: PartitionId) -> Mirror {
        let known = self.partitions.get(usize::from(partition.0));
        known.map_or_else(Mirror::default, |mirror| *mirror.borrow())
    }

    /// A partition's copy in this place; `None` while it is not known how far it reaches.
    pub fn known(&self, partition: PartitionId, to: Lead) -> Option<Mirror> {
        Some(self.of(partition)).filter(|mirror| mirror.to == Some(to))
    }

    /// The copy has got here.
    pub fn set(&self, partition: PartitionId, mirror: Mirror) {
        if let Some(known) = self.partitions.get(usize::from(partition.0)) {
            known.send_if_modified(|was| std::mem::replace(was, mirror) != mirror);
        }
    }

    /// Waits until the copy has everything before `next`; false when it is, or falls, out of step,
    /// which it also does when it takes longer than `patience`: nobody waits for it again before it
    /// has caught up.
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
