//! The writer of one partition: forms a batch, puts it, settles it, one after the other. What
//! arrives while a put is in flight forms the next batch, so the busier the partition the fewer
//! puts an event costs.
//!
//! ```text
//!   Opening ──opened──▶ Idle ──appends queued──▶ Putting ──owner known──▶ Idle
//!                        └──tick, or asked to──▶ Tailing ──end reached──▶ Idle
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use actix::prelude::*;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant, sleep};

use super::put::{Unsettled, find_owner};
use super::{AppendError, AppendRequest, EventStoreSettings, Partition};
use crate::actors::supervision::guard::{GuardSettings, start_guarded};
use crate::domain::ids::{PartitionId, WriterId};
use crate::domain::time::{Clock, new_uuid};
use crate::log::object::{CommitKind, CommitObject, ControlRecord, CorruptObject};
use crate::log::partition::{Append, Batch, BatchLimits, Owner, PartitionLog, Stamp, Verdict};
use crate::log::segment::Segment;
use crate::metrics;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::event_log::EventLog;
use crate::store::log_heads::LogHeads;

/// Pause between two tries to open a partition while the store does not answer.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// Commits read in one round of catching up; bounds what a round holds in memory.
const TAIL_ROUND: u64 = 256;

/// Commits asked for at a time while catching up.
const TAIL_AHEAD: usize = 16;

/// What a writer needs.
pub struct WriterDeps {
    /// The log.
    pub log: Arc<EventLog>,
    /// The partition, shared with readers.
    pub shared: Arc<Partition>,
    /// Where the new head is announced.
    pub heads: Arc<LogHeads>,
    /// How it works.
    pub settings: EventStoreSettings,
    /// Stamps the objects.
    pub clock: Arc<dyn Clock>,
}

/// Starts the guarded writer of a partition.
pub fn start(
    arbiter: &actix_rt::ArbiterHandle,
    guard: GuardSettings,
    deps: WriterDeps,
) -> Addr<EventStoreActor> {
    let deps = Arc::new(deps);
    start_guarded(arbiter, guard, move || EventStoreActor::new(deps))
}

/// An append on its way to the writer.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AppendMessage {
    /// What to append.
    pub request: AppendRequest,
    /// Who waits for the verdict.
    pub reply: oneshot::Sender<Result<Verdict, AppendError>>,
}

/// Reads what other processes have committed.
#[derive(Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct CatchUp;

/// Stores a checkpoint of the index.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SaveCheckpoint;

/// Whoever waits for a verdict.
#[derive(Debug)]
struct Waiting {
    reply: oneshot::Sender<Result<Verdict, AppendError>>,
    deadline: Instant,
}

impl Waiting {
    /// A caller that has gone away needs no answer, so whether the answer arrives is its affair.
    fn answer(self, verdict: Result<Verdict, AppendError>) {
        drop(self.reply.send(verdict));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Idle,
    Putting,
    Tailing,
}

/// See the module.
pub struct EventStoreActor {
    deps: Arc<WriterDeps>,
    phase: Phase,
    queue: VecDeque<Append<Waiting>>,
    /// Whoever wants to know that the log was read to its end since he asked.
    catching_up: Vec<oneshot::Sender<Result<(), StoreError>>>,
    /// Those of them who had asked before the put or tail that is under way began: only they may be
    /// told by its end.
    in_round: Vec<oneshot::Sender<Result<(), StoreError>>>,
    /// The log is known to go on: read it to its end before anything is put.
    behind: bool,
    writer: WriterId,
    batches: u64,
    /// Runs while a batch waits for company.
    lingering: Option<SpawnHandle>,
    /// Commands in the last batch: whoever got an answer may soon be back, so a smaller one waits
    /// a moment for them.
    last_batch: usize,
    checkpointing: bool,
    /// Commits without a checkpoint that make the next one due.
    checkpoint_at: usize,
}

impl EventStoreActor {
    fn new(deps: Arc<WriterDeps>) -> Self {
        let checkpoint_at = deps.settings.checkpoint_commits.max(1);
        Self {
            deps,
            phase: Phase::Opening,
            queue: VecDeque::new(),
            catching_up: Vec::new(),
            in_round: Vec::new(),
            behind: false,
            writer: WriterId(new_uuid()),
            batches: 0,
            lingering: None,
            last_batch: 0,
            checkpointing: false,
            checkpoint_at,
        }
    }

    fn id(&self) -> PartitionId {
        self.deps.shared.id
    }

    fn stamp(&mut self) -> Stamp {
        self.batches += 1;
        Stamp {
            writer: self.writer,
            batch: self.batches,
            at: self.deps.clock.now(),
        }
    }

    /// Begins whatever is due. Called after every change.
    fn proceed(&mut self, ctx: &mut Context<Self>) {
        if self.phase != Phase::Idle {
            return;
        }
        // Whoever the last round could not tell waits for the next one.
        self.catching_up.append(&mut self.in_round);
        if self.behind || (!self.catching_up.is_empty() && self.queue.is_empty()) {
            self.tail(ctx);
            return;
        }
        if self.queue.is_empty() {
            return;
        }
        if self.queue.len() >= self.last_batch || self.deps.settings.linger.is_zero() {
            self.put(ctx);
        } else if self.lingering.is_none() {
            let linger = self.deps.settings.linger;
            self.lingering = Some(ctx.run_later(linger, |actor, ctx| {
                actor.lingering = None;
                if actor.phase == Phase::Idle {
                    actor.put(ctx);
                }
            }));
        }
    }

    fn put(&mut self, ctx: &mut Context<Self>) {
        if let Some(lingering) = self.lingering.take() {
            ctx.cancel_future(lingering);
        }
        self.drop_expired();
        let stamp = self.stamp();
        let limits = BatchLimits {
            events: self.deps.settings.batch_events,
            bytes: self.deps.settings.batch_bytes,
        };
        let (verdicts, batch) = match &*self.deps.shared.log.read() {
            Some(log) => log.form(&mut self.queue, limits, stamp),
            None => return,
        };
        answer_all(verdicts);
        let Some(batch) = batch else {
            self.proceed_later(ctx);
            return;
        };
        self.last_batch = batch.commands();
        self.in_round.append(&mut self.catching_up);
        self.phase = Phase::Putting;
        let deps = self.deps.clone();
        let object = Arc::new(batch.object.clone());
        let deadline = Instant::now() + deps.settings.append_deadline;
        let put = {
            let object = object.clone();
            async move { find_owner(&deps.log, &object, deadline).await }
        };
        ctx.spawn(put.into_actor(self).map(move |owner, actor, ctx| {
            actor.phase = Phase::Idle;
            actor.settle(batch, object, owner);
            actor.checkpoint_if_due(ctx);
            actor.proceed(ctx);
        }));
    }

    /// Appends that were refused leave the queue shorter: look again, from a clean stack.
    fn proceed_later(&mut self, ctx: &mut Context<Self>) {
        let waiting = !self.catching_up.is_empty() || !self.in_round.is_empty();
        if !self.queue.is_empty() || waiting || self.behind {
            ctx.spawn(actix::fut::ready(()).map(|(), actor: &mut Self, ctx| actor.proceed(ctx)));
        }
    }

    /// Whoever has stopped waiting is told, determinately, that nothing was written.
    fn drop_expired(&mut self) {
        let now = Instant::now();
        if self.queue.iter().all(|append| append.reply.deadline > now) {
            return;
        }
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for append in self.queue.drain(..) {
            if append.reply.deadline > now {
                kept.push_back(append);
            } else {
                append
                    .reply
                    .answer(Err(AppendError::NotWritten(too_late())));
            }
        }
        self.queue = kept;
    }

    fn settle(
        &mut self,
        batch: Batch<Waiting>,
        object: Arc<CommitObject>,
        owner: Result<Owner, Unsettled>,
    ) {
        let owner = match owner {
            Ok(owner) => {
                *self.deps.shared.gave_up.lock() = None;
                owner
            }
            Err(unsettled) => {
                *self.deps.shared.gave_up.lock() = Some(Instant::now());
                tracing::warn!(partition = %self.id(), offset = object.header.offset,
                    commands = batch.commands(), may_be_there = unsettled.may_be_there,
                    error = %unsettled.error, "gave up on a put");
                for waiting in batch.abandon() {
                    waiting.answer(Err(if unsettled.may_be_there {
                        AppendError::Unknown(unsettled.error.to_string())
                    } else {
                        AppendError::NotWritten(unsettled.error.clone())
                    }));
                }
                return;
            }
        };
        let next = object.header.offset + 1;
        let settled = match &mut *self.deps.shared.log.write() {
            Some(log) => log.settle(batch, &owner),
            None => return,
        };
        match settled {
            Ok(settled) => {
                let in_log = match owner {
                    Owner::Us => object,
                    Owner::Found(found) => Arc::new(found),
                };
                if settled.lost_race {
                    metrics::race_lost();
                    self.behind = true;
                } else {
                    metrics::committed(&in_log);
                    self.caught_up(&Ok(()));
                }
                let is_control = in_log.header.kind == CommitKind::Control;
                self.deps.log.remember(in_log);
                self.deps.heads.advance(self.id(), next);
                if is_control {
                    self.deps.heads.nudge();
                }
                for append in settled.again.into_iter().rev() {
                    self.queue.push_front(append);
                }
                answer_all(settled.verdicts);
            }
            Err(unsettled) => {
                let error = self.corrupt(&unsettled.corrupt);
                for waiting in unsettled.batch.abandon() {
                    waiting.answer(Err(AppendError::NotWritten(error.clone())));
                }
            }
        }
    }

    /// Begins to read what other processes have committed.
    fn tail(&mut self, ctx: &mut Context<Self>) {
        let Some(from) = self
            .deps
            .shared
            .log
            .read()
            .as_ref()
            .map(PartitionLog::next_offset)
        else {
            return;
        };
        self.in_round.append(&mut self.catching_up);
        self.phase = Phase::Tailing;
        let deps = self.deps.clone();
        let read = async move {
            let partition = deps.shared.id;
            let objects = stream::iter(from..from + TAIL_ROUND)
                .map(|offset| deps.log.commit(partition, offset))
                .buffered(TAIL_AHEAD);
            // The first one decides whether there is anything at all: in most cases there is not.
            let Some(first) = deps.log.commit(partition, from).await? else {
                return Ok(Vec::new());
            };
            let mut found = vec![first];
            let mut objects = std::pin::pin!(objects.skip(1));
            while let Some(Some(object)) = objects.try_next().await? {
                found.push(object);
            }
            Ok(found)
        };
        ctx.spawn(read.into_actor(self).map(|found, actor, ctx| {
            actor.phase = Phase::Idle;
            actor.take_in(found);
            actor.checkpoint_if_due(ctx);
            actor.proceed_later(ctx);
        }));
    }

    fn take_in(&mut self, found: Result<Vec<Arc<CommitObject>>, StoreError>) {
        let outcome = found.and_then(|objects| {
            let whole_round = objects.len() as u64 == TAIL_ROUND;
            let control = |o: &Arc<CommitObject>| o.header.kind == CommitKind::Control;
            if let Some(log) = &mut *self.deps.shared.log.write() {
                for object in &objects {
                    log.apply(object).map_err(|e| self.corrupt(&e))?;
                    self.deps.heads.advance(self.id(), log.next_offset());
                }
            }
            if objects.iter().any(control) {
                self.deps.heads.nudge();
            }
            Ok(whole_round)
        });
        // After a whole round there may be more: whoever waits goes on waiting, and the next round
        // begins at once.
        self.behind = matches!(outcome, Ok(true));
        match outcome {
            Ok(true) => {}
            Ok(false) => self.caught_up(&Ok(())),
            Err(e) => self.caught_up(&Err(e)),
        }
    }

    fn caught_up(&mut self, outcome: &Result<(), StoreError>) {
        for waiting in self.in_round.drain(..) {
            // See `Waiting::answer`.
            drop(waiting.send(outcome.clone()));
        }
    }

    fn corrupt(&self, error: &CorruptObject) -> StoreError {
        tracing::error!(partition = %self.id(), %error, "the log is damaged; run `oms log audit`");
        StoreError::corrupt("s3", "read log", error.to_string())
    }

    fn checkpoint_if_due(&mut self, ctx: &mut Context<Self>) {
        let due = match &*self.deps.shared.log.read() {
            Some(log) => log.unsaved() >= self.checkpoint_at,
            None => false,
        };
        if due && !self.checkpointing {
            ctx.spawn(self.checkpoint());
        }
    }

    /// Stores the index's unsaved part as a segment.
    fn checkpoint(&mut self) -> ResponseActFuture<Self, ()> {
        let segment = match &*self.deps.shared.log.read() {
            Some(log) => segment_of(log),
            None => None,
        };
        let Some(segment) = segment else {
            return Box::pin(actix::fut::ready(()));
        };
        self.checkpointing = true;
        let deps = self.deps.clone();
        let to = segment.to;
        let save = async move { deps.log.save_segment(&segment).await };
        Box::pin(save.into_actor(self).map(move |saved, actor, _| {
            actor.checkpointing = false;
            let every = actor.deps.settings.checkpoint_commits.max(1);
            match (saved, &mut *actor.deps.shared.log.write()) {
                (Ok(()), Some(log)) => {
                    log.saved_up_to(to);
                    actor.checkpoint_at = every;
                    metrics::index_size(log);
                }
                // The index is derived: the start after this one is slower, nothing else.
                (Err(error), Some(log)) => {
                    tracing::warn!(partition = %log.id(), %error, "no checkpoint of the index");
                    actor.checkpoint_at = log.unsaved() + every;
                }
                (_, None) => {}
            }
        }))
    }
}

fn answer_all(verdicts: Vec<(Waiting, Verdict)>) {
    for (waiting, verdict) in verdicts {
        if matches!(verdict, Verdict::Conflict { .. }) {
            metrics::version_conflict();
        }
        waiting.answer(Ok(verdict));
    }
}

fn segment_of(log: &PartitionLog) -> Option<Segment> {
    let commits = log.unsaved_commits();
    let from = commits.first()?.offset;
    Some(Segment::new(
        log.id(),
        from,
        log.prev(),
        log.leadership()?,
        commits.to_vec(),
    ))
}

fn too_late() -> StoreError {
    StoreError::determinate(
        StoreErrorKind::Timeout,
        "s3",
        "append",
        "the deadline passed before it was begun",
    )
}

/// Opens the partition, however long the store takes to answer, and gives a new one its first
/// control record.
async fn open(deps: Arc<WriterDeps>, stamp: Stamp) -> PartitionLog {
    loop {
        match try_open(&deps, stamp).await {
            Ok(log) => return log,
            Err(error) => {
                tracing::error!(partition = %deps.shared.id, %error, "cannot open the partition yet");
                sleep(REOPEN_PAUSE).await;
            }
        }
    }
}

async fn try_open(deps: &WriterDeps, stamp: Stamp) -> Result<PartitionLog, StoreError> {
    let mut log = deps.log.open(deps.shared.id).await?;
    let Some(genesis) = deps.settings.genesis.filter(|_| log.leadership().is_none()) else {
        return Ok(log);
    };
    let record = ControlRecord {
        lead: genesis.lead,
        epoch: genesis.epoch,
    };
    let control = log.control(stamp, record);
    let deadline = Instant::now() + deps.settings.append_deadline;
    let first = match find_owner(&deps.log, &control, deadline).await {
        Ok(Owner::Us) => control,
        Ok(Owner::Found(found)) => found,
        Err(unsettled) => return Err(unsettled.error),
    };
    log.apply(&first)
        .map_err(|e| StoreError::corrupt("s3", "open partition", e.to_string()))?;
    deps.log.catch_up(&mut log).await?;
    Ok(log)
}

impl Actor for EventStoreActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.deps.settings.tail_interval, |actor, ctx| {
            if actor.phase == Phase::Idle && actor.queue.is_empty() {
                actor.tail(ctx);
            }
        });
        let sound = matches!(&*self.deps.shared.log.read(), Some(log) if !log.is_torn());
        if sound {
            // What the former incarnation had in flight is met at the next offset.
            self.phase = Phase::Idle;
            return;
        }
        *self.deps.shared.log.write() = None;
        let stamp = self.stamp();
        let open = open(self.deps.clone(), stamp);
        ctx.spawn(open.into_actor(self).map(|log, actor, ctx| {
            let next = log.next_offset();
            metrics::index_size(&log);
            tracing::info!(partition = %log.id(), next_offset = next,
                streams = log.index().stream_count(), events = log.index().event_count(),
                "partition is open");
            *actor.deps.shared.log.write() = Some(log);
            actor.deps.heads.advance(actor.id(), next);
            actor.deps.heads.nudge();
            actor.phase = Phase::Idle;
            actor.proceed(ctx);
        }));
    }
}

impl Supervised for EventStoreActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        // Dropping the queue tells everyone in it that the outcome is unknown; they ask again.
        *self = Self::new(self.deps.clone());
    }
}

impl Handler<AppendMessage> for EventStoreActor {
    type Result = ();

    fn handle(&mut self, message: AppendMessage, ctx: &mut Self::Context) {
        let AppendMessage { request, reply } = message;
        self.queue.push_back(Append {
            stream: request.stream.key(),
            expected: request.expected,
            epoch: request.epoch,
            command: request.command,
            request_hash: request.request_hash,
            events: request.events,
            reply: Waiting {
                reply,
                deadline: request.deadline,
            },
        });
        self.proceed(ctx);
    }
}

impl Handler<CatchUp> for EventStoreActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, _: CatchUp, ctx: &mut Self::Context) -> Self::Result {
        let (reply, outcome) = oneshot::channel();
        // Callers that gave up meanwhile must not pile up while the store does not answer.
        self.catching_up.retain(|waiting| !waiting.is_closed());
        self.catching_up.push(reply);
        self.proceed(ctx);
        Box::pin(async move {
            outcome.await.unwrap_or_else(|_| {
                Err(StoreError::determinate(
                    StoreErrorKind::Unavailable,
                    "s3",
                    "catch up",
                    "the writer was restarted",
                ))
            })
        })
    }
}

impl Handler<SaveCheckpoint> for EventStoreActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: SaveCheckpoint, _: &mut Self::Context) -> Self::Result {
        self.checkpoint()
    }
}
