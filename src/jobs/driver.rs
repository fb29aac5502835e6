//! Runs one job until it ends, pauses or is lost: the runner, and beside it a heartbeat that stores
//! its progress and fetches commands given to other processes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::context::JobContext;

use super::failure::JobFailure;
use super::failure::{Interrupted, JobCommand};
use super::runner::Runner;
use crate::metrics;
use crate::migration::job::{Job, JobProgress, JobState};
use crate::store::backoff::Backoff;
use crate::store::halts::Halts;
use crate::store::ports::job_table::{JobEnd, JobTable};

/// Pauses of a job that waits for a store. Short, because somebody watches: a recovered store
/// should be noticed within seconds.
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);

pub(super) struct Driver {
    pub table: Arc<dyn JobTable>,
    pub runner: Arc<dyn Runner>,
    pub context: Arc<JobContext>,
    pub orders: watch::Sender<JobCommand>,
    pub node: String,
    pub beat_every: Duration,
    pub halts: Halts,
}

impl Driver {
    /// Runs the job and records how it ended.
    pub async fn run(self, job: &Job) {
        tracing::info!(job = %job.id, kind = %job.kind, "job {} begins or goes on", job.kind);
        let outcome = tokio::select! {
            outcome = self.work() => outcome,
            () = self.beat() => Err(JobFailure::Interrupted(Interrupted(JobCommand::Leave))),
        };
        self.halts.goes_on(self.runner.kind().as_str(), None);
        let (state, report, error) = match outcome {
            Ok(report) => (JobState::Done, Some(report), None),
            Err(JobFailure::Interrupted(Interrupted(JobCommand::Pause))) => {
                (JobState::Paused, None, None)
            }
            Err(JobFailure::Interrupted(Interrupted(JobCommand::Cancel))) => {
                (JobState::Cancelled, None, None)
            }
            Err(JobFailure::Interrupted(_)) => {
                tracing::info!(job = %job.id, kind = %job.kind, "left job {} to others", job.kind);
                return;
            }
            Err(failure) => (JobState::Failed, None, Some(failure.to_string())),
        };
        match &error {
            Some(error) => {
                tracing::error!(job = %job.id, kind = %job.kind, error, "job {} failed", job.kind);
            }
            None => tracing::info!(job = %job.id, kind = %job.kind, state = state.as_str(),
                "job {} is {}", job.kind, state.as_str()),
        }
        self.record(job, state, report, error).await;
    }

    /// Runs the runner, again after each temporary failure of a store.
    async fn work(&self) -> Result<Value, JobFailure> {
        let mut backoff = Backoff::new(MIN_PAUSE, MAX_PAUSE);
        let mut before = self.context.seen().1;
        loop {
            match self.runner.run(&self.context).await {
                Err(JobFailure::Store(error)) if error.is_transient() => {
                    let checkpoint = self.context.seen().1;
                    if checkpoint != before {
                        backoff.reset();
                        before = checkpoint;
                    }
                    if backoff.failures() == 0 {
                        tracing::warn!(job = %self.context.id(), %error, "a job waits");
                    }
                    self.context.waiting(Some(error.to_string()));
                    self.context.wait(backoff.pause()).await;
                    self.context.interrupted()?;
                }
                outcome => {
                    self.context.waiting(None);
                    return outcome;
                }
            }
        }
    }

    /// Ends when the job does not belong to this process any more.
    async fn beat(&self) {
        let mut ticks = tokio::time::interval(self.beat_every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (progress, checkpoint) = self.context.seen();
            let kind = self.runner.kind().as_str();
            metrics::job_progress(kind, progress.done, progress.total);
            if progress.waiting.is_some() {
                self.halts.set(
                    kind,
                    None,
                    "the job waits: ask for it to see what for",
                    true,
                );
            } else {
                self.halts.goes_on(kind, None);
            }
            let id = self.context.id();
            let beat = self
                .table
                .beat(id, &self.node, &progress, checkpoint.as_ref());
            match beat.await {
                Ok(Some(JobState::Pausing)) => self.tell(JobCommand::Pause),
                Ok(Some(_)) => {}
                // Cancelled, or taken over while PostgreSQL could not be reached.
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(job = %id, %error, "a job's heartbeat is not recorded");
                }
            }
        }
    }

    fn tell(&self, order: JobCommand) {
        self.orders.send_if_modified(|now| {
            let stronger = *now == JobCommand::Run;
            if stronger {
                *now = order;
            }
            stronger
        });
    }

    /// Records how the job ended, retrying as long as necessary: until then it counts as running,
    /// and after a crash it runs again from its checkpoint.
    async fn record(
        &self,
        job: &Job,
        state: JobState,
        report: Option<Value>,
        error: Option<String>,
    ) {
        let (progress, checkpoint) = self.context.seen();
        let progress = JobProgress {
            waiting: None,
            rate: if state == JobState::Paused {
                0.0
            } else {
                progress.rate
            },
            eta_seconds: None,
            ..progress
        };
        // The last beat was before the last steps: what is shown must not stay there.
        metrics::job_progress(self.runner.kind().as_str(), progress.done, progress.total);
        let end = JobEnd {
            state,
            checkpoint,
            progress,
            report,
            error,
        };
        let mut backoff = Backoff::new(MIN_PAUSE, MAX_PAUSE);
        loop {
            match self.table.end(job.id, &self.node, &end).await {
                Ok(true) => return,
                Ok(false) => {
                    tracing::info!(job = %job.id, "the job was over or another's already");
                    return;
                }
                Err(error) if error.is_transient() || error.is_indeterminate() => {
                    let what = format!("its end cannot be recorded: {error}");
                    self.context.waiting(Some(what));
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(error) => {
                    tracing::error!(job = %job.id, %error, "the end of a job cannot be recorded");
                    return;
                }
            }
        }
    }
}
