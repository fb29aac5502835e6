//! Partitions in which a tailer cannot read on because the log is damaged there. They are retried
//! at growing intervals while the other partitions go on; what precedes the damage is applied.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ids::PartitionId;
use crate::metrics;
use crate::store::backoff::Backoff;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::halts::Halts;

/// Pauses between two attempts: a repaired object is noticed within a minute.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

#[derive(Debug)]
pub struct CorruptPartitions {
    /// The reader's name, as a metric's label.
    reader: &'static str,
    halts: Halts,
    held: BTreeMap<PartitionId, Held>,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    backoff: Backoff,
}

impl CorruptPartitions {
    /// No partition is known to be damaged; damage found later is reported to `halts` as well.
    pub fn new(reader: &'static str, halts: Halts) -> Self {
        Self {
            reader,
            halts,
            held: BTreeMap::new(),
        }
    }

    /// Whether a read failed because the stored object is damaged, rather than because it could not
    /// be fetched.
    pub fn is_damage(error: &StoreError) -> bool {
        error.kind == StoreErrorKind::Corrupt
    }

    /// Whether a partition is not to be tried at `now`.
    pub fn holds(&self, partition: PartitionId, now: Instant) -> bool {
        self.held
            .get(&partition)
            .is_some_and(|held| held.until > now)
    }

    /// A partition could not be read on.
    pub fn note(&mut self, partition: PartitionId, error: &StoreError, now: Instant) {
        let reader = self.reader;
        let held = self.held.entry(partition).or_insert_with(|| {
            tracing::error!(%partition, %error, "the log is damaged: the {reader} waits in partition \
                {partition} and goes on in the others; run `oms log audit`");
            Held {
                until: now,
                backoff: Backoff::new(RETRY.0, RETRY.1),
            }
        });
        held.until = now + held.backoff.pause();
        self.halts.failed(reader, Some(partition), error);
        metrics::log_damaged(self.reader, partition, true);
    }

    /// A partition was read on.
    pub fn goes_on(&mut self, partition: PartitionId) {
        let held = self.held.remove(&partition).is_some();
        // A previous incarnation of the reader may have reported it.
        if self.halts.goes_on(self.reader, Some(partition)) || held {
            let reader = self.reader;
            tracing::info!(%partition, "the {reader} goes on in partition {partition}");
            metrics::log_damaged(self.reader, partition, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_partition_waits_longer_each_time_until_it_is_read_on() {
        let (one, other, now) = (PartitionId(1), PartitionId(2), Instant::now());
        let error = StoreError::corrupt("s3", "read", "torn");
        assert!(CorruptPartitions::is_damage(&error));
        let halts = Halts::new(crate::clock::now);
        let mut damaged = CorruptPartitions::new("outbox", halts.clone());
        damaged.note(one, &error, now);
        assert_eq!(halts.list()[0].partition, Some(one));
        assert!(damaged.holds(one, now) && !damaged.holds(other, now));
        assert!(!damaged.holds(one, now + RETRY.0));
        for _ in 0..20 {
            damaged.note(one, &error, now);
        }
        assert!(damaged.holds(one, now + RETRY.1 / 2 - RETRY.0));
        assert!(!damaged.holds(one, now + RETRY.1));
        damaged.goes_on(one);
        assert!(!damaged.holds(one, now));
        // The next incarnation takes back what this one said.
        damaged.note(one, &error, now);
        CorruptPartitions::new("outbox", halts.clone()).goes_on(one);
        assert_eq!(halts.list(), []);
    }
}
