//! Partitions that a tailer must not continue, because what it has applied is not of this log: it
//! came from another bucket, or from an end that this log has lost. They are checked again at
//! growing intervals; the other partitions go on.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ids::{Offset, PartitionId};
use crate::log::identity::Foreign;
use crate::store::alarms::{Alarms, CopyKind};
use crate::store::backoff::Backoff;

/// Pauses between two checks: a repaired log or copy is noticed within seconds.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

#[derive(Debug)]
pub struct Halted {
    copy: CopyKind,
    held: BTreeMap<PartitionId, Held>,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    backoff: Backoff,
}

impl Halted {
    pub fn new(copy: CopyKind) -> Self {
        let held = BTreeMap::new();
        Self { copy, held }
    }

    /// Whether a partition is not to be tried at `now`.
    pub fn holds(&self, partition: PartitionId, now: Instant) -> bool {
        self.held
            .get(&partition)
            .is_some_and(|held| held.until > now)
    }

    /// Notes that a partition's copy is not of this log. A log that ends too early is reported only
    /// when it is seen twice: a process that does not know of a hand-off yet looks for the end in
    /// the store that no longer leads.
    pub fn note(
        &mut self,
        alarms: &Alarms,
        partition: PartitionId,
        (why, next): (Foreign, Offset),
        what_to_do: &str,
        now: Instant,
    ) {
        let first = !self.held.contains_key(&partition);
        let held = self.held.entry(partition).or_insert_with(|| Held {
            until: now,
            backoff: Backoff::new(RETRY.0, RETRY.1),
        });
        held.until = now + held.backoff.pause().max(RETRY.0);
        if !(first && why == Foreign::Behind) {
            let what = why.describe(self.copy.name(), partition, next);
            alarms.raise(
                self.copy,
                partition,
                why.as_str(),
                format!("{what}. {what_to_do}"),
            );
        }
    }

    /// Notes that a partition's copy is of this log.
    pub fn goes_on(&mut self, alarms: &Alarms, partition: PartitionId) {
        if self.held.remove(&partition).is_some() {
            alarms.clear(self.copy, partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_seems_lost_is_told_when_it_is_seen_again_and_all_else_at_once() {
        let (alarms, now) = (Alarms::default(), Instant::now());
        let mut halted = Halted::new(CopyKind::Outbox);
        let (one, other) = (PartitionId(1), PartitionId(2));
        halted.note(&alarms, one, (Foreign::Behind, 5), "", now);
        assert!(halted.holds(one, now) && alarms.all().is_empty());
        halted.note(&alarms, other, (Foreign::Diverged, 5), "", now);
        assert_eq!(alarms.all().len(), 1);
        halted.note(&alarms, one, (Foreign::Behind, 5), "", now);
        assert_eq!(alarms.all().len(), 2);
        halted.goes_on(&alarms, one);
        halted.goes_on(&alarms, other);
        assert!(alarms.all().is_empty() && !halted.holds(one, now));
    }
}
