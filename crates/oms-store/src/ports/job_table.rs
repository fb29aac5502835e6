//! The port to the jobs of the migration that PostgreSQL records.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use uuid::Uuid;

use crate::error::StoreError;
use oms_core::migration::job::{Job, JobKind, JobProgress, JobState};

/// How a job ended, or paused.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEnd {
    /// Its state from now on.
    pub state: JobState,
    /// Where it would go on.
    pub checkpoint: Option<Value>,
    /// How far it came.
    pub progress: JobProgress,
    /// What came of it.
    pub report: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The jobs. All times are the database's.
#[async_trait]
pub trait JobTable: Send + Sync + 'static {
    /// Records a job that begins now. False while another one of its kind is not over.
    async fn begin(&self, job: &Job) -> Result<bool, StoreError>;

    /// Says that `node` works on a job, and how far it is. Answers the job's state, or `None` when
    /// it is another node's by now, over, or gone.
    async fn beat(
        &self,
        id: Uuid,
        node: &str,
        progress: &JobProgress,
        checkpoint: Option<&Value>,
    ) -> Result<Option<JobState>, StoreError>;

    /// Records how a job of `node` ended or that it paused. False when it is not `node`'s any more,
    /// or over.
    async fn end(&self, id: Uuid, node: &str, end: &JobEnd) -> Result<bool, StoreError>;

    /// A job in one of the states `from` gets the state `to`, and `node` if one is given; says
    /// whether.
    async fn change(
        &self,
        id: Uuid,
        from: &[JobState],
        to: JobState,
        node: Option<&str>,
    ) -> Result<bool, StoreError>;

    /// Says that `node` works on nothing: for a process that has just started. What it left is
    /// there to be taken over.
    async fn release(&self, node: &str) -> Result<(), StoreError>;

    /// Takes over a job that nobody was heard to work on for `patience`.
    async fn adopt(&self, node: &str, patience: Duration) -> Result<Option<Job>, StoreError>;

    /// A job.
    async fn job(&self, id: Uuid) -> Result<Option<Job>, StoreError>;

    /// The job of a kind that was started last; with a state, of those in it.
    async fn latest(
        &self,
        kind: JobKind,
        state: Option<JobState>,
    ) -> Result<Option<Job>, StoreError>;

    /// The last verification that is done and looked at everything.
    async fn latest_full_verification(&self) -> Result<Option<Job>, StoreError>;
}
