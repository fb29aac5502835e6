//! Appends one run of a stream's events, until they are in the log or cannot be.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::appender::{Appender, ImportAppend};
use super::numbering::{Numbering, Unnumbered};
use crate::actors::event_store::AppendError;
use crate::domain::ids::Version;
use crate::import::encoder::Encoder;
use crate::import::lanes::{Queued, Run};
use crate::import::mapping::ParkReason;
use crate::log::batch::AppendOutcome;
use crate::store::backoff::Backoff;

/// How long one attempt waits for its outcome: longer than the writer tries a put, so that the
/// writer gives up first and says what it knows.
const DEADLINE: Duration = Duration::from_secs(20);

const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The current failure, as reported by whichever append noticed last.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<String>>);

impl Trouble {
    pub fn set(&self, what: impl std::fmt::Display) {
        *self.0.lock() = Some(what.to_string());
    }

    fn clear(&self) {
        let mut trouble = self.0.lock();
        if trouble.is_some() {
            *trouble = None;
        }
    }

    pub fn get(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

/// The outcome of a run: its first `written + existing` events are in the log.
pub(super) struct Settled {
    pub run: Run,
    pub written: usize,
    pub existing: usize,
    /// Why the event after those is not.
    pub failed: Option<(ParkReason, String)>,
}

/// Retries for ever, because every failure of a store is expected to end: only the log's answer
/// ends it.
pub(super) async fn settle(
    appender: Arc<dyn Appender>,
    encoder: Arc<Encoder>,
    numbering: Arc<Numbering>,
    trouble: Arc<Trouble>,
    mut run: Run,
) -> Settled {
    let mut settling = Settling {
        appender,
        encoder,
        numbering,
        trouble,
        backoff: Backoff::new(RETRY.0, RETRY.1),
        written: 0,
        existing: 0,
    };
    let failed = match settling.number(&mut run).await {
        Ok(()) => settling.all(&run).await.err(),
        Err(failed) => Some(failed),
    };
    Settled {
        run,
        written: settling.written,
        existing: settling.existing,
        failed,
    }
}

struct Settling {
    appender: Arc<dyn Appender>,
    encoder: Arc<Encoder>,
    numbering: Arc<Numbering>,
    trouble: Arc<Trouble>,
    backoff: Backoff,
    written: usize,
    existing: usize,
}

type Failed = (ParkReason, String);

impl Settling {
    async fn number(&mut self, run: &mut Run) -> Result<(), Failed> {
        loop {
            let numbering = self.numbering.clone();
            match numbering.number(&*self.appender, run).await {
                Ok(()) => return Ok(()),
                Err(Unnumbered::NotYet(error)) => self.wait(error).await,
                Err(Unnumbered::Never(reason, detail)) => return Err((reason, detail)),
            }
        }
    }

    async fn all(&mut self, run: &Run) -> Result<(), Failed> {
        loop {
            let done = self.written + self.existing;
            let left = &run.events[done..];
            let (Some(first), Some(last)) = (left.first(), left.last()) else {
                return Ok(());
            };
            let (first, last) = (first.event.version, last.event.version);
            // Events that the log already has need not be sent to be refused.
            match self.appender.head(&run.stream) {
                Some(head) if head >= first => self.recognise(run, left, head.min(last)).await?,
                _ => self.append(run, left, last).await?,
            }
        }
    }

    async fn append(&mut self, run: &Run, left: &[Queued], last: Version) -> Result<(), Failed> {
        let Some((command, encoded)) = self.encoder.encode(left.iter().map(|q| &q.event)) else {
            return Ok(());
        };
        let Some(expected) = left.first().map(|q| Version(q.event.version.0 - 1)) else {
            return Ok(());
        };
        loop {
            let append = ImportAppend {
                stream: run.stream.clone(),
                expected,
                command,
                events: encoded.clone(),
                deadline: Instant::now() + DEADLINE,
            };
            match self.appender.append(append).await {
                Ok(AppendOutcome::Committed { .. }) => {
                    self.works();
                    self.written += left.len();
                    return Ok(());
                }
                Ok(AppendOutcome::Conflict { actual }) if actual < expected => {
                    self.works();
                    let mut detail = format!(
                        "its stream's version is {actual} in the log, so versions {} to {expected} \
                         are missing",
                        actual.plus(1)
                    );
                    if actual == Version::NONE {
                        detail.push_str(
                            ": if they were deleted there, first_version = \"any\" begins with \
                             what is there first",
                        );
                    }
                    return Err((ParkReason::Gap, detail));
                }
                Ok(AppendOutcome::Conflict { actual }) => {
                    self.works();
                    return self.recognise(run, left, actual.min(last)).await;
                }
                Ok(AppendOutcome::Repeated(outcome)) => {
                    self.works();
                    return self.recognise(run, left, outcome.version.min(last)).await;
                }
                Ok(AppendOutcome::KeyReused(_)) => {
                    let detail = format!("command {command} stands for something else in the log");
                    return Err((ParkReason::Diverged, detail));
                }
                // Not expected: imported commands have no idempotency key.
                Ok(AppendOutcome::KeysFull(_)) => self.wait("no room for an idempotency key").await,
                // Fewer events may fit; the others follow.
                Err(AppendError::TooLarge { .. }) if left.len() > 1 => {
                    let half = &left[..left.len() / 2];
                    let last = half.last().map_or(last, |q| q.event.version);
                    return Box::pin(self.append(run, half, last)).await;
                }
                Err(error @ AppendError::TooLarge { .. }) => {
                    self.works();
                    return Err((ParkReason::TooLarge, error.to_string()));
                }
                // An append that was written is recognised by its command id when it is sent again.
                Err(error @ (AppendError::NotWritten(_) | AppendError::Unknown(_))) => {
                    self.wait(error).await;
                }
            }
        }
    }

    fn works(&mut self) {
        self.backoff.reset();
        self.trouble.clear();
    }

    async fn wait(&mut self, why: impl std::fmt::Display) {
        self.trouble.set(why);
        tokio::time::sleep(self.backoff.pause()).await;
    }

    /// The log has versions up to `to`: checks whether they are these events.
    async fn recognise(&mut self, run: &Run, left: &[Queued], to: Version) -> Result<(), Failed> {
        let Some(from) = left.first().map(|q| q.event.version) else {
            return Ok(());
        };
        if to < from {
            // The log has the command, but this process has not read it yet.
            self.wait("the log is being read").await;
            return Ok(());
        }
        let ids = loop {
            match self.appender.event_ids(&run.stream, from, to).await {
                Ok(ids) if ids.is_empty() => self.wait("the log is being read").await,
                Ok(ids) => break ids,
                Err(error) => self.wait(error).await,
            }
        };
        self.works();
        for (queued, id) in left.iter().zip(ids) {
            if queued.event.id != id {
                let detail = format!(
                    "the log has event {id} as version {} of its stream",
                    queued.event.version
                );
                return Err((ParkReason::Diverged, detail));
            }
            self.existing += 1;
        }
        Ok(())
    }
}
