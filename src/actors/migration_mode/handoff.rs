//! The I/O of a hand-off: reads both stores, asks for the next step, does it, reads again. Which
//! step comes next is decided in [`crate::migration::handoff`], which is model-checked.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::partition_registry::PartitionRegistry;
use crate::actors::mirror::copier::{copy_some, prove_end};
use crate::clock::new_uuid;
use crate::domain::ids::{Offset, PartitionId, WriterId};
use crate::log::lead::{Lead, Leadership};
use crate::log::object::{CommitHeader, CommitKind, CommitObject, ControlRecord, FORMAT};
use crate::metrics;
use crate::migration::edge::{Edge, Move};
use crate::migration::handoff::{
    Action, Known, PostgresView, Reason, S3View, Wish, begin, next_action,
};
use crate::migration::record::{Change, MigrationRow};
use crate::store::backoff::Backoff;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::ports::commit_store::CommitStore as _;
use crate::store::ports::migration_table::MigrationTable;

/// Pauses before reading again what another process is changing.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// Pauses while a store does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How much longer than its timeout an abandoned hand-off is worked on at a time; undoing it takes
/// a moment once that is requested.
const GRACE: Duration = Duration::from_secs(2);

/// The state of both stores.
struct Seen {
    known: Known,
    /// Why S3 could not be read.
    s3_error: Option<StoreError>,
}

/// The outcome of moving one partition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moved {
    pub leadership: Leadership,
    /// For how long writes waited, as far as this process saw it.
    pub pause: Duration,
}

pub struct Mover<'a> {
    pub registry: &'a PartitionRegistry,
    /// The migration rows in PostgreSQL.
    pub table: &'a dyn MigrationTable,
    pub partition: PartitionId,
    /// Commits that the other store may lag when a hand-off begins.
    pub max_lag: u64,
}

impl Mover<'_> {
    /// Walks one edge to its end. Retries while a store does not answer; a hand-off that has not
    /// ended `timeout` after its first step is requested to be undone.
    pub async fn walk(&self, step: Move, timeout: Duration) -> Result<Moved, StoreError> {
        let mut begun: Option<Instant> = None;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut looks = Backoff::new(LOOK_AGAIN.0, LOOK_AGAIN.1);
        loop {
            let (action, s3_error) = match (self.known().await, begun) {
                (Ok(seen), None) => (begin(&seen.known, step, self.max_lag), seen.s3_error),
                (Ok(seen), Some(at)) => {
                    let wish = Wish::by_deadline(at.elapsed() > timeout);
                    (next_action(&seen.known, wish), seen.s3_error)
                }
                (Err(e), None) => return Err(e),
                (Err(error), Some(_)) => {
                    self.waits(&mut backoff, &error).await;
                    continue;
                }
            };
            match action {
                Action::Done(leadership) => {
                    let pause = begun.map_or(Duration::ZERO, |at| at.elapsed());
                    if begun.is_some() && step.edge == Edge::B {
                        self.ended(step.to().lead(), leadership, pause);
                    }
                    return Ok(Moved { leadership, pause });
                }
                Action::Wait(Reason::Elsewhere) if begun.is_none() => {
                    return Err(elsewhere(self.partition, step));
                }
                // Another process's hand-off: it is ended first.
                Action::Wait(Reason::HandOffUnderWay) if begun.is_none() => {
                    self.settle(Duration::ZERO, timeout).await?;
                }
                Action::Wait(Reason::S3Unavailable) => {
                    let error = s3_error.unwrap_or_else(no_s3);
                    if begun.is_none() {
                        return Err(error);
                    }
                    self.waits(&mut backoff, &error).await;
                }
                action => {
                    let fences = matches!(action, Action::SetRow { .. });
                    match self.act(action).await {
                        Ok(true) => {
                            backoff.reset();
                            looks.reset();
                            if fences && begun.is_none() {
                                begun = Some(Instant::now());
                            }
                        }
                        Ok(false) => sleep(looks.pause()).await,
                        Err(e) if begun.is_none() && !e.is_indeterminate() => return Err(e),
                        Err(error) => {
                            // The step may have happened: from here on the row tells.
                            begun.get_or_insert_with(Instant::now);
                            tracing::warn!(partition = %self.partition, ?action, %error,
                                "a step of the hand-off is tried again");
                            sleep(backoff.pause()).await;
                        }
                    }
                }
            }
        }
    }

    /// Ends a hand-off that was found under way, `age` old: finishes it, or undoes it once it is
    /// older than `timeout`. If neither is possible because a store does not answer, returns an
    /// error after [`GRACE`], so that the caller can look after other partitions and come back.
    pub async fn settle(&self, age: Duration, timeout: Duration) -> Result<Leadership, StoreError> {
        let begun = Instant::now();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut looks = Backoff::new(LOOK_AGAIN.0, LOOK_AGAIN.1);
        loop {
            let seen = self.known().await?;
            let wish = Wish::by_deadline(age + begun.elapsed() > timeout);
            let enough = begun.elapsed() > timeout.saturating_sub(age) + GRACE;
            let error = match next_action(&seen.known, wish) {
                Action::Done(leadership) => {
                    self.tell().await;
                    return Ok(leadership);
                }
                Action::Wait(Reason::S3Unavailable) => seen.s3_error.unwrap_or_else(no_s3),
                Action::Wait(why) if enough => stuck(self.partition, why),
                action => match self.act(action).await {
                    Ok(true) => {
                        backoff.reset();
                        looks.reset();
                        continue;
                    }
                    Ok(false) => {
                        sleep(looks.pause()).await;
                        continue;
                    }
                    Err(error) => error,
                },
            };
            if enough {
                return Err(error);
            }
            self.waits(&mut backoff, &error).await;
        }
    }

    /// Backs off while a store refuses; the first error is logged as a warning, the next ones at
    /// debug level.
    async fn waits(&self, backoff: &mut Backoff, error: &StoreError) {
        let pause = backoff.pause();
        if backoff.failures() == 1 {
            tracing::warn!(partition = %self.partition, %error, "the hand-off waits");
        } else {
            tracing::debug!(partition = %self.partition, %error, ?pause, "it still waits");
        }
        sleep(pause).await;
    }

    fn ended(&self, wished: Lead, leadership: Leadership, pause: Duration) {
        let outcome = if leadership.lead == wished {
            "done"
        } else {
            "undone"
        };
        metrics::handoff(wished, outcome, pause);
        tracing::info!(partition = %self.partition, wished = wished.as_str(), outcome,
            epoch = leadership.epoch.0, pause_ms = pause.as_millis() as u64,
            "the hand-off has ended");
    }

    /// Executes an action; returns whether it had an effect.
    async fn act(&self, action: Action) -> Result<bool, StoreError> {
        match action {
            Action::SetRow { change, from, to } => self.set_row(change, &from, &to).await,
            Action::CopyToS3 { up_to } => self.copy(Lead::S3, up_to).await,
            Action::CopyToPostgres { up_to } => self.copy(Lead::Postgres, up_to).await,
            Action::PutControlInS3 { offset, record } => self.put_control(offset, record).await,
            Action::Done(_) | Action::Wait(_) => Ok(false),
        }
    }

    async fn set_row(
        &self,
        change: Change,
        from: &MigrationRow,
        to: &MigrationRow,
    ) -> Result<bool, StoreError> {
        let done = self.table.compare_and_set(self.partition, from, to).await?;
        tracing::info!(partition = %self.partition, ?change, done, from = %from.step, to = %to.step,
            "a step of the hand-off");
        self.tell().await;
        Ok(done)
    }

    /// Publishes a step to the writers at once. If the rows cannot be read back now they are read a
    /// moment later: the step itself is done and must not be reported as failed.
    async fn tell(&self) {
        if let Err(error) = self.registry.refresh().await {
            tracing::debug!(partition = %self.partition, %error, "a step is published later");
        }
    }

    async fn copy(&self, to: Lead, up_to: Offset) -> Result<bool, StoreError> {
        let log = self.registry.writer().log();
        let place = log.place(to).ok_or_else(no_s3)?;
        let hint = match to {
            Lead::S3 => self.mirrored(),
            Lead::Postgres => 0,
        };
        let end = place.end(self.partition, hint).await?;
        let mut next = end;
        // The lead must not go to a copy of another log, or of another end of this one.
        prove_end(log, self.partition, to, next.min(up_to)).await?;
        while next < up_to {
            let reached = copy_some(log, self.partition, to, next, up_to).await?.0;
            if reached <= next {
                return Err(no_progress(self.partition, to, next));
            }
            next = reached;
        }
        Ok(next > end)
    }

    /// An offset before which S3 is known to have everything.
    fn mirrored(&self) -> Offset {
        self.registry
            .writer()
            .log()
            .routes()
            .mirrored(self.partition)
    }

    async fn put_control(&self, offset: Offset, record: ControlRecord) -> Result<bool, StoreError> {
        let store = self.registry.writer();
        let last = match offset.checked_sub(1) {
            Some(last) => store.log().s3().get(self.partition, last).await?,
            None => None,
        };
        let Some(last) = last else {
            let what = format!("offset {offset} of {} follows nothing", self.partition);
            return Err(StoreError::corrupt("s3", "put control record", what));
        };
        let header = CommitHeader {
            format: FORMAT,
            partition: self.partition,
            offset,
            epoch: record.epoch,
            writer: WriterId(new_uuid()),
            batch: 0,
            prev: last.hash(),
            at: self.registry.clock().now(),
            count: 1,
            kind: CommitKind::Control,
        };
        let object = CommitObject::control(header, record);
        // Whether ours or another process's object won: the next read finds it, and so do the
        // writers from the row or from the end of the bucket's log. The writers are not waited for,
        // because they wait for the hand-off.
        store.log().s3().put(&object).await.map(|_| true)
    }

    /// Reads both stores. S3 that cannot be read for any reason counts as unavailable: a hand-off
    /// can be undone without it, and writes wait meanwhile.
    async fn known(&self) -> Result<Seen, StoreError> {
        let postgres = self.postgres().await?;
        let (s3, s3_error) = match self.s3().await {
            Ok(view) => (Some(view), None),
            Err(error) => {
                tracing::debug!(partition = %self.partition, %error, "S3 cannot be looked at");
                (None, Some(error))
            }
        };
        let known = Known { postgres, s3 };
        Ok(Seen { known, s3_error })
    }

    async fn postgres(&self) -> Result<PostgresView, StoreError> {
        let view = self.table.view(self.partition).await?;
        view.ok_or_else(|| {
            StoreError::corrupt(
                "postgres",
                "read migration",
                format!("partition {} has no row", self.partition),
            )
        })
    }

    /// The end of S3's log and its last control record, both read from S3: what this process has
    /// read of the log may be older, or of the other store.
    async fn s3(&self) -> Result<S3View, StoreError> {
        let store = self.registry.writer();
        let s3 = store.log().s3();
        let read = store.with_log(self.partition, |log| log.next_offset());
        let mut from = self.mirrored().min(read.unwrap_or(0));
        if from > 0 && s3.get(self.partition, from - 1).await?.is_none() {
            // The bucket holds less than was known.
            from = 0;
        }
        let next = s3.end(self.partition, from).await?;
        let known = read.unwrap_or(0).min(next);
        let mut control = store
            .with_log(self.partition, |log| log.leadership_at(known))
            .flatten()
            .map(|l| ControlRecord {
                lead: l.lead,
                epoch: l.epoch,
            });
        let mut at = known;
        while at < next {
            let objects = s3.span(self.partition, at, next.min(at + SPAN)).await?;
            if objects.is_empty() {
                break;
            }
            for object in &objects {
                let found = object
                    .control_record()
                    .map_err(|e| StoreError::corrupt("s3", "read log", e.to_string()))?;
                control = found.or(control);
                at = object.header.offset + 1;
            }
        }
        Ok(S3View { next: at, control })
    }
}

/// Objects read at a time while looking for control records.
const SPAN: u64 = 256;

fn elsewhere(partition: PartitionId, step: Move) -> StoreError {
    StoreError::determinate(
        StoreErrorKind::Conflict,
        "postgres",
        "walk edge",
        format!("partition {partition} is not in {}", step.from()),
    )
}

fn no_progress(partition: PartitionId, to: Lead, at: Offset) -> StoreError {
    let what = format!("the copy of partition {partition} does not get beyond offset {at}");
    StoreError::determinate(StoreErrorKind::Unavailable, to.as_str(), "copy", what)
}

fn stuck(partition: PartitionId, why: Reason) -> StoreError {
    let what = format!("the hand-off of partition {partition} cannot be ended now: {why:?}");
    StoreError::determinate(StoreErrorKind::Unavailable, "postgres", "walk edge", what)
}

fn no_s3() -> StoreError {
    StoreError::determinate(
        StoreErrorKind::Unavailable,
        "s3",
        "walk edge",
        "S3 does not answer, and the lead cannot move without it",
    )
}
