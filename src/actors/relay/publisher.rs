//! The publisher: from the outbox to Kafka.
//!
//! ```text
//!   lease ─▶ read rows ─▶ choose a wave ─▶ fetch bodies ─▶ publish ─▶ settle ─▶ delete
//!                 └────────── meanwhile for the next wave ──────────┘
//! ```
//!
//! A row is deleted only after the broker acknowledged it, so a crash between the two publishes it
//! twice and never loses it (law 9). [`SendQueue`] decides what to send and handles the outcomes;
//! here is the I/O.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use metrics::{counter, gauge, histogram};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::bodies;
use super::leases::LeaseKeeper;
use super::message::message;
use super::ours::{self, Ours};
use super::queue::{PublishOutcome, QueueLimits, SendQueue};
use super::spans::{end_spans, publish_span};
use crate::domain::ids::{Offset, PartitionId, Position};
use crate::domain::time::Clock;
use crate::flaws::{Flaw, flawed, strikes};
use crate::metrics::{
    DEAD_LETTERS, OUTBOX_DEPTH, OUTBOX_OLDEST, PUBLISH_FAILED, PUBLISHED, RELAY_SECONDS,
};
use crate::store::backoff::Backoff;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::halts::{self, Halts};
use crate::store::log::delivery_watermarks;
use crate::store::log::log_reader::LogReader;
use crate::store::ports::delivery::{DeliveryStore, OutboxRow};
use crate::store::ports::object_store::ObjectStore;
use crate::store::ports::transport::{Message, Outcome, Transport};
use crate::store::traces::Span;

/// Pauses while PostgreSQL, S3 or the broker does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));

/// How long the last measured backlog is shown while it cannot be measured.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// Limits and intervals of the relay. Intervals are upper bounds: the tailer wakes the publisher.
#[derive(Debug, Clone, Copy)]
pub struct RelaySettings {
    pub limits: QueueLimits,
    /// How long a lease lasts. Renewed after an eighth of it, or earlier if the rest would be
    /// shorter than a wave can take.
    pub lease: Duration,
    /// How often to look for rows of another process.
    pub poll: Duration,
    /// How often to read from the beginning, for rows behind the cursor: requeued dead letters.
    pub sweep: Duration,
    /// How often to measure the backlog and to write the delivered watermarks to the bucket.
    pub report: Duration,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            limits: QueueLimits::default(),
            lease: Duration::from_secs(40),
            // Finds rows of another process; for rows of this one the in-process wake-up is faster.
            poll: Duration::from_millis(200),
            sweep: Duration::from_secs(5),
            report: Duration::from_secs(5),
        }
    }
}

#[derive(Clone)]
pub struct RelayDeps {
    pub store: Arc<dyn DeliveryStore>,
    pub transport: Arc<dyn Transport>,
    pub log: Arc<LogReader>,
    /// The bucket, for the watermarks of delivery.
    pub objects: Arc<dyn ObjectStore>,
    pub clock: Arc<dyn Clock>,
    /// Notified by the tailer about new rows.
    pub recorded: Arc<Notify>,
    /// This process's name among the relays; the same over restarts of the actor.
    pub node: String,
    pub settings: RelaySettings,
    /// Where it reports that it does not go on.
    pub halts: Halts,
}

pub struct Publisher {
    deps: RelayDeps,
    queue: SendQueue,
    bodies: HashMap<Position, Bytes>,
    backoff: Backoff,
    leases: LeaseKeeper,
    /// The leased partitions whose outbox is of this log; `asked` is when that was checked.
    ours: Ours,
    asked: Option<Instant>,
    swept: Instant,
    reported: Option<Instant>,
    /// When the backlog was last measured.
    measured: Option<Instant>,
    saved: BTreeMap<PartitionId, Offset>,
}

/// A wave that is ready to be sent.
#[derive(Default)]
struct Wave {
    messages: Vec<Message>,
    /// Per row: the index of its message, or the reason why it has none.
    parts: Vec<Result<usize, PublishOutcome>>,
    /// Per message: when its event was recorded.
    times: Vec<Timestamp>,
    /// The spans of messages whose trace is recorded, by their index.
    spans: BTreeMap<usize, Span>,
}

impl Publisher {
    pub fn new(deps: RelayDeps) -> Self {
        Self {
            queue: SendQueue::new(deps.settings.limits),
            leases: LeaseKeeper::new(
                deps.store.clone(),
                deps.transport.clone(),
                deps.node.clone(),
                deps.log.partitions(),
                deps.settings.lease,
            ),
            deps,
            bodies: HashMap::new(),
            backoff: Backoff::new(RETRY.0, RETRY.1),
            ours: Ours::new(),
            asked: None,
            swept: Instant::now(),
            reported: None,
            measured: None,
            saved: BTreeMap::new(),
        }
    }

    pub async fn run(mut self) {
        if let Err(error) = self.deps.transport.declare().await {
            // Publishing asks for the topics again.
            tracing::warn!(%error, "the topics are not there yet");
        }
        loop {
            let step = self.step().await;
            match &step {
                Ok(_) => {
                    self.deps.halts.goes_on(halts::RELAY, None);
                }
                Err(error) => self.deps.halts.failed(halts::RELAY, None, error),
            }
            match step {
                Ok(true) => self.backoff.reset(),
                Ok(false) => {
                    self.backoff.reset();
                    self.idle().await;
                }
                Err(error) => {
                    let pause = self.backoff.pause();
                    if self.backoff.failures() == 1 {
                        tracing::warn!(%error, "delivery waits; nothing is lost");
                    } else {
                        tracing::debug!(%error, ?pause, "delivery still waits");
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Publishes one wave and meanwhile does everything else. Returns whether there was anything to
    /// do.
    pub async fn step(&mut self) -> Result<bool, StoreError> {
        self.keep_leases().await?;
        self.keep_to_this_log().await?;
        let now = self.deps.clock.now();
        let rows = self.queue.next_wave(now);
        let mut wave = self.compose(&rows).await;
        let mut messages = std::mem::take(&mut wave.messages);
        if messages.len() > 1 && strikes(Flaw::ReorderMessages, 3) {
            messages.reverse();
        }
        let transport = self.deps.transport.clone();
        let leased_until = self.leases.until();
        let publish = async {
            match leased_until {
                Some(until) if !messages.is_empty() => transport.publish(messages, until).await,
                _ => Vec::new(),
            }
        };
        let (outcomes, kept) = tokio::join!(publish, self.keep_house());
        end_spans(std::mem::take(&mut wave.spans), &outcomes);
        let failure = self.settle(&rows, &wave, outcomes).await;
        let read = kept?;
        match failure? {
            Some(error) => Err(error),
            None => Ok(!rows.is_empty() || read > 0),
        }
    }

    /// Waits until there may be something to do.
    async fn idle(&self) {
        let mut pause = self.deps.settings.poll;
        if let Some(due) = self.queue.next_due() {
            let wait = due.duration_since(self.deps.clock.now());
            pause = pause.min(wait.try_into().unwrap_or(Duration::ZERO));
        }
        // At least a moment, so that a row that is due and cannot be sent does not make a busy
        // loop.
        let pause = pause.max(Duration::from_millis(1));
        let _ = tokio::time::timeout(pause, self.deps.recorded.notified()).await;
    }

    /// Keeps leases and fences. The rows of a partition that another process may have published
    /// meanwhile are dropped and read again.
    async fn keep_leases(&mut self) -> Result<(), StoreError> {
        let kept = self.leases.keep().await;
        if self.leases.until().is_none() {
            self.queue.assign(&[]);
        }
        if let Some(kept) = kept? {
            let held = self.leases.held();
            let names: Vec<String> = held.iter().map(ToString::to_string).collect();
            tracing::info!(
                node = self.deps.node,
                partitions = names.join(","),
                "publishes {} of {} partitions",
                held.len(),
                self.deps.log.partitions()
            );
            self.queue.assign(&kept);
            self.asked = None;
        }
        Ok(())
    }

    /// Releases partitions whose outbox is of another log, or of an end that this log has lost: its
    /// rows are events that were never committed here. Checked again with every sweep.
    async fn keep_to_this_log(&mut self) -> Result<(), StoreError> {
        let due = |at: Instant| at.elapsed() >= self.deps.settings.sweep;
        if !self.asked.is_none_or(due) {
            return Ok(());
        }
        let (held, store) = (self.leases.held(), &*self.deps.store);
        let ours = match ours::of_this_log(store, &self.deps.log, &held, &self.ours).await {
            Ok(ours) => ours,
            // The last result holds while neither store can be read.
            Err(_) if self.asked.is_some() => return Ok(()),
            Err(error) => return Err(error),
        };
        let assigned: Vec<PartitionId> = ours.keys().copied().collect();
        if self.asked.is_none() || !ours.keys().eq(self.ours.keys()) {
            self.queue.assign(&assigned);
        }
        (self.ours, self.asked) = (ours, Some(Instant::now()));
        Ok(())
    }

    /// Everything but publishing: deletes delivered rows, reads on, fetches events ahead, reports.
    /// Returns how many rows were read.
    async fn keep_house(&mut self) -> Result<usize, StoreError> {
        self.delete().await?;
        if self.swept.elapsed() >= self.deps.settings.sweep {
            self.swept = Instant::now();
            self.queue.sweep();
        }
        let wants = self.queue.wants();
        let mut read = 0;
        if !wants.is_empty() {
            let limit = self.queue.read_limit();
            let rows = self.deps.store.pending(wants, limit).await?;
            read = self.queue.loaded(rows, self.deps.clock.now());
        }
        self.fetch_ahead().await;
        match self.report().await {
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "the backlog is measured later");
                self.forget_backlog();
            }
        }
        Ok(read)
    }

    async fn delete(&mut self) -> Result<(), StoreError> {
        let gone = self.queue.undeleted();
        if gone.is_empty() {
            return Ok(());
        }
        self.deps.store.delivered(gone.clone()).await?;
        self.queue.deleted(&gone);
        Ok(())
    }

    async fn fetch_ahead(&mut self) {
        let next = self.queue.preview();
        let wanted: HashSet<Position> = next.iter().map(|r| r.position).collect();
        self.bodies.retain(|position, _| wanted.contains(position));
        let missing: Vec<&OutboxRow> = next
            .into_iter()
            .filter(|r| !self.bodies.contains_key(&r.position))
            .collect();
        // The wave itself fetches what failed here, and reports the failure.
        let fetched = bodies::load(&self.deps.log, &missing).await;
        self.bodies.extend(
            fetched
                .into_iter()
                .filter_map(|(position, body)| Some((position, body.ok()?))),
        );
    }

    /// Builds the messages of a wave. A row whose event cannot be read is not sent, and neither are
    /// the rows after it in its stream.
    async fn compose(&mut self, rows: &[OutboxRow]) -> Wave {
        let missing: Vec<&OutboxRow> = rows
            .iter()
            .filter(|r| !self.bodies.contains_key(&r.position))
            .collect();
        let mut fetched = bodies::load(&self.deps.log, &missing).await;
        let mut wave = Wave::default();
        let mut broken = HashSet::new();
        for row in rows {
            let ahead = self.bodies.remove(&row.position).map(Ok);
            let body = ahead.or_else(|| fetched.remove(&row.position));
            let part = match body {
                _ if broken.contains(&row.stream) => Err(PublishOutcome::Failed),
                Some(Ok(bytes)) => self.message(row, bytes),
                Some(Err(e)) if e.kind == StoreErrorKind::Corrupt => {
                    Err(PublishOutcome::Rejected(e.to_string()))
                }
                Some(Err(_)) | None => Err(PublishOutcome::Failed),
            };
            wave.parts.push(match part {
                Ok((mut message, time)) => {
                    if let Some(span) = publish_span(&mut message) {
                        wave.spans.insert(wave.messages.len(), span);
                    }
                    wave.messages.push(message);
                    wave.times.push(time);
                    Ok(wave.messages.len() - 1)
                }
                Err(verdict) => {
                    broken.insert(row.stream.clone());
                    Err(verdict)
                }
            });
        }
        wave
    }

    fn message(
        &self,
        row: &OutboxRow,
        bytes: Bytes,
    ) -> Result<(Message, Timestamp), PublishOutcome> {
        let limit = self.deps.transport.message_max();
        message(row, bytes, self.deps.log.bucket(), limit).map_err(PublishOutcome::Rejected)
    }

    /// Handles the outcomes of a wave. Returns the failure to pause for, if there was one.
    async fn settle(
        &mut self,
        rows: &[OutboxRow],
        wave: &Wave,
        outcomes: Vec<Outcome>,
    ) -> Result<Option<StoreError>, StoreError> {
        let now = self.deps.clock.now();
        let mut failure = None;
        let mut verdicts = Vec::with_capacity(rows.len());
        for (row, part) in rows.iter().zip(&wave.parts) {
            let verdict = match part {
                Err(verdict) => verdict.clone(),
                Ok(i) => match outcomes.get(*i) {
                    Some(Outcome::Delivered) => {
                        let lag = wave
                            .times
                            .get(*i)
                            .map_or(0.0, |t| now.duration_since(*t).as_secs_f64());
                        histogram!(RELAY_SECONDS).record(lag.max(0.0));
                        counter!(PUBLISHED, "topic" => row.topic.clone()).increment(1);
                        PublishOutcome::Delivered
                    }
                    Some(Outcome::Rejected(reason)) => PublishOutcome::Rejected(reason.clone()),
                    Some(Outcome::Failed(_)) if flawed(Flaw::SettleUnacknowledged) => {
                        PublishOutcome::Delivered
                    }
                    Some(Outcome::Failed(e)) => {
                        failure.get_or_insert_with(|| e.clone());
                        PublishOutcome::Failed
                    }
                    None => PublishOutcome::Failed,
                },
            };
            match &verdict {
                PublishOutcome::Delivered => {}
                PublishOutcome::Rejected(_) => failed("rejected"),
                PublishOutcome::Failed => {
                    failed(failure.as_ref().map_or("body", |e| e.kind.as_str()))
                }
            }
            if failure.is_none() && verdict == PublishOutcome::Failed {
                let message = "an event could not be read from the log";
                failure = Some(StoreError::determinate(
                    StoreErrorKind::Unavailable,
                    "s3",
                    "relay",
                    message,
                ));
            }
            verdicts.push(verdict);
        }
        // Beside a refusal, failures are those of its neighbours in the batch: the next wave is
        // without the refused row.
        if verdicts
            .iter()
            .any(|v| matches!(v, PublishOutcome::Rejected(_)))
        {
            failure = None;
        }
        let settlement = self.queue.settle(verdicts, now);
        if !settlement.refused.is_empty() {
            for refused in &settlement.refused {
                tracing::warn!(position = %refused.position, attempts = refused.attempts,
                    dead = refused.next_attempt.is_none(), reason = refused.reason,
                    "the broker refuses an event");
            }
            self.deps.store.refused(settlement.refused).await?;
        }
        Ok(failure)
    }

    /// Forgets a measurement that is too old to say anything.
    fn forget_backlog(&mut self) {
        if self.measured.is_some_and(|at| at.elapsed() > KNOWN_FOR) {
            self.measured = None;
            for name in [OUTBOX_DEPTH, OUTBOX_OLDEST, DEAD_LETTERS] {
                gauge!(name).set(f64::NAN);
            }
        }
    }

    /// Sets the gauges and writes the watermarks of delivery to the bucket, at intervals.
    async fn report(&mut self) -> Result<(), StoreError> {
        let pause = self.deps.settings.report;
        if self.reported.is_some_and(|at| at.elapsed() < pause) {
            return Ok(());
        }
        self.reported = Some(Instant::now());
        let status = self.deps.store.status().await?;
        self.measured = Some(Instant::now());
        gauge!(OUTBOX_DEPTH).set(status.depth as f64);
        gauge!(OUTBOX_OLDEST).set(status.oldest_seconds.unwrap_or(0.0));
        gauge!(DEAD_LETTERS).set(status.dead_letters as f64);
        let delivered: BTreeMap<PartitionId, Offset> = status
            .partitions
            .iter()
            .map(|p| (p.partition, p.delivered))
            .collect();
        // One node writes for all. An outbox that has not begun in every partition is a new one: it
        // is about to start from the very document that would be overwritten.
        let held = self.leases.held();
        let first = held.contains(&PartitionId(0));
        let begun = delivered.len() == usize::from(self.deps.log.partitions());
        let all_ours = held.iter().all(|p| self.ours.contains_key(p));
        if first && begun && all_ours && delivered != self.saved {
            let now = self.deps.clock.now();
            let marks = ours::marks(&self.deps.log, &delivered).await?;
            match delivery_watermarks::save(&*self.deps.objects, marks, now).await {
                Ok(()) => self.saved = delivered,
                Err(error) => tracing::debug!(%error, "delivered watermarks are written later"),
            }
        }
        Ok(())
    }
}

fn failed(cause: &'static str) {
    counter!(PUBLISH_FAILED, "cause" => cause).increment(1);
}
