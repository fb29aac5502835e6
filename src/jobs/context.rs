//! What a runner gets: its parameters, its checkpoint, and the means to report progress and to
//! learn that it must stop.

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::failure::{Interrupted, JobCommand, JobFailure, read};
use crate::migration::job::{Job, JobProgress};

/// Interval between two checkpoints: what an interruption costs at most.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct State {
    progress: JobProgress,
    checkpoint: Option<Value>,
    saved: Option<Instant>,
}

#[derive(Debug)]
pub struct JobContext {
    id: Uuid,
    parameters: Value,
    orders: watch::Receiver<JobCommand>,
    state: Mutex<State>,
}

impl JobContext {
    /// The context of a job that continues from its checkpoint.
    pub fn new(job: &Job, orders: watch::Receiver<JobCommand>) -> Self {
        Self {
            id: job.id,
            parameters: job.parameters.clone(),
            orders,
            state: Mutex::new(State {
                progress: job.progress.clone(),
                checkpoint: job.checkpoint.clone(),
                saved: None,
            }),
        }
    }

    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Its parameters.
    pub fn parameters<T: serde::de::DeserializeOwned>(&self) -> Result<T, JobFailure> {
        read(&self.parameters, "parameters")
    }

    pub fn raw_parameters(&self) -> &Value {
        &self.parameters
    }

    /// The checkpoint to continue from; `None` at the beginning.
    pub fn checkpoint<T: serde::de::DeserializeOwned>(&self) -> Result<Option<T>, JobFailure> {
        let checkpoint = self.state.lock().checkpoint.clone();
        checkpoint.map(|c| read(&c, "checkpoint")).transpose()
    }

    /// Reports progress. `checkpoint` is called when one is due or the job must stop; the error
    /// says that it must.
    pub fn save(
        &self,
        progress: JobProgress,
        checkpoint: impl FnOnce() -> Result<Value, JobFailure>,
    ) -> Result<(), JobFailure> {
        let interrupted = self.interrupted();
        let mut state = self.state.lock();
        state.progress = progress;
        let due = state.saved.is_none_or(|t| t.elapsed() >= CHECKPOINT_EVERY);
        if due || interrupted.is_err() {
            state.checkpoint = Some(checkpoint()?);
            state.saved = Some(Instant::now());
        }
        interrupted.map_err(JobFailure::from)
    }

    /// Sets the checkpoint now: after something that must not be repeated.
    pub fn keep(&self, checkpoint: Value) {
        let mut state = self.state.lock();
        state.checkpoint = Some(checkpoint);
        state.saved = Some(Instant::now());
    }

    /// Waits for `time`, or less if the job must stop. The caller learns that from
    /// [`JobContext::save`], which also takes a checkpoint.
    pub async fn wait(&self, time: Duration) {
        let mut orders = self.orders.clone();
        if !time.is_zero() {
            let told = orders.wait_for(|order| *order != JobCommand::Run);
            // In either case the caller checks the command next.
            let _ = tokio::time::timeout(time, told).await;
        }
    }

    pub fn interrupted(&self) -> Result<(), Interrupted> {
        match *self.orders.borrow() {
            JobCommand::Run => Ok(()),
            order => Err(Interrupted(order)),
        }
    }

    /// Reports what the job waits for; `None`: it waits no more.
    pub fn waiting(&self, what: Option<String>) {
        self.state.lock().progress.waiting = what;
    }

    /// The progress, and the checkpoint to continue from.
    pub fn seen(&self) -> (JobProgress, Option<Value>) {
        let state = self.state.lock();
        (state.progress.clone(), state.checkpoint.clone())
    }
}
