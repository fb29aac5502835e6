//! Rebuilding an aggregate's state: the newest usable snapshot, then the events after it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::actors::error::CallError;
use crate::actors::event_store::EventStore;
use crate::domain::aggregate::{Aggregate, DomainEvent, EventMeta};
use crate::domain::event::Envelope;
use crate::domain::ids::{StreamName, Version};
use crate::flaws::{Flaw, strikes};

/// Events read at once: bounds what a long stream holds in memory while it is folded.
const FOLD_CHUNK: u64 = 1000;

/// Bytes of them.
const FOLD_BYTES: usize = 8 << 20;

/// A state with the version it is of.
#[derive(Debug, Clone)]
pub struct Folded<A> {
    /// The state.
    pub state: A,
    /// The version.
    pub version: Version,
}

#[derive(Serialize)]
struct SnapshotRef<'a, A> {
    format: u32,
    version: Version,
    state: &'a A,
}

#[derive(Deserialize)]
struct Snapshot<A> {
    format: u32,
    version: Version,
    state: A,
}

/// Where snapshots are taken and found.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotEvery(pub u64);

impl SnapshotEvery {
    fn bucket(self, version: Version) -> u64 {
        version.0 / self.0.max(1)
    }

    /// Whether a snapshot is due when a stream moves from one version to another.
    pub fn is_due(self, before: Version, after: Version) -> bool {
        self.bucket(after) > self.bucket(before)
    }
}

/// Folds a stream up to `to`.
pub async fn fold<A: Aggregate>(
    store: &EventStore,
    stream: &StreamName,
    to: Version,
    every: SnapshotEvery,
) -> Result<Folded<A>, CallError> {
    let mut folded = start_from_snapshot(store, stream, to, every).await;
    fold_on(store, stream, &mut folded, to).await?;
    Ok(folded)
}

/// Folds on from where `folded` is, up to `to`.
pub async fn fold_on<A: Aggregate>(
    store: &EventStore,
    stream: &StreamName,
    folded: &mut Folded<A>,
    to: Version,
) -> Result<(), CallError> {
    while folded.version < to {
        let first = folded.version.plus(1);
        let last = Version(to.0.min(folded.version.0 + FOLD_CHUNK));
        let range = (first, last);
        let events = store.read_within(stream, range, false, FOLD_BYTES).await?;
        if events.is_empty() {
            return Err(CallError::Internal(format!(
                "{stream} should have version {last}, but the index ends at {}",
                folded.version
            )));
        }
        for event in &events {
            if event.version < to || !strikes(Flaw::RebuildShort, 3) {
                apply_stored(&mut folded.state, &event.bytes)?;
            }
            folded.version = event.version;
        }
    }
    Ok(())
}

/// Applies one stored event to a state.
pub fn apply_stored<A: Aggregate>(state: &mut A, bytes: &[u8]) -> Result<(), CallError> {
    let envelope = Envelope::parse(bytes).map_err(|e| CallError::Internal(e.to_string()))?;
    let event = A::Event::decode(&envelope.event_type, envelope.schema_version, envelope.data)
        .map_err(|e| CallError::Internal(e.to_string()))?;
    let meta = EventMeta {
        version: envelope.version,
        time: envelope.time,
    };
    state.apply(event, meta);
    Ok(())
}

/// A snapshot is only a shortcut: whatever is wrong with it, the events give the same state.
async fn start_from_snapshot<A: Aggregate>(
    store: &EventStore,
    stream: &StreamName,
    to: Version,
    every: SnapshotEvery,
) -> Folded<A> {
    let newest = every.bucket(to);
    // The snapshot of the newest bucket may be ahead of `to`, or may not have been written.
    for bucket in (1..=newest).rev().take(2) {
        let Ok(Some(bytes)) = store.log().snapshot(stream, bucket).await else {
            continue;
        };
        match serde_json::from_slice::<Snapshot<A>>(&bytes) {
            Ok(s) if s.format == A::SNAPSHOT_FORMAT && s.version <= to => {
                return Folded {
                    state: s.state,
                    version: s.version,
                };
            }
            _ => {}
        }
    }
    Folded {
        state: A::default(),
        version: Version::NONE,
    }
}

/// Stores a snapshot of a state.
pub async fn save_snapshot<A: Aggregate>(
    store: &EventStore,
    stream: &StreamName,
    state: &Arc<A>,
    version: Version,
    every: SnapshotEvery,
) -> Result<(), CallError> {
    let snapshot = SnapshotRef {
        format: A::SNAPSHOT_FORMAT,
        version,
        state: &**state,
    };
    let body = serde_json::to_vec(&snapshot).map_err(|e| CallError::Internal(e.to_string()))?;
    store
        .log()
        .save_snapshot(stream, every.bucket(version), Bytes::from(body))
        .await?;
    Ok(())
}
