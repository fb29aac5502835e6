//! The event store: one writer per partition, behind one handle.
//!
//! The writer ([`actor`]) forms commit objects and puts them one after the other, into the store
//! that leads; the partition's index is shared for reading, so reads never queue behind writes.
//!
//! * [`opening`]: reads a partition to the end of the log; [`tail`]: reads on from there
//! * [`reading`]: reads of events through the index; [`states`]: the stage of each partition
//! * [`put`]: finds out who owns an offset; [`settle`]: handles the outcome; [`waiting`]: answers
//!   callers; [`checkpoint`]: saves the index for the next start

pub mod actor;
mod checkpoint;
mod opening;
mod put;
mod read_room;
mod reading;
mod settle;
mod states;
mod tail;
mod waiting;
pub mod writer_deps;

pub use self::read_room::{ReadPlace, ReadRoom};
pub use self::reading::HeldEvents;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use self::actor::{AppendMessage, CatchUp, EventStoreActor, SaveCheckpoint};
use crate::actors::claim::Claim;
use crate::actors::supervision::handle::Handle;
use crate::domain::event::EncodedEvents;
use crate::domain::ids::{CommandId, PartitionId, StreamName, Version};
use crate::domain::trace::TraceContext;
use crate::domain::weight::{MAX_APPEND_BYTES, MAX_EVENT_BYTES, MAX_READ_BYTES};
use crate::flaws::{Flaw, flawed};
use crate::log::batch::AppendOutcome;
use crate::log::lead::Leadership;
use crate::log::partition::PartitionLog;
use crate::log::recent_commands::KeyBounds;
use crate::migration::partition_state::PartitionStates;
use crate::migration::stage::Stage;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::halts::{Halt, WRITES, reason_of};
use crate::store::log::log_heads::LogHeads;
use crate::store::log::log_reader::LogReader;

#[derive(Debug, Clone, Copy)]
pub struct EventStoreSettings {
    /// Events in one commit object at most.
    pub batch_events: usize,
    /// Bytes of events in one commit object, and in one append, at most.
    pub batch_bytes: usize,
    /// Bytes of one instance, class, database or plain event at most.
    pub max_event_bytes: usize,
    /// How long a batch waits for more commands at most. It waits only while fewer are queued than
    /// the batch before carried, so a lone writer never waits.
    pub linger: Duration,
    /// How long a put is tried before its callers are told that the outcome is unknown.
    pub append_deadline: Duration,
    /// How often an idle writer checks whether another process has written.
    pub tail_interval: Duration,
    /// Commits between two checkpoints of the index.
    pub checkpoint_commits: usize,
    /// How long an answer waits for the copy in the other store.
    pub mirror_patience: Duration,
    /// How many idempotency keys a partition keeps, and for how long.
    pub keys: KeyBounds,
    /// Bytes of events that all who read hold at once, light reads aside.
    pub read_bytes: usize,
}

impl Default for EventStoreSettings {
    fn default() -> Self {
        Self {
            // Far above what arrives during one put, far below what makes a put slow.
            batch_events: 4096,
            batch_bytes: MAX_APPEND_BYTES,
            max_event_bytes: MAX_EVENT_BYTES,
            linger: Duration::from_millis(1),
            append_deadline: Duration::from_secs(10),
            tail_interval: Duration::from_millis(500),
            checkpoint_commits: 1024,
            // Some tens of round trips: a copy that takes longer is in trouble.
            mirror_patience: Duration::from_secs(1),
            keys: KeyBounds::default(),
            read_bytes: MAX_READ_BYTES,
        }
    }
}

/// How long after its deadline an append still waits for the writer's answer.
const MARGIN: Duration = Duration::from_millis(100);

/// How long a put that was given up counts as a sign that puts fail.
const FAILURE_COUNTS_FOR: Duration = Duration::from_secs(30);

/// How long after another process wrote it is expected to write again.
const OTHERS_COUNT_FOR: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
pub struct AppendRequest {
    pub stream: StreamName,
    /// The version that the events were decided on.
    pub expected: Version,
    pub command: CommandId,
    /// Hash of the request, if it had an idempotency key.
    pub request_hash: Option<u64>,
    /// The operation that waits for it, in its trace.
    pub trace: Option<TraceContext>,
    /// The events, encoded as versions `expected`+1, ….
    pub events: EncodedEvents,
    pub deadline: Instant,
}

/// The outcome of an append.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub verdict: AppendOutcome,
    /// The stage in which it was decided.
    pub stage: Stage,
    /// Whether the other store has it too.
    pub mirrored: bool,
}

/// Why an append has no outcome.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// It was not written.
    #[error("not written: {0}")]
    NotWritten(StoreError),
    /// It may have been written: the same append, sent again, finds out.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// It was not written, and never will be: no commit may be so large.
    #[error("not written: its events have {size} bytes, a commit may have {limit}")]
    TooLarge {
        /// Bytes of the append's events.
        size: usize,
        limit: usize,
    },
}

/// A partition, shared between its writer and all readers.
pub struct Partition {
    pub id: PartitionId,
    /// The index; `None` until the partition was opened.
    pub log: RwLock<Option<PartitionLog>>,
    /// The last control record read; the outer `None` until the bucket was read, the inner one if
    /// the log has none.
    pub known_leadership: Mutex<Option<Option<Leadership>>>,
    /// The last put that was given up; cleared by the next one that succeeds.
    pub gave_up: Mutex<Option<GaveUp>>,
    /// When events of another process were last read.
    pub others_wrote: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, Copy)]
pub struct GaveUp {
    pub at: Instant,
    /// When puts began to be given up, without one that succeeded since.
    pub since: Timestamp,
    pub kind: StoreErrorKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WritesFail {
    /// The store reports that it has no space left.
    NoRoom,
    /// Any other reason.
    Otherwise,
}

impl Partition {
    /// A partition of which nothing is known yet.
    pub fn new(id: PartitionId) -> Self {
        Self {
            id,
            log: RwLock::new(None),
            known_leadership: Mutex::new(None),
            gave_up: Mutex::new(None),
            others_wrote: Mutex::new(None),
        }
    }
}

/// How much space a partition takes.
#[derive(Debug, Clone, Copy)]
pub struct PartitionSize {
    pub partition: PartitionId,
    /// Bytes of its commit objects.
    pub stored_bytes: u64,
    /// Bytes of memory of its index.
    pub index_bytes: u64,
    /// Bytes of the idempotency keys kept, part of the index.
    pub key_bytes: u64,
}

struct Slot {
    shared: Arc<Partition>,
    writer: Handle<EventStoreActor>,
}

/// Handle of the partition writers and of the state they share.
#[derive(Clone)]
pub struct LogWriter {
    slots: Arc<Vec<Slot>>,
    log: Arc<LogReader>,
    heads: Arc<LogHeads>,
    states: watch::Receiver<PartitionStates>,
    append_bytes: usize,
    read_room: Arc<ReadRoom>,
}

impl LogWriter {
    /// `writers` are in the order of their partitions.
    pub fn new(
        log: Arc<LogReader>,
        heads: Arc<LogHeads>,
        writers: Vec<(Arc<Partition>, Handle<EventStoreActor>)>,
        states: watch::Receiver<PartitionStates>,
        settings: &EventStoreSettings,
    ) -> Self {
        let slots = writers
            .into_iter()
            .map(|(shared, writer)| Slot { shared, writer })
            .collect();
        Self {
            slots: Arc::new(slots),
            log,
            heads,
            states,
            append_bytes: settings.batch_bytes,
            read_room: ReadRoom::new(settings.read_bytes),
        }
    }

    /// One that only reads: without partitions nothing can be written.
    #[cfg(test)]
    pub fn reader(
        log: Arc<LogReader>,
        heads: Arc<LogHeads>,
        settings: &EventStoreSettings,
    ) -> Self {
        let (_, states) = watch::channel(Vec::new());
        Self::new(log, heads, Vec::new(), states, settings)
    }

    /// Bytes of events of the largest commit that is written now; older ones may be larger.
    pub fn commit_bytes(&self) -> usize {
        self.append_bytes
    }

    /// Room for what is read.
    pub fn read_room(&self) -> &Arc<ReadRoom> {
        &self.read_room
    }

    pub fn log(&self) -> &Arc<LogReader> {
        &self.log
    }

    pub fn heads(&self) -> &Arc<LogHeads> {
        &self.heads
    }

    fn slot(&self, partition: PartitionId) -> &Slot {
        // Stream partitions are taken modulo the number of slots.
        &self.slots[usize::from(partition.0)]
    }

    fn slot_of(&self, stream: &StreamName) -> &Slot {
        self.slot(self.log.partition_of(stream))
    }

    /// Appends one command's events and waits for the outcome until the request's deadline.
    ///
    /// An append that is too large for any commit is refused here. In the queue it would hold up
    /// its neighbours, and the failed put would be taken for a failing store.
    pub async fn append(&self, request: AppendRequest) -> Result<Answer, AppendError> {
        let (size, limit) = (request.events.bytes.len(), self.append_bytes);
        if size > limit {
            return Err(AppendError::TooLarge { size, limit });
        }
        let slot = self.slot_of(&request.stream);
        let (reply, mut verdict) = oneshot::channel();
        let deadline = request.deadline;
        let claim = Claim::default();
        let _owed = slot.writer.node().call();
        // A writer that dies drops the message and with it `reply`, which is noticed below.
        let message = AppendMessage {
            request,
            reply,
            claim: claim.clone(),
        };
        if !slot.writer.tell(message) {
            return Err(AppendError::NotWritten(not_open()));
        }
        let mut answer = tokio::time::timeout_at(deadline, &mut verdict).await;
        if answer.is_err() && !claim.withdraw() {
            // It is in a batch that is being put.
            answer = tokio::time::timeout_at(deadline + MARGIN, &mut verdict).await;
            if answer.is_err() && !claim.withdraw() {
                return Err(AppendError::Unknown("no answer in time".into()));
            }
        }
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(AppendError::Unknown("the writer was restarted".into())),
            // It was still in the queue.
            Err(_) => Err(AppendError::NotWritten(waiting::too_late())),
        }
    }

    /// Whether every partition was opened.
    pub fn is_open(&self) -> bool {
        self.slots.iter().all(|s| s.shared.log.read().is_some())
    }

    /// Waits until the stream's partition is open. The caller bounds the wait.
    pub async fn opened(&self, stream: &StreamName) {
        let shared = &self.slot_of(stream).shared;
        // The opening of a partition notifies `heads`; subscribed before the check, so that none is
        // missed.
        let mut news = self.heads.subscribe();
        while shared.log.read().is_none() {
            if news.changed().await.is_err() {
                return;
            }
        }
    }

    /// Why puts of some partition fail, if they do; reads may work meanwhile. Forgotten after a
    /// while without an attempt, since callers that trust it would send no write that could show
    /// otherwise.
    pub fn writes_fail(&self) -> Option<WritesFail> {
        let mut why = None;
        for (_, gave_up) in self.given_up() {
            match gave_up.kind {
                StoreErrorKind::Full => why = Some(WritesFail::NoRoom),
                _ => return Some(WritesFail::Otherwise),
            }
        }
        why
    }

    /// The partitions whose puts fail, and since when.
    pub fn refusing(&self) -> Vec<Halt> {
        let halt = |(partition, gave_up): (PartitionId, GaveUp)| Halt {
            what: WRITES,
            partition: Some(partition),
            since: gave_up.since,
            reason: reason_of(gave_up.kind),
        };
        self.given_up().map(halt).collect()
    }

    fn given_up(&self) -> impl Iterator<Item = (PartitionId, GaveUp)> + '_ {
        self.slots.iter().filter_map(|slot| {
            let gave_up = *slot.shared.gave_up.lock();
            let recent = gave_up.filter(|g| g.at.elapsed() < FAILURE_COUNTS_FOR)?;
            Some((slot.shared.id, recent))
        })
    }

    /// The partitions that are not open yet.
    pub fn not_open(&self) -> Vec<PartitionId> {
        let closed = |slot: &&Slot| slot.shared.log.read().is_none();
        self.slots
            .iter()
            .filter(closed)
            .map(|s| s.shared.id)
            .collect()
    }

    /// The last control record seen in a partition; the outer `None` while nothing was read.
    pub fn known_leadership(&self, partition: PartitionId) -> Option<Option<Leadership>> {
        let shared = &self.slot(partition).shared;
        match &*shared.log.read() {
            Some(log) => Some(log.leadership()),
            None => *shared.known_leadership.lock(),
        }
    }

    /// Reads what other processes have committed to the stream's partition, so that what follows
    /// sees every write acknowledged before this call.
    pub async fn catch_up(&self, stream: &StreamName) -> Result<(), StoreError> {
        self.catch_up_partition(self.log.partition_of(stream)).await
    }

    /// [`Self::catch_up`] for a whole partition.
    pub async fn catch_up_partition(&self, partition: PartitionId) -> Result<(), StoreError> {
        if flawed(Flaw::AnswerStale) {
            return Ok(());
        }
        match self.slot(partition).writer.call(CatchUp).await {
            Ok(caught_up) => caught_up,
            Err(_) => Err(not_open()),
        }
    }

    /// [`Self::catch_up`] for every partition, concurrently.
    pub async fn catch_up_all(&self) -> Result<(), StoreError> {
        let all = self.log.partition_ids().map(|p| self.catch_up_partition(p));
        futures_util::future::try_join_all(all).await.map(|_| ())
    }

    /// Whether another process has written lately, so that this one may not know all events.
    pub fn others_write(&self) -> bool {
        self.slots.iter().any(|slot| {
            let at = *slot.shared.others_wrote.lock();
            at.is_some_and(|at| at.elapsed() < OTHERS_COUNT_FOR)
        })
    }

    /// Size of log and index of each partition, as far as this process has read.
    pub fn sizes(&self) -> Vec<PartitionSize> {
        let size = |slot: &Slot| {
            let log = slot.shared.log.read();
            let index = log.as_ref()?.index();
            Some(PartitionSize {
                partition: slot.shared.id,
                stored_bytes: index.stored_bytes(),
                index_bytes: index.memory_bytes() as u64,
                key_bytes: index.commands().key_bytes() as u64,
            })
        };
        self.slots.iter().filter_map(size).collect()
    }

    /// Stores a checkpoint of every partition's index; at shutdown.
    pub async fn save_checkpoints(&self) {
        for slot in self.slots.iter() {
            // A writer that has stopped has nothing to save; the next start reads the log instead.
            if slot.writer.call(SaveCheckpoint).await.is_err() {
                tracing::warn!(partition = %slot.shared.id, "no checkpoint: the writer is gone");
            }
        }
    }
}

fn not_open() -> StoreError {
    StoreError::determinate(
        StoreErrorKind::Unavailable,
        "s3",
        "open partition",
        "the partition is not open yet",
    )
}
