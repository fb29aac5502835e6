//! The copier of one partition: commit objects, byte for byte, to the same offsets of the store
//! that does not lead. In `dual_write` it follows the writes; history from before that mode is
//! copied first (the backfill), since one store's log is always a prefix of the other's.
//!
//! Any number of processes may copy at the same time, and a copy may come late: every object goes
//! to its own offset and only if that is free.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::time::{Instant, timeout};

use super::MirrorDeps;
use crate::actors::mirror_progress::Mirror;
use crate::domain::ids::{Offset, PartitionId};
use crate::log::identity::Foreign;
use crate::log::lead::Lead;
use crate::log::object::CommitObject;
use crate::metrics::{self, UNMIRRORED};
use crate::migration::stage::StageKind;
use crate::store::alarms::CopyKind;
use crate::store::backoff::Backoff;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::halts::COPY;
use crate::store::log::log_heads::LogHeads;
use crate::store::log::log_reader::LogReader;

/// Commits copied at a time.
const COPY_COMMITS: u64 = 256;

/// Bytes copied at a time, approximately; bounds memory.
const COPY_BYTES: usize = 8 << 20;

/// A copy that lags by at most so many commits keeps up, and writers may wait for it.
const IN_STEP: u64 = 64;

/// How often to look for something to copy without news.
const LOOK: Duration = Duration::from_millis(500);

/// Pauses while one of the stores does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Failures in a row, about a second, before a copy that is not of this log is reported.
const TOLD_AFTER: u32 = 5;

/// Copies some of what `to` lacks between `from` and `up_to`; returns the first offset that it is
/// not known to have. Requires `from < up_to`, and everything before `up_to` to be in the log.
pub async fn copy_some(
    log: &LogReader,
    partition: PartitionId,
    to: Lead,
    from: Offset,
    up_to: Offset,
) -> Result<(Offset, u64), StoreError> {
    let place = log.place(to).ok_or_else(|| {
        let what = format!("{} is no place of this log", to.as_str());
        StoreError::determinate(StoreErrorKind::Invalid, "log", "copy", what)
    })?;
    let up_to = up_to.min(from + COPY_COMMITS);
    let mut objects: Vec<Arc<CommitObject>> = Vec::new();
    let (mut bytes, mut events) = (0, 0);
    {
        let mut commits = log.commits(partition, from, up_to);
        while bytes < COPY_BYTES {
            let Some(object) = commits.try_next().await? else {
                break;
            };
            bytes += object.bytes.len();
            events += object.event_count() as u64;
            objects.push(object);
        }
    }
    let next = place.copy(&objects).await?;
    metrics::mirrored(to, next.saturating_sub(from));
    Ok((next, events))
}

/// Checks that the last commit of `to` before `end` is the one that the other store holds there.
/// Its hash covers all commits before it: nothing may be appended to a copy that has diverged.
pub async fn prove_end(
    log: &LogReader,
    partition: PartitionId,
    to: Lead,
    end: Offset,
) -> Result<(), StoreError> {
    let from = match to {
        Lead::S3 => Lead::Postgres,
        Lead::Postgres => Lead::S3,
    };
    if to == Lead::S3 {
        log.confirm_bucket().await?;
    }
    let (Some(last), Some(copy), Some(truth)) =
        (end.checked_sub(1), log.place(to), log.place(from))
    else {
        return Ok(());
    };
    let ends = copy.get(partition, last).await?;
    let leads = truth.get(partition, last).await?;
    let why = match (ends, leads) {
        (Some(ends), Some(leads)) if ends.bytes == leads.bytes => return Ok(()),
        (None, _) => return Ok(()),
        (Some(_), Some(_)) => Foreign::Diverged,
        (Some(_), None) => Foreign::Behind,
    };
    let what = why.describe(CopyKind::Mirror.name(), partition, end);
    Err(StoreError::corrupt(to.as_str(), "copy", what))
}

pub struct Copier {
    deps: MirrorDeps,
    partition: PartitionId,
    /// The store to copy to, and the first offset that it is not known to have.
    cursor: Option<(Lead, Offset)>,
}

/// Commits that a copy ending at `next` lacks; `None` while the head of the log is unknown.
fn lag(heads: &LogHeads, partition: PartitionId, next: Offset) -> Option<f64> {
    let head = heads.known(partition)?;
    Some(head.saturating_sub(next) as f64)
}

impl Copier {
    pub fn new(deps: MirrorDeps, partition: PartitionId) -> Self {
        Self {
            deps,
            partition,
            cursor: None,
        }
    }

    /// Copies for ever, in the stages that keep a copy.
    pub async fn run(mut self) {
        let mut heads = self.deps.heads.subscribe();
        let mut stages = self.deps.stages.clone();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            heads.mark_unchanged();
            stages.mark_unchanged();
            let Some(to) = self.direction() else {
                self.idle();
                if stages.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let step = self.step(to).await;
            match &step {
                Ok(_) => {
                    self.deps.halts.goes_on(COPY, Some(self.partition));
                }
                Err(error) => {
                    self.deps.halts.failed(COPY, Some(self.partition), error);
                    self.show_lag(to);
                }
            }
            match step {
                Ok(true) => self.sound(&mut backoff),
                Ok(false) => {
                    self.sound(&mut backoff);
                    let news = async {
                        tokio::select! {
                            _ = heads.changed() => {}
                            _ = stages.changed() => {}
                        }
                    };
                    // Checked at this interval even without news.
                    let _ = timeout(LOOK, news).await;
                }
                Err(error) => {
                    self.out_of_step();
                    self.cursor = None;
                    metrics::mirror_failed(to, error.kind);
                    let pause = backoff.pause();
                    // A process that does not know of a hand-off yet copies the wrong way for a
                    // moment.
                    if backoff.failures() >= TOLD_AFTER {
                        self.tell(to, &error);
                    }
                    if backoff.failures() == 1 {
                        tracing::warn!(partition = %self.partition, to = to.as_str(), %error,
                            "the copy waits; writes go on");
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn direction(&self) -> Option<Lead> {
        let stages = self.deps.stages.borrow();
        let state = stages.get(usize::from(self.partition.0)).copied().flatten();
        match state?.kind()? {
            StageKind::DualWritePostgres => Some(Lead::S3),
            StageKind::DualWriteS3 => Some(Lead::Postgres),
            StageKind::Legacy | StageKind::S3Only => None,
        }
    }

    fn sound(&self, backoff: &mut Backoff) {
        backoff.reset();
        let alarms = self.deps.log.alarms();
        alarms.clear(CopyKind::Mirror, self.partition);
    }

    /// Reports a copy that has diverged from the log or cannot be read; it is not written to.
    fn tell(&self, to: Lead, error: &StoreError) {
        if error.kind == StoreErrorKind::Corrupt {
            let message = format!(
                "the copy of partition {} in {} is not written on: {}. Run `oms verify`, which \
                 says what to repair",
                self.partition,
                to.as_str(),
                error.message
            );
            let alarms = self.deps.log.alarms();
            alarms.raise(CopyKind::Mirror, self.partition, "diverged", message);
        }
    }

    fn idle(&mut self) {
        self.deps
            .log
            .alarms()
            .clear(CopyKind::Mirror, self.partition);
        self.cursor = None;
        // This stage keeps no copy that could be reported.
        self.deps.mirrors.set(self.partition, Mirror::default());
        metrics::known_gauge(UNMIRRORED, self.partition, None);
        self.deps.halts.goes_on(COPY, Some(self.partition));
    }

    /// Publishes the lag of the copy in `to`, as far as it is known, also while copying fails.
    fn show_lag(&self, to: Lead) {
        let known = self.deps.mirrors.known(self.partition, to);
        let lag = known.and_then(|mirror| lag(&self.deps.heads, self.partition, mirror.next));
        metrics::known_gauge(UNMIRRORED, self.partition, lag);
    }

    fn out_of_step(&self) {
        let known = self.deps.mirrors.of(self.partition);
        let mirror = Mirror {
            in_step: false,
            ..known
        };
        self.deps.mirrors.set(self.partition, mirror);
    }

    /// Copies what there is, up to [`COPY_COMMITS`]; returns whether there was anything.
    async fn step(&mut self, to: Lead) -> Result<bool, StoreError> {
        let from = match self.cursor {
            Some((target, next)) if target == to => next,
            _ => {
                let end = self.find_end(to).await?;
                // Published even if nothing can be copied.
                self.found(to, end, false);
                prove_end(&self.deps.log, self.partition, to, end).await?;
                end
            }
        };
        let head = self.deps.heads.next_offset(self.partition);
        if from >= head {
            self.reached(to, from, true);
            return Ok(false);
        }
        let in_step = self.deps.mirrors.of(self.partition).in_step;
        if !in_step && head - from > IN_STEP {
            // The log grows while the copying of history is paused.
            while timeout(LOOK, self.deps.throttle.may_begin()).await.is_err() {
                self.show_lag(to);
            }
        }
        let begun = Instant::now();
        let (next, events) = copy_some(&self.deps.log, self.partition, to, from, head).await?;
        self.deps.throttle.count(events);
        let head = self.deps.heads.next_offset(self.partition);
        let in_step = self.deps.mirrors.of(self.partition).in_step;
        self.reached(to, next, in_step || head.saturating_sub(next) <= IN_STEP);
        if head.saturating_sub(next) > IN_STEP {
            self.deps.throttle.spend(events, begun).await;
        }
        Ok(true)
    }

    /// Finds where the copy ends, starting from what is known to be there.
    async fn find_end(&self, to: Lead) -> Result<Offset, StoreError> {
        match self.deps.log.place(to) {
            Some(place) => place.end(self.partition, 0).await,
            None => Ok(0),
        }
    }

    fn reached(&mut self, to: Lead, next: Offset, in_step: bool) {
        self.cursor = Some((to, next));
        self.deps.log.routes().set_mirrored(self.partition, next);
        self.found(to, next, in_step);
    }

    fn found(&self, to: Lead, next: Offset, in_step: bool) {
        let mirror = Mirror {
            to: Some(to),
            next,
            in_step,
        };
        self.deps.mirrors.set(self.partition, mirror);
        self.show_lag(to);
    }
}
