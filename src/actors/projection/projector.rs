//! The loop that keeps the read model: reads the log from where the model is, folds a batch, and
//! stores it together with its offsets. All its state is in the store, so it may be killed at any
//! point.
//!
//! Any number of processes may run one. The store keeps them correct: it accepts a batch only at
//! the model's own offsets. A projector that finds that another one has moved the model *follows*:
//! it watches, and takes over when the log goes on and the model does not.
//!
//! A rebuild runs beside the live model; batches of the two alternate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics::{counter, gauge};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::gather::{Gathered, Stretch, gather};
use super::spans::{Purpose, project_span};
use super::{ProjectionDeps, TAKE_OVER_AFTER};
use crate::actors::corrupt_partitions::CorruptPartitions;
use crate::actors::halted::Halted;
use crate::domain::ids::{Offset, PartitionId, Position};
use crate::log::identity::Mark;
use crate::metrics::{PROJECTED, PROJECTION_LAG, PROJECTION_POISON, known_gauge};
use crate::projection::changes::{Changes, ParkedEvent};
use crate::store::alarms::CopyKind;
use crate::store::backoff::Backoff;
use crate::store::error::StoreError;
use crate::store::halts;
use crate::store::ports::read_model::{Applied, Batch, Generation, GenerationState, Generations};
use crate::store::traces::{Kind, SharedSpan};

/// Shortest time from one transaction to the next: commits meanwhile go into one. Readers that wait
/// for their own write wait at most this much longer.
const PACE: Duration = Duration::from_millis(25);

/// Pauses after a failure: the first is short, for a cut connection; the longest is how late a
/// recovered dependency may be noticed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often the generations are read in any case: another process may have started a rebuild.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// How often a follower reads the model's position while there is something to wait for.
const FOLLOW: Duration = Duration::from_millis(100);

/// Commits read ahead of one partition, at first and at most; adapted in between, so that batches
/// are full and little is read in vain.
const TURN: (u64, u64) = (16, 1024);

pub struct Projector {
    pub(super) deps: ProjectionDeps,
    changed: Arc<Notify>,
    turn: u64,
    /// The partition that comes first in the next batch; rotates, so that a busy one starves none.
    first: u16,
    /// Positions of generations that were verified to be in this log.
    pub(super) proven: BTreeMap<(Generation, PartitionId), Mark>,
    /// The live generation, if it belongs to another end of this log: a new one is being built.
    pub(super) distrusted: Option<Generation>,
    /// Partitions for which a rebuild was reported.
    pub(super) remade: BTreeSet<PartitionId>,
    damaged: CorruptPartitions,
    pub(super) halted: Halted,
}

enum Step {
    Worked,
    Idle,
    /// The generations have changed.
    Stale,
    /// Another process has moved the model on.
    Rival,
}

/// What ended a wait.
enum Woken {
    Log,
    Change,
    Time,
}

impl Projector {
    /// `changed` is notified when this process has changed the generations.
    pub fn new(deps: ProjectionDeps, changed: Arc<Notify>) -> Self {
        Self {
            damaged: CorruptPartitions::new(halts::PROJECTION, deps.halts.clone()),
            deps,
            changed,
            turn: TURN.0,
            first: 0,
            proven: BTreeMap::new(),
            distrusted: None,
            remade: BTreeSet::new(),
            halted: Halted::new(CopyKind::ReadModel),
        }
    }

    pub async fn run(mut self) {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut wake = self.deps.heads.subscribe();
        loop {
            let error = match self.follow_log(&mut backoff, &mut wake).await {
                Ok(()) => continue,
                Err(error) => error,
            };
            self.deps.halts.failed(halts::PROJECTION, None, &error);
            let pause = backoff.pause();
            if backoff.failures() == 1 {
                tracing::warn!(%error, "the projection waits: a store fails");
            } else {
                tracing::debug!(%error, failures = backoff.failures(), "the projection still waits");
            }
            self.show_lag();
            sleep(pause).await;
        }
    }

    /// Works until the generations have to be read again.
    async fn follow_log(
        &mut self,
        backoff: &mut Backoff,
        wake: &mut watch::Receiver<u64>,
    ) -> Result<(), StoreError> {
        let mut generations = self.read_generations().await?;
        let looked = Instant::now();
        while looked.elapsed() < READ_AGAIN {
            let begun = Instant::now();
            let step = self.step(&mut generations).await?;
            self.deps.halts.goes_on(halts::PROJECTION, None);
            match step {
                Step::Worked => {
                    backoff.reset();
                    tokio::time::sleep_until(begun + PACE).await;
                }
                Step::Stale => return Ok(()),
                Step::Rival => return self.follow_rival(wake).await,
                Step::Idle => {
                    backoff.reset();
                    match self.woken(wake, self.deps.settings.poll).await {
                        Woken::Log => {}
                        Woken::Change => return Ok(()),
                        Woken::Time => self.find_commits(&generations.live.next).await?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the generations and verifies that each is of this log, as far as it is continued.
    async fn read_generations(&mut self) -> Result<Generations, StoreError> {
        let generations = loop {
            let generations = self.generations().await?;
            if self.prove(&generations).await? {
                break generations;
            }
        };
        self.publish(&generations.live);
        self.remade(&generations);
        Ok(generations)
    }

    async fn generations(&self) -> Result<Generations, StoreError> {
        let partitions = self.deps.log.partitions();
        self.deps.model.generations(partitions).await
    }

    fn publish(&self, live: &GenerationState) {
        // A model that is not of this log holds nothing that a reader could wait for.
        let next = self.deps.log.partition_ids().zip(&live.next);
        let next: Vec<Offset> = next
            .map(|(partition, next)| match self.stands(live, partition) {
                Some(_) => *next,
                None => 0,
            })
            .collect();
        self.deps.progress.publish(&next);
        gauge!(PROJECTION_POISON).set(live.parked as f64);
        self.show_lag();
    }

    fn show_lag(&self) {
        for partition in self.deps.log.partition_ids() {
            let lag = self.deps.progress.lag(&self.deps.heads, partition);
            known_gauge(PROJECTION_LAG, partition, lag.map(|lag| lag as f64));
        }
    }

    async fn woken(&self, wake: &mut watch::Receiver<u64>, wait: Duration) -> Woken {
        tokio::select! {
            changed = wake.changed() => match changed {
                Ok(()) => Woken::Log,
                // The sender is gone: nothing will be committed by this process.
                Err(_) => { sleep(wait).await; Woken::Time }
            },
            () = self.changed.notified() => Woken::Change,
            () = sleep(wait) => Woken::Time,
        }
    }

    /// Looks for commits of other processes, which send no wake-up.
    async fn find_commits(&self, next: &[Offset]) -> Result<(), StoreError> {
        for (partition, next) in (0..).map(PartitionId).zip(next) {
            let known = self.deps.heads.next_offset(partition).max(*next);
            let reached = self.deps.log.reach(partition, known).await?;
            self.deps.heads.advance(partition, reached);
        }
        Ok(())
    }

    /// A batch of the live model, then one of the model being built.
    async fn step(&mut self, generations: &mut Generations) -> Result<Step, StoreError> {
        let distrusted = self.distrusted == Some(generations.live.generation);
        let live = if distrusted {
            Step::Idle
        } else {
            self.advance(&mut generations.live, Purpose::Live).await?
        };
        if let Step::Rival | Step::Stale = live {
            return Ok(live);
        }
        if let Step::Worked = live {
            self.publish(&generations.live);
        }
        let Some(building) = &mut generations.building else {
            return Ok(live);
        };
        let built = self.advance(building, Purpose::Rebuild).await?;
        let caught_up = if distrusted {
            matches!(built, Step::Idle) && self.is_caught_up(&building.next)
        } else {
            let both = building.next.iter().zip(&generations.live.next);
            let mut both = both.map(|(building, live)| building >= live);
            both.all(|caught_up| caught_up)
        };
        if caught_up && !matches!(built, Step::Rival) {
            let swap = self.deps.model.swap(building.generation, distrusted);
            swap.await?;
            return Ok(Step::Stale);
        }
        Ok(match (live, built) {
            (_, Step::Rival) => Step::Rival,
            (Step::Idle, Step::Idle) => Step::Idle,
            _ => Step::Worked,
        })
    }

    /// One batch of one generation.
    async fn advance(
        &mut self,
        state: &mut GenerationState,
        purpose: Purpose,
    ) -> Result<Step, StoreError> {
        let stretches = self.stretches(state);
        if stretches.is_empty() {
            return Ok(Step::Idle);
        }
        let limits = self.deps.settings.batch;
        let asked: u64 = stretches.iter().map(|s| s.to - s.from).sum();
        let begun = Instant::now();
        let reading = gather(self.deps.log.clone(), stretches, limits);
        let gathered = self.deps.io.run("s3", "project", reading).await?;
        for (partition, error) in &gathered.damaged {
            self.damaged.note(*partition, error, Instant::now());
        }
        for read in &gathered.moves {
            self.damaged.goes_on(read.partition);
        }
        for partition in &gathered.diverged {
            // Verified again on the next round.
            self.proven.remove(&(state.generation, *partition));
        }
        if !gathered.diverged.is_empty() {
            return Ok(Step::Stale);
        }
        if gathered.moves.is_empty() {
            return Ok(Step::Idle);
        }
        self.adapt(asked, &gathered);
        let events = gathered.count;
        let moves = gathered.moves.clone();
        let mut span = project_span(&gathered, state.generation, purpose);
        span.began_before(begun.elapsed());
        let applied = self.apply(state.generation, gathered, &span).await;
        let Some(parked) = applied.inspect_err(|e| span.fail(e.kind.as_str()))? else {
            span.set("oms.outcome", "rival");
            return Ok(Step::Rival);
        };
        drop(span);
        for stretch in moves {
            let mark = Mark::on(self.deps.log.id(), stretch.to, stretch.after);
            let at = usize::from(stretch.partition.0);
            if let Some(next) = state.next.get_mut(at) {
                *next = stretch.to;
            }
            if let Some(anchor) = state.anchors.get_mut(at) {
                *anchor = mark.anchor;
            }
            let key = (state.generation, stretch.partition);
            self.proven.insert(key, mark);
        }
        state.parked += parked as u64;
        counter!(PROJECTED).increment(events as u64);
        Ok(Step::Worked)
    }

    /// The spans to read beyond a generation's offsets.
    fn stretches(&mut self, state: &GenerationState) -> Vec<Stretch> {
        let (partitions, now) = (state.next.len() as u16, Instant::now());
        let first = self.first;
        self.first = (first + 1) % partitions.max(1);
        (0..partitions)
            .map(|i| PartitionId((first + i) % partitions))
            .filter_map(|partition| {
                let mark = self.stands(state, partition)?;
                let (from, head) = (mark.next, self.deps.heads.next_offset(partition));
                (from < head && !self.damaged.holds(partition, now)).then(|| Stretch {
                    partition,
                    from,
                    to: head.min(from + self.turn),
                    prev: mark.hash(),
                })
            })
            .collect()
    }

    fn adapt(&mut self, asked: u64, gathered: &Gathered) {
        let limits = self.deps.settings.batch;
        let read: u64 = gathered.moves.iter().map(|m| m.to - m.from).sum();
        let half_full = gathered.count > limits.events / 2 || gathered.bytes > limits.bytes / 2;
        if read < asked {
            self.turn = (self.turn / 2).max(1);
        } else if !half_full {
            self.turn = (self.turn * 2).min(TURN.1);
        }
    }

    /// Stores a batch; returns the number of parked events, or `None` when another process has
    /// moved the model on.
    async fn apply(
        &self,
        generation: Generation,
        gathered: Gathered,
        span: &SharedSpan,
    ) -> Result<Option<usize>, StoreError> {
        let Gathered {
            moves,
            changes,
            mut parked,
            events,
            ..
        } = gathered;
        let whole = Batch {
            generation,
            moves: moves.clone(),
            changes,
            parked: parked.clone(),
        };
        let mut transaction = span.part(Kind::Client, "PostgreSQL read model");
        transaction.set("db.system.name", "postgresql");
        let applied = self.deps.model.apply(whole).await;
        if let Err(error) = &applied {
            transaction.fail(error.kind.as_str());
        }
        drop(transaction);
        match applied? {
            Applied::Yes => {}
            Applied::Moved => return Ok(None),
            Applied::Unfit(_) => {
                match self.find_culprits(generation, &events).await? {
                    Some(culprits) => parked.extend(culprits),
                    None => return Ok(None),
                }
                let rest = Batch {
                    generation,
                    moves,
                    changes: Changes::default(),
                    parked: parked.clone(),
                };
                if self.deps.model.apply(rest).await? != Applied::Yes {
                    return Ok(None);
                }
            }
        }
        for event in &parked {
            tracing::error!(position = %event.position, stream = event.stream,
                event_type = event.event_type, reason = event.reason,
                "parked an event that the read model cannot take in");
        }
        Ok(Some(parked.len()))
    }

    /// Applies every event that the store accepts, halving what it refuses, and returns the events
    /// that it refuses one by one. For those only the version is recorded, not the content, so that
    /// the next event of the stream makes its state complete again. Offsets are unchanged: applying
    /// events twice changes nothing.
    async fn find_culprits(
        &self,
        generation: Generation,
        events: &[(Position, Bytes)],
    ) -> Result<Option<Vec<ParkedEvent>>, StoreError> {
        let mut culprits = Vec::new();
        let mut stretches = vec![events];
        while let Some(stretch) = stretches.pop() {
            let mut changes = Changes::default();
            for (_, event) in stretch {
                // Folded once already, so it cannot fail now.
                let _ = changes.take(event);
            }
            if changes.is_empty() {
                continue;
            }
            let reason = match self.take_events(generation, changes.clone()).await? {
                Applied::Yes => continue,
                Applied::Moved => return Ok(None),
                Applied::Unfit(reason) => reason,
            };
            if let [(position, event)] = stretch {
                culprits.push(ParkedEvent::new(*position, event, reason));
                let bare = changes.without_content();
                if self.take_events(generation, bare).await? == Applied::Moved {
                    return Ok(None);
                }
            } else {
                let (former, latter) = stretch.split_at(stretch.len() / 2);
                // Older events first: an incomplete state builds on them.
                stretches.push(latter);
                stretches.push(former);
            }
        }
        Ok(Some(culprits))
    }

    async fn take_events(
        &self,
        generation: Generation,
        changes: Changes,
    ) -> Result<Applied, StoreError> {
        let batch = Batch {
            generation,
            moves: Vec::new(),
            changes,
            parked: Vec::new(),
        };
        self.deps.model.apply(batch).await
    }

    /// Watches another process keep the model, until the log goes on and the model does not.
    async fn follow_rival(&mut self, wake: &mut watch::Receiver<u64>) -> Result<(), StoreError> {
        let mut seen = self.generations().await?;
        let mut moved = Instant::now();
        loop {
            let behind = seen.building.is_some() || !self.is_caught_up(&seen.live.next);
            let wait = if behind {
                FOLLOW
            } else {
                self.deps.settings.poll
            };
            // Without lag a wake-up is news; with lag it only says that there is more to wait for.
            if behind {
                let _ = timeout(wait, self.changed.notified()).await;
            } else if let Woken::Time = self.woken(wake, wait).await {
                self.find_commits(&seen.live.next).await?;
            }
            let now = self.generations().await?;
            // The process that moves the model on has verified that it is of this log.
            self.deps.progress.publish(&now.live.next);
            gauge!(PROJECTION_POISON).set(now.live.parked as f64);
            self.show_lag();
            let same = now.live.generation == seen.live.generation
                && now.live.next == seen.live.next
                && now.building.as_ref().map(|b| &b.next)
                    == seen.building.as_ref().map(|b| &b.next);
            if !same || !behind {
                moved = Instant::now();
            } else if moved.elapsed() > TAKE_OVER_AFTER {
                return Ok(());
            }
            seen = now;
        }
    }

    fn is_caught_up(&self, next: &[Offset]) -> bool {
        (0..)
            .map(PartitionId)
            .zip(next)
            .all(|(partition, next)| *next >= self.deps.heads.next_offset(partition))
    }
}
