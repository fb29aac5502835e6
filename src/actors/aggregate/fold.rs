//! Rebuilding an aggregate's state: the newest usable snapshot, then the events after it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::actors::error::CallError;
use crate::actors::event_store::{LogWriter, ReadPlace};
use crate::domain::aggregate::{Aggregate, DomainEvent, EventMeta};
use crate::domain::event::Envelope;
use crate::domain::ids::{Position, StreamName, Version};
use crate::flaws::{Flaw, strikes};
use crate::log::identity::LogId;
use crate::log::object::ObjectHash;
use crate::store::alarms;
use crate::store::log::log_reader::StoredEvent;

/// Events read at once while folding: bounds memory for a long stream.
const FOLD_CHUNK: u64 = 1000;

/// Bytes read at once while folding.
const FOLD_BYTES: usize = 8 << 20;

/// Bytes of a snapshot beside its state: format, version, and the event that it was taken at.
const SNAPSHOT_HEAD: usize = 512;

#[derive(Debug, Clone)]
pub struct Folded<A> {
    pub state: A,
    pub version: Version,
}

/// Identifies the event that a snapshot was taken at: by its place in the log and the hash of its
/// bytes, so that an event of another log, or of a restored one, is told apart.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Footing {
    log: Option<LogId>,
    position: Position,
    sha256: ObjectHash,
}

impl Footing {
    fn of(log: Option<LogId>, event: &StoredEvent) -> Self {
        Self {
            log,
            position: event.position,
            sha256: ObjectHash::of(&event.bytes),
        }
    }

    /// Why the snapshot is not of this event; `None` if it is. Place and hash decide; the id of the
    /// log only tells the reason.
    fn refusal(&self, ours: &Self) -> Option<&'static str> {
        if (self.position, self.sha256) == (ours.position, ours.sha256) {
            return None;
        }
        let other = self.log.is_some() && ours.log.is_some() && self.log != ours.log;
        Some(if other { "other_log" } else { "diverged" })
    }
}

#[derive(Serialize)]
struct SnapshotRef<'a> {
    format: u32,
    version: Version,
    on: Footing,
    state_sha256: ObjectHash,
    state: &'a RawValue,
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    format: u32,
    version: Version,
    /// None in those of older builds: nothing tells whose they are, or whether their state is as it was
    /// written.
    #[serde(default)]
    on: Option<Footing>,
    #[serde(default)]
    state_sha256: Option<ObjectHash>,
    #[serde(borrow)]
    state: &'a RawValue,
}

/// What was found for a snapshot.
enum Start<A> {
    /// A state, with the version it is folded to.
    At(Folded<A>),
    /// No snapshot can be used.
    None,
    /// The snapshot does not belong to this log; a new one has to overwrite it.
    Refused(&'static str),
}

/// What was found, if there was room to read it.
enum Found<A> {
    Start(Start<A>),
    /// It is larger than expected: so many bytes are needed.
    NoRoom(usize),
}

/// The interval of snapshots, in versions of a stream.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotEvery(pub u64);

impl SnapshotEvery {
    fn interval(self, version: Version) -> u64 {
        version.0 / self.0.max(1)
    }

    /// The first version at which the snapshot of an interval may be taken.
    fn first(self, interval: u64) -> Version {
        Version(interval.saturating_mul(self.0.max(1)))
    }

    /// Whether a snapshot is due when a stream moves from one version to another.
    pub fn is_due(self, before: Version, after: Version) -> bool {
        self.interval(after) > self.interval(before)
    }
}

pub async fn fold<A: Aggregate>(
    store: &LogWriter,
    stream: &StreamName,
    to: Version,
    every: SnapshotEvery,
) -> Result<Folded<A>, CallError> {
    let mut folded = Folded {
        state: A::default(),
        version: Version::NONE,
    };
    let mut refused = false;
    let newest = every.interval(to);
    // The snapshot of the newest interval may be ahead of `to`, or may not have been written.
    for interval in (1..=newest).rev().take(2) {
        match start_from_snapshot(store, stream, to, every, interval).await? {
            Start::At(found) => {
                folded = found;
                break;
            }
            Start::None => {}
            Start::Refused(reason) => {
                refused = true;
                alarms::refused_snapshot(reason);
                tracing::warn!(%stream, interval, reason, "a snapshot is not used");
            }
        }
    }
    fold_on(store, stream, &mut folded, to).await?;
    if refused && let Err(error) = save_snapshot(store, stream, &folded.state, to, every).await {
        // A snapshot is derived: without it the next activation reads more events.
        tracing::warn!(%stream, %to, %error, "no snapshot in the place of one that is not used");
    }
    Ok(folded)
}

/// Folds on from where `folded` is, up to `to`.
pub async fn fold_on<A: Aggregate>(
    store: &LogWriter,
    stream: &StreamName,
    folded: &mut Folded<A>,
    to: Version,
) -> Result<(), CallError> {
    while folded.version < to {
        let first = folded.version.plus(1);
        let last = Version(to.0.min(folded.version.0 + FOLD_CHUNK));
        let range = (first, last);
        let read = store.read_within(stream, range, false, FOLD_BYTES).await?;
        if read.events.is_empty() {
            return Err(CallError::Internal(format!(
                "{stream} should have version {last}, but the index ends at {}",
                folded.version
            )));
        }
        take(folded, &read.events, to)?;
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

/// Finds the snapshot to start from. Snapshots only save reading: without one the events give the
/// same state. It is used only if the log holds the very event it was taken at, which is read
/// together with the events after it.
async fn start_from_snapshot<A: Aggregate>(
    store: &LogWriter,
    stream: &StreamName,
    to: Version,
    every: SnapshotEvery,
    interval: u64,
) -> Result<Start<A>, CallError> {
    let expected = expected_bytes(store, stream, (every.first(interval), to))?;
    let mut place = store.read_room().place(expected).await;
    loop {
        match read_snapshot(store, stream, to, interval, &mut place).await? {
            Found::Start(start) => return Ok(start),
            // Dropped by now, and read again.
            Found::NoRoom(needed) => place.wait_for(needed).await,
        }
    }
}

async fn read_snapshot<A: Aggregate>(
    store: &LogWriter,
    stream: &StreamName,
    to: Version,
    interval: u64,
    place: &mut ReadPlace,
) -> Result<Found<A>, CallError> {
    let refused = |reason| Ok(Found::Start(Start::Refused(reason)));
    let bytes = match store.log().snapshot(stream, interval).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Found::Start(Start::None)),
        // Not taken anew: where it cannot be read it may not be written either.
        Err(error) => {
            alarms::refused_snapshot("unreadable");
            tracing::warn!(%stream, %error, "a snapshot cannot be read: all events are");
            return Ok(Found::Start(Start::None));
        }
    };
    let Ok(snapshot) = serde_json::from_slice::<Snapshot<'_>>(&bytes) else {
        return refused("damaged");
    };
    if snapshot.format != A::SNAPSHOT_FORMAT {
        return refused("format");
    }
    let (Some(on), Some(sha256)) = (snapshot.on, snapshot.state_sha256) else {
        return refused("unmarked");
    };
    if ObjectHash::of(snapshot.state.get().as_bytes()) != sha256 {
        return refused("damaged");
    }
    if snapshot.version > to {
        return Ok(Found::Start(Start::None));
    }
    let last = Version(to.0.min(snapshot.version.0 + FOLD_CHUNK));
    let range = (snapshot.version, last);
    let needed = snapshot_room(bytes.len(), store.event_bytes(stream, range)?);
    if !place.try_grow(needed) {
        return Ok(Found::NoRoom(needed));
    }
    let Ok(state) = serde_json::from_str::<A>(snapshot.state.get()) else {
        return refused("damaged");
    };
    let events = store.read_with_room(stream, range, FOLD_BYTES).await?;
    let first = events.first().filter(|e| e.version == snapshot.version);
    let Some(first) = first else {
        return refused("log_behind");
    };
    if let Some(reason) = on.refusal(&Footing::of(store.log().id(), first)) {
        return refused(reason);
    }
    let mut folded = Folded {
        state,
        version: snapshot.version,
    };
    take(&mut folded, &events[1..], to)?;
    Ok(Found::Start(Start::At(folded)))
}

/// Bytes that a snapshot taken at one of these events takes while it is read, with the events after
/// it. Events of entities hold the state that they leave behind, so that a snapshot is hardly larger
/// than the largest of them.
fn expected_bytes(
    store: &LogWriter,
    stream: &StreamName,
    range: (Version, Version),
) -> Result<usize, CallError> {
    let events = store.event_bytes(stream, range)?;
    let (largest, _) = events;
    Ok(snapshot_room(largest + SNAPSHOT_HEAD, events))
}

/// Bytes that a snapshot takes as it is stored and as a state, with the events that are read next: of
/// the `largest` and `all` of these so many bytes.
fn snapshot_room(snapshot: usize, (largest, all): (usize, usize)) -> usize {
    2 * snapshot + all.min(FOLD_BYTES.max(largest))
}

/// Applies events that follow one another.
fn take<A: Aggregate>(
    folded: &mut Folded<A>,
    events: &[StoredEvent],
    to: Version,
) -> Result<(), CallError> {
    for event in events {
        if event.version < to || !strikes(Flaw::RebuildShort, 3) {
            apply_stored(&mut folded.state, &event.bytes)?;
        }
        folded.version = event.version;
    }
    Ok(())
}

pub async fn save_snapshot<A: Aggregate>(
    store: &LogWriter,
    stream: &StreamName,
    state: &A,
    version: Version,
    every: SnapshotEvery,
) -> Result<(), CallError> {
    let events = store.read(stream, version, version).await?;
    let Some(event) = events.first() else {
        return Err(CallError::Internal(format!(
            "{stream} has no version {version} to take a snapshot at"
        )));
    };
    let internal = |e: serde_json::Error| CallError::Internal(e.to_string());
    let state = to_raw_value(state).map_err(internal)?;
    let snapshot = SnapshotRef {
        format: A::SNAPSHOT_FORMAT,
        version,
        on: Footing::of(store.log().id(), event),
        state_sha256: ObjectHash::of(state.get().as_bytes()),
        state: &state,
    };
    let body = serde_json::to_vec(&snapshot).map_err(internal)?;
    store
        .log()
        .save_snapshot(stream, every.interval(version), Bytes::from(body))
        .await?;
    Ok(())
}
