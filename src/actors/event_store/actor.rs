//! The writer of one partition: forms a batch, puts it into the store that leads, settles it, one
//! after the other. What arrives while a put is in flight forms the next batch, so the busier the
//! partition the fewer puts an event costs.
//!
//! ```text
//!   Opening ──opened──▶ Idle ──appends queued──▶ Putting ──owner known──▶ Idle
//!                        ├──tick, or asked to──▶ Tailing ──end reached──▶ Idle
//!                        └──nobody leads, or another store than was believed──▶ held a moment
//! ```
//!
//! While the lead moves, appends wait in the queue. They stay valid: they name the version they
//! were decided on, whichever store leads.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::opening::open;
use super::put::{Outcome, Put, ended, put_span};
use super::waiting::{Waiting, answer_all, too_late};
use super::writer_deps::WriterDeps;
use super::{Answer, AppendError, AppendRequest};
use crate::actors::arbiters::ArbiterSlot;
use crate::actors::claim::Claim;
use crate::actors::supervision::handle::Handle;
use crate::actors::supervision::policy::ActorKind;
use crate::actors::supervision::supervisor::Supervisor;
use crate::clock::new_uuid;
use crate::domain::ids::{PartitionId, WriterId};
use crate::flaws::{Flaw, flawed};
use crate::log::batch::{Append, BatchLimits, Stamp};
use crate::log::object::{CommitKind, CommitObject, CorruptObject};
use crate::log::partition::PartitionLog;
use crate::metrics;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::halts::WRITES;

/// How long appends are held before the leader is looked up again, unless news comes first.
const HOLD: Duration = Duration::from_millis(20);

pub fn start(supervisor: &Supervisor, deps: WriterDeps) -> Handle<EventStoreActor> {
    let path = format!("event_store/{}", deps.shared.id);
    let deps = Arc::new(deps);
    supervisor.child(path, ActorKind::EventStore, ArbiterSlot::Log, move || {
        EventStoreActor::new(deps.clone())
    })
}

#[derive(Message)]
#[rtype(result = "()")]
pub struct AppendMessage {
    pub request: AppendRequest,
    /// Where the caller waits for the outcome.
    pub reply: oneshot::Sender<Result<Answer, AppendError>>,
    /// Whether the caller may still withdraw it.
    pub claim: Claim,
}

/// Reads what other processes have committed.
#[derive(Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct CatchUp;

#[derive(Message)]
#[rtype(result = "()")]
pub struct SaveCheckpoint;

/// The stage of the partition may have changed.
struct StageNews;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Opening,
    Idle,
    Putting,
    Tailing,
}

pub struct EventStoreActor {
    pub(super) deps: Arc<WriterDeps>,
    pub(super) phase: Phase,
    pub(super) queue: VecDeque<Append<Waiting>>,
    /// Callers of [`CatchUp`] that wait for the log to be read to its end.
    pub(super) catching_up: Vec<oneshot::Sender<Result<(), StoreError>>>,
    /// Those that called before the put or tail under way began: only they may be answered when it
    /// ends.
    pub(super) in_round: Vec<oneshot::Sender<Result<(), StoreError>>>,
    /// The log is known to go on: it is read to its end before anything is put.
    pub(super) behind: bool,
    /// Timer that runs while nothing can be put, because no store leads or another one than was
    /// believed.
    held: Option<SpawnHandle>,
    writer: WriterId,
    batches: u64,
    /// Timer that runs while a batch waits for more commands.
    lingering: Option<SpawnHandle>,
    /// Batches that the store refused for their content since it last accepted one.
    pub(super) refused_in_a_row: u32,
    /// Commands in the last batch. Their callers may soon send the next ones, so a smaller batch
    /// waits a moment for them.
    last_batch: usize,
    pub(super) checkpointing: bool,
    /// Commits since the last checkpoint at which the next one is due.
    pub(super) checkpoint_at: usize,
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
            held: None,
            writer: WriterId(new_uuid()),
            batches: 0,
            lingering: None,
            refused_in_a_row: 0,
            last_batch: 0,
            checkpointing: false,
            checkpoint_at,
        }
    }

    pub(super) fn id(&self) -> PartitionId {
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

    /// Starts whatever is due. To be called after every change of state.
    fn proceed(&mut self, ctx: &mut Context<Self>) {
        if self.phase != Phase::Idle || self.held.is_some() {
            return;
        }
        // Callers that the last round could not answer wait for the next one.
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
                if actor.phase == Phase::Idle && actor.held.is_none() {
                    actor.put(ctx);
                }
            }));
        }
    }

    /// Nothing can be put now: tries again after [`HOLD`], or when there is news.
    pub(super) fn hold(&mut self, ctx: &mut Context<Self>) {
        self.deps.stale.notify_one();
        if self.held.is_none() {
            self.held = Some(ctx.run_later(HOLD, Self::end_hold));
        }
    }

    fn end_hold(&mut self, ctx: &mut Context<Self>) {
        self.held = None;
        self.behind = true;
        self.drop_expired();
        self.proceed(ctx);
    }

    fn put(&mut self, ctx: &mut Context<Self>) {
        if let Some(lingering) = self.lingering.take() {
            ctx.cancel_future(lingering);
        }
        self.drop_expired();
        self.forget_keys();
        let Some(state) = self.deps.state() else {
            return self.hold(ctx);
        };
        let unaware = flawed(Flaw::IgnoreFence).then_some(state.stage.leadership);
        let Some(authority) = state.authority().or(unaware) else {
            return self.hold(ctx);
        };
        let stamp = self.stamp();
        let limits = BatchLimits {
            events: self.deps.settings.batch_events,
            bytes: self.deps.settings.batch_bytes,
        };
        // What is in a batch cannot be withdrawn any more; what was withdrawn is dropped here.
        self.queue.retain(|append| append.reply.claim.begin());
        let formed = match &*self.deps.shared.log.read() {
            Some(log) => log
                .may_append(authority)
                .or_else(|fenced| unaware.map(|_| ()).ok_or(fenced))
                .map(|()| log.form(&mut self.queue, limits, stamp, authority.epoch)),
            None => {
                self.put_back();
                return;
            }
        };
        self.put_back();
        let Ok((verdicts, batch)) = formed else {
            return self.hold(ctx);
        };
        answer_all(verdicts, state, false);
        let Some(batch) = batch else {
            self.proceed_later(ctx);
            return;
        };
        self.last_batch = batch.commands();
        self.in_round.append(&mut self.catching_up);
        self.phase = Phase::Putting;
        let deps = self.deps.clone();
        let object = Arc::new(batch.object.clone());
        let span = put_span(&batch, authority.lead);
        let deadline = Instant::now() + deps.settings.append_deadline;
        let put = {
            let object = object.clone();
            async move {
                let put = Put {
                    log: &deps.log,
                    authority,
                    mode: state.stage.mode,
                    topics: &deps.topics,
                };
                let outcome = put.find_owner(&object, deadline).await;
                ended(span, &outcome);
                outcome
            }
        };
        ctx.spawn(put.into_actor(self).map(move |outcome, actor, ctx| {
            actor.phase = Phase::Idle;
            match outcome {
                Ok(Outcome::Owned(owner)) => actor.settle(batch, object, owner, state, ctx),
                Ok(Outcome::Fenced) => {
                    for append in batch.take_back().into_iter().rev() {
                        append.reply.claim.put_back();
                        actor.queue.push_front(append);
                    }
                    actor.hold(ctx);
                }
                Err(unsettled) => actor.give_up(batch, &object, &unsettled),
            }
            actor.checkpoint_if_due(ctx);
            actor.proceed(ctx);
        }));
    }

    /// Refused appends have shortened the queue: proceeds in a new message, so that the stack does
    /// not grow.
    pub(super) fn proceed_later(&mut self, ctx: &mut Context<Self>) {
        let waiting = !self.catching_up.is_empty() || !self.in_round.is_empty();
        if !self.queue.is_empty() || waiting || self.behind {
            ctx.spawn(actix::fut::ready(()).map(|(), actor: &mut Self, ctx| actor.proceed(ctx)));
        }
    }

    fn put_back(&self) {
        for append in &self.queue {
            append.reply.claim.put_back();
        }
    }

    fn forget_keys(&self) {
        let now = self.deps.clock.now();
        let old = |log: &PartitionLog| log.commands().has_old_keys(now);
        if self.deps.shared.log.read().as_ref().is_some_and(old)
            && let Some(log) = &mut *self.deps.shared.log.write()
        {
            log.commands_mut().forget_keys(now);
        }
    }

    /// Whether an object was written by another process or a previous incarnation of this actor.
    pub(super) fn is_others(&self, object: &CommitObject) -> bool {
        object.header.kind == CommitKind::Events && object.header.writer != self.writer
    }

    /// Answers the appends whose deadline has passed, determinately: nothing was written.
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

    pub(super) fn corrupt(&self, error: &CorruptObject) -> StoreError {
        tracing::error!(partition = %self.id(), %error, "the log is damaged; run `oms log audit`");
        let error = StoreError::corrupt("log", "read log", error.to_string());
        self.deps.halts.failed(WRITES, Some(self.id()), &error);
        error
    }
}

impl Actor for EventStoreActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.deps.settings.tail_interval, |actor, ctx| {
            if actor.phase == Phase::Idle && actor.queue.is_empty() && actor.held.is_none() {
                actor.forget_keys();
                actor.tail(ctx);
            }
        });
        let news = futures_util::stream::unfold(self.deps.stages.clone(), |mut stages| async {
            stages.changed().await.ok().map(|()| (StageNews, stages))
        });
        ctx.add_stream(news);
        let sound = matches!(&*self.deps.shared.log.read(), Some(log) if !log.is_torn());
        if sound {
            // What the previous incarnation had in flight is found at the next offset.
            self.phase = Phase::Idle;
            return;
        }
        *self.deps.shared.log.write() = None;
        let open = open(self.deps.clone());
        ctx.spawn(open.into_actor(self).map(|mut log, actor, ctx| {
            log.commands_mut().bound_keys(actor.deps.settings.keys);
            let next = log.next_offset();
            metrics::index_size(&log);
            tracing::info!(partition = %log.id(), next_offset = next,
                streams = log.index().stream_count(), events = log.index().event_count(),
                "partition is open");
            *actor.deps.shared.known_leadership.lock() = Some(log.leadership());
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
        // Dropping the queue tells every caller in it that the outcome is unknown; they retry.
        *self = Self::new(self.deps.clone());
    }
}

impl StreamHandler<StageNews> for EventStoreActor {
    fn handle(&mut self, _: StageNews, ctx: &mut Self::Context) {
        if let Some(held) = self.held.take() {
            ctx.cancel_future(held);
            self.end_hold(ctx);
        }
    }

    /// The sender lives as long as the MigrationModeActor; without news the partition goes on as it
    /// is.
    fn finished(&mut self, _: &mut Self::Context) {}
}

impl Handler<AppendMessage> for EventStoreActor {
    type Result = ();

    fn handle(&mut self, message: AppendMessage, ctx: &mut Self::Context) {
        let AppendMessage {
            request,
            reply,
            claim,
        } = message;
        self.queue.push_back(Append {
            stream: request.stream.key(),
            expected: request.expected,
            command: request.command,
            request_hash: request.request_hash,
            events: request.events,
            reply: Waiting {
                reply,
                deadline: request.deadline,
                claim,
                trace: request.trace,
            },
        });
        self.proceed(ctx);
    }
}

impl Handler<CatchUp> for EventStoreActor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, _: CatchUp, ctx: &mut Self::Context) -> Self::Result {
        let (reply, outcome) = oneshot::channel();
        // Callers that gave up must not pile up while the store does not answer.
        self.catching_up.retain(|waiting| !waiting.is_closed());
        self.catching_up.push(reply);
        self.proceed(ctx);
        Box::pin(async move {
            outcome.await.unwrap_or_else(|_| {
                Err(StoreError::determinate(
                    StoreErrorKind::Unavailable,
                    "log",
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
