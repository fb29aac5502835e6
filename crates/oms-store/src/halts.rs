//! What does not go on, and since when: a component with endless work that is halted, entirely or
//! in one partition, reports that here, and withdraws it when it goes on. `/health` shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::error::{StoreError, StoreErrorKind};
use crate::metrics;
use oms_core::domain::ids::PartitionId;

/// How long something may wait for a store before it is reported: retries bridge shorter outages.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Writes the log into the outbox.
pub const OUTBOX: &str = "outbox";
/// Publishes to Kafka.
pub const RELAY: &str = "relay";
/// Keeps the read model.
pub const PROJECTION: &str = "projection";
/// Keeps the copy in the store that does not lead, and copies history.
pub const COPY: &str = "copy";
/// Writes of a partition.
pub const WRITES: &str = "writes";
/// Moves the lead of a partition.
pub const HAND_OFF: &str = "hand_off";

/// A halt. It is public, so it contains no message of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Halted))]
pub struct Halt {
    /// The component: `writes`, `hand_off`, `copy`, `outbox`, `relay`, `projection`, or a kind of
    /// job.
    pub what: &'static str,
    /// The partition in which it is halted; absent: entirely.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub partition: Option<PartitionId>,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: &'static str,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    since: Timestamp,
    at: Instant,
    may_pass: bool,
    reason: &'static str,
}

type Entries = BTreeMap<(&'static str, Option<PartitionId>), Entry>;

#[derive(Debug)]
struct Inner {
    clock: fn() -> Timestamp,
    entries: Mutex<Entries>,
}

/// Sets the metric: in how many places a component is halted.
fn show(entries: &Entries, what: &'static str) {
    let places = entries.keys().filter(|(halted, _)| *halted == what);
    metrics::halted(what, places.count());
}

/// The current halts of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Halts(Arc<Inner>);

impl Halts {
    /// No halts; `clock` gives the time at which one begins.
    pub fn new(clock: fn() -> Timestamp) -> Self {
        for what in [OUTBOX, RELAY, PROJECTION, COPY, WRITES, HAND_OFF] {
            metrics::halted(what, 0);
        }
        Self(Arc::new(Inner {
            clock,
            entries: Mutex::default(),
        }))
    }
}

/// A failure's reason in public terms.
pub fn reason_of(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Unavailable | StoreErrorKind::Timeout | StoreErrorKind::Throttled => {
            "a store does not answer"
        }
        StoreErrorKind::Full => "a store has no room left",
        StoreErrorKind::Denied => {
            "a store refuses this service's credentials or permissions, or shows a certificate that is \
             not trusted"
        }
        StoreErrorKind::Corrupt => {
            "what is stored there is damaged or of another log: see the log of the service, and run \
             `oms log audit`"
        }
        StoreErrorKind::NotFound
        | StoreErrorKind::Conflict
        | StoreErrorKind::Invalid
        | StoreErrorKind::Closed => "a store refuses it: see the log of the service",
    }
}

impl Halts {
    /// Reports a failure. A temporary one is shown only after [`PATIENCE`].
    pub fn failed(&self, what: &'static str, partition: Option<PartitionId>, error: &StoreError) {
        self.set(what, partition, reason_of(error.kind), error.is_transient());
    }

    /// Reports a halt with this reason; `may_pass`: shown only after [`PATIENCE`].
    pub fn set(
        &self,
        what: &'static str,
        partition: Option<PartitionId>,
        reason: &'static str,
        may_pass: bool,
    ) {
        let mut entries = self.0.entries.lock();
        let entry = entries.entry((what, partition)).or_insert_with(|| Entry {
            since: (self.0.clock)(),
            at: Instant::now(),
            may_pass,
            reason,
        });
        entry.may_pass = may_pass;
        entry.reason = reason;
        show(&entries, what);
    }

    /// Withdraws a halt; returns whether there was one.
    pub fn goes_on(&self, what: &'static str, partition: Option<PartitionId>) -> bool {
        let mut entries = self.0.entries.lock();
        let was_halted = entries.remove(&(what, partition)).is_some();
        if was_halted {
            show(&entries, what);
        }
        was_halted
    }

    /// Shows in how many partitions something does not go on, with those that somebody else knows of
    /// and forgets by himself.
    pub fn measure(&self, what: &'static str, others: &[Halt]) {
        metrics::halted(what, self.places(what, others));
    }

    fn places(&self, what: &'static str, others: &[Halt]) -> usize {
        let entries = self.0.entries.lock();
        let ours = entries.keys().filter(|(halted, _)| *halted == what);
        let others = others.iter().filter(|halt| halt.what == what);
        let places: BTreeSet<Option<PartitionId>> = ours
            .map(|(_, partition)| *partition)
            .chain(others.map(|halt| halt.partition))
            .collect();
        places.len()
    }

    /// The halts to be shown.
    pub fn list(&self) -> Vec<Halt> {
        let entries = self.0.entries.lock();
        let told = entries
            .iter()
            .filter(|(_, entry)| !entry.may_pass || entry.at.elapsed() >= PATIENCE);
        told.map(|(&(what, partition), entry)| Halt {
            what,
            partition,
            since: entry.since,
            reason: entry.reason,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_halts_is_told_with_its_partition_and_since_when_it_first_did() {
        let halts = Halts::new(|| Timestamp::UNIX_EPOCH);
        let p = Some(PartitionId(3));
        halts.failed(
            PROJECTION,
            p,
            &StoreError::corrupt("s3", "read", "10.0.0.7 is torn"),
        );
        let first = halts.list();
        assert_eq!((first[0].what, first[0].partition), (PROJECTION, p));
        assert!(!first[0].reason.contains("10.0.0.7"));
        tokio::time::advance(PATIENCE).await;
        halts.failed(PROJECTION, p, &StoreError::corrupt("s3", "read", "torn"));
        assert_eq!(halts.list(), first, "since when does not move");
        assert!(!halts.goes_on(PROJECTION, None) && halts.goes_on(PROJECTION, p));
        assert_eq!(halts.list(), []);
    }

    #[test]
    fn a_place_that_two_know_of_counts_once() {
        let halts = Halts::new(|| Timestamp::UNIX_EPOCH);
        let denied = StoreError::determinate(StoreErrorKind::Denied, "s3", "put", "no");
        halts.failed(WRITES, Some(PartitionId(0)), &denied);
        halts.failed(COPY, Some(PartitionId(3)), &denied);
        let known = |what, partition| Halt {
            what,
            partition: Some(PartitionId(partition)),
            since: Timestamp::UNIX_EPOCH,
            reason: "a store does not answer",
        };
        let others = [known(WRITES, 0), known(WRITES, 1), known(RELAY, 2)];
        assert_eq!(halts.places(WRITES, &others), 2);
        assert_eq!(halts.places(WRITES, &[]), 1);
        assert_eq!(halts.places(OUTBOX, &others), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_for_a_moment_is_no_halt() {
        let halts = Halts::new(|| Timestamp::UNIX_EPOCH);
        let kind = StoreErrorKind::Unavailable;
        let away = StoreError::determinate(kind, "postgres", "tail", "refused");
        halts.failed(OUTBOX, None, &away);
        assert_eq!(halts.list(), []);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(halts.list().len(), 1);
    }
}
