//! The port to the recorded jobs of the migration.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use uuid::Uuid;

use crate::error::StoreError;
use oms_core::migration::job::{Job, JobKind, JobProgress, JobState};

/// The end, or a pause, of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEnd {
    /// Its state from then on.
    pub state: JobState,
    /// Where it would continue.
    pub checkpoint: Option<Value>,
    /// Its progress.
    pub progress: JobProgress,
    /// Its report.
    pub report: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The recorded jobs. All times are the database's.
#[async_trait]
pub trait JobTable: Send + Sync + 'static {
    /// Records a job that begins now. False while another one of its kind has not ended.
    async fn begin(&self, job: &Job) -> Result<bool, StoreError>;

    /// Heartbeat of `node` for a job, with its progress. Returns the job's state, or `None` if it
    /// belongs to another node now, has ended, or does not exist.
    async fn beat(
        &self,
        id: Uuid,
        node: &str,
        progress: &JobProgress,
        checkpoint: Option<&Value>,
    ) -> Result<Option<JobState>, StoreError>;

    /// Records the end or pause of a job of `node`. False if it does not belong to `node` any more,
    /// or has ended.
    async fn end(&self, id: Uuid, node: &str, end: &JobEnd) -> Result<bool, StoreError>;

    /// Changes a job from one of the states `from` to `to`, and to `node` if one is given; returns
    /// whether it did.
    async fn change(
        &self,
        id: Uuid,
        from: &[JobState],
        to: JobState,
        node: Option<&str>,
    ) -> Result<bool, StoreError>;

    /// Releases all jobs of `node`, a process that has just started, so that they can be taken over
    /// at once.
    async fn release(&self, node: &str) -> Result<(), StoreError>;

    /// Takes over a job without a heartbeat for `patience`.
    async fn adopt(&self, node: &str, patience: Duration) -> Result<Option<Job>, StoreError>;

    /// The job with this id.
    async fn job(&self, id: Uuid) -> Result<Option<Job>, StoreError>;

    /// The last job of a kind that was started; with `state`, only of those in that state.
    async fn latest(
        &self,
        kind: JobKind,
        state: Option<JobState>,
    ) -> Result<Option<Job>, StoreError>;

    /// The last verification that is done and covered everything.
    async fn latest_full_verification(&self) -> Result<Option<Job>, StoreError>;
}
