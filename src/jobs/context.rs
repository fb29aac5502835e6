//! What a runner is given: its order, its checkpoint, and the way to say how far it is and to hear
//! that it must stop.

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::runner::{JobFailure, read};
use crate::migration::job::{Job, JobProgress};

/// Between two checkpoints: what an interruption costs at most, and how often a checkpoint is put
/// together.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// What a job was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobCommand {
    /// Nothing: go on.
    Run,
    /// Stop at a checkpoint.
    Pause,
    /// Stop for good.
    Cancel,
    /// Another process has taken it over, or this one ends.
    Leave,
}

/// Why a runner must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("told to stop ({0:?})")]
pub struct Interrupted(pub JobCommand);

#[derive(Debug, Default)]
struct State {
    progress: JobProgress,
    checkpoint: Option<Value>,
    saved: Option<Instant>,
}

/// See the module.
#[derive(Debug)]
pub struct JobContext {
    id: Uuid,
    parameters: Value,
    orders: watch::Receiver<JobCommand>,
    state: Mutex<State>,
}

impl JobContext {
    /// The context of a job that goes on from its checkpoint.
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

    /// The job's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// What it was asked for.
    pub fn parameters<T: serde::de::DeserializeOwned>(&self) -> Result<T, JobFailure> {
        read(&self.parameters, "parameters")
    }

    /// What it was asked for, as given.
    pub fn raw_parameters(&self) -> &Value {
        &self.parameters
    }

    /// Where to go on; `None` at the beginning.
    pub fn checkpoint<T: serde::de::DeserializeOwned>(&self) -> Result<Option<T>, JobFailure> {
        let checkpoint = self.state.lock().checkpoint.clone();
        checkpoint.map(|c| read(&c, "checkpoint")).transpose()
    }

    /// Says how far the job is. `checkpoint` is asked when one is due or the job must stop; an error
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

    /// Sets the checkpoint now: after something that must not be done again.
    pub fn keep(&self, checkpoint: Value) {
        let mut state = self.state.lock();
        state.checkpoint = Some(checkpoint);
        state.saved = Some(Instant::now());
    }

    /// Waits; less long if the job must stop. That is for [`JobContext::save`] to say, which takes
    /// a checkpoint with it.
    pub async fn wait(&self, time: Duration) {
        let mut orders = self.orders.clone();
        if !time.is_zero() {
            let told = orders.wait_for(|order| *order != JobCommand::Run);
            // Either way the caller looks at the order next.
            let _ = tokio::time::timeout(time, told).await;
        }
    }

    /// Whether the job must stop.
    pub fn interrupted(&self) -> Result<(), Interrupted> {
        match *self.orders.borrow() {
            JobCommand::Run => Ok(()),
            order => Err(Interrupted(order)),
        }
    }

    /// Says what the job waits for, or that it waits no more.
    pub fn waiting(&self, what: Option<String>) {
        self.state.lock().progress.waiting = what;
    }

    /// How far it is, and where it would go on.
    pub fn seen(&self) -> (JobProgress, Option<Value>) {
        let state = self.state.lock();
        (state.progress.clone(), state.checkpoint.clone())
    }
}
