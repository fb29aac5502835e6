//! What every job implements.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::context::{Interrupted, JobContext};
use crate::domain::refusal::Refusal;
use crate::migration::job::JobKind;
use crate::store::error::StoreError;

/// Why a job did not end with a report.
#[derive(Debug, thiserror::Error)]
pub enum JobFailure {
    /// It was told to stop; it left a checkpoint.
    #[error("interrupted: {0:?}")]
    Interrupted(#[from] Interrupted),
    /// A store failed. Transient failures are waited out and the job goes on from its checkpoint.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be done; trying again would not help.
    #[error("{0}")]
    Failed(String),
}

/// A kind of job.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// The kind.
    fn kind(&self) -> JobKind;

    /// Whether this runner is the one for an order with these parameters: a kind may have several.
    fn takes(&self, _parameters: &Value) -> bool {
        true
    }

    /// Looks at an order before it is recorded: what is refused here never becomes a job. Errors of
    /// stores refuse too.
    async fn check(&self, _parameters: &Value) -> Result<(), JobRefused> {
        Ok(())
    }

    /// It was cancelled while it was paused, so that nobody runs who could be told: lets go of
    /// whatever the pause holds.
    fn cancelled(&self, _parameters: &Value) {}

    /// Does the work, from the context's checkpoint if it has one, and answers the report. MUST
    /// call [`JobContext::save`] often (a few times a second) and pass on what it answers, and MUST
    /// do no harm when it runs twice at the same time: a process that was thought dead may go on.
    async fn run(&self, job: &JobContext) -> Result<Value, JobFailure>;
}

/// Why an order did not become a job.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JobRefused {
    /// It is wrong, or the state forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be looked at or recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The runners there are.
#[derive(Default, Clone)]
pub struct Runners(Vec<Arc<dyn Runner>>);

impl Runners {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. Of several that take an order, the first added gets it.
    pub fn with(mut self, runner: Arc<dyn Runner>) -> Self {
        self.0.push(runner);
        self
    }

    /// The runner for an order.
    pub fn find(&self, kind: JobKind, parameters: &Value) -> Option<&Arc<dyn Runner>> {
        self.0
            .iter()
            .find(|runner| runner.kind() == kind && runner.takes(parameters))
    }
}

/// Reads parameters or a checkpoint back.
pub fn read<T: serde::de::DeserializeOwned>(value: &Value, what: &str) -> Result<T, JobFailure> {
    T::deserialize(value).map_err(|e| JobFailure::Failed(format!("{what}: {e}")))
}

/// Writes a report or a checkpoint.
pub fn write<T: serde::Serialize>(value: &T) -> Result<Value, JobFailure> {
    serde_json::to_value(value).map_err(|e| JobFailure::Failed(e.to_string()))
}
