//! The trait that every job implements.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::context::{Interrupted, JobContext};
use crate::domain::refusal::Refusal;
use crate::migration::job::JobKind;
use crate::store::error::StoreError;

/// Why a job ended without a report.
#[derive(Debug, thiserror::Error)]
pub enum JobFailure {
    /// It was told to stop, and left a checkpoint.
    #[error("interrupted: {0:?}")]
    Interrupted(#[from] Interrupted),
    /// A store failed. After a temporary failure the job continues from its checkpoint.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be done; repeating it would not help.
    #[error("{0}")]
    Failed(String),
}

/// Executes jobs of one kind.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    fn kind(&self) -> JobKind;

    /// Whether it executes jobs with these parameters: a kind may have several runners.
    fn takes(&self, _parameters: &Value) -> bool {
        true
    }

    /// Checks an order before it is recorded: what is refused here never becomes a job. Errors of
    /// stores refuse too.
    async fn check(&self, _parameters: &Value) -> Result<(), JobRefused> {
        Ok(())
    }

    /// Called when a job is cancelled while it is paused, so that no `run` could be told: releases
    /// what the pause holds.
    fn cancelled(&self, _parameters: &Value) {}

    /// Does the work, from the context's checkpoint if there is one, and returns the report. MUST
    /// call [`JobContext::save`] a few times a second and return the error it gives, and MUST be
    /// safe to run twice at the same time: a process that was thought dead may go on.
    async fn run(&self, job: &JobContext) -> Result<Value, JobFailure>;
}

/// Why an order did not become a job.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JobRefused {
    /// It is invalid, or the state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be checked or recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The registered runners.
#[derive(Default, Clone)]
pub struct Runners(Vec<Arc<dyn Runner>>);

impl Runners {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a runner. Of several that accept an order, the first one added gets it.
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

/// Parses parameters or a checkpoint; `what` names them in the error.
pub fn read<T: serde::de::DeserializeOwned>(value: &Value, what: &str) -> Result<T, JobFailure> {
    T::deserialize(value).map_err(|e| JobFailure::Failed(format!("{what}: {e}")))
}

/// Serialises a report or a checkpoint.
pub fn write<T: serde::Serialize>(value: &T) -> Result<Value, JobFailure> {
    serde_json::to_value(value).map_err(|e| JobFailure::Failed(e.to_string()))
}
