//! The trait that every job implements.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::context::JobContext;
use super::failure::JobFailure;

use crate::domain::refusal::Refusal;
use crate::migration::job::JobKind;
use crate::store::error::StoreError;

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
