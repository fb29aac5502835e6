//! The jobs of the migration, as use cases of operators.

use serde_json::Value;
use uuid::Uuid;

pub use crate::jobs::manager::JobAction;

use super::Service;
use super::error::ServiceError;
use crate::domain::refusal::Refusal;
use crate::jobs::manager::Jobs;
use crate::jobs::runner::JobRefused;
use crate::migration::job::{Job, JobKind};

impl From<JobRefused> for ServiceError {
    fn from(refused: JobRefused) -> Self {
        match refused {
            JobRefused::Refused(refusal) => refusal.into(),
            // Whether it was started or not: there is one job of a kind, so repeating the request
            // is safe.
            JobRefused::Store(error) => error.into(),
        }
    }
}

impl Service {
    fn jobs(&self) -> Result<&Jobs, ServiceError> {
        self.parts.jobs.as_ref().ok_or_else(|| {
            let message = "this service runs no jobs of the migration";
            Refusal::conflict("job_not_available", message).into()
        })
    }

    /// Starts a job; 409 `job_running` while another one of its kind has not ended, 409 or 422 for
    /// what its kind refuses.
    pub async fn start_job(
        &self,
        kind: JobKind,
        parameters: Value,
        by: &str,
    ) -> Result<Job, ServiceError> {
        Ok(self.jobs()?.start(kind, parameters, by).await?)
    }

    /// Pauses, resumes or cancels a job; without an id the last one of its kind. 404
    /// `job_not_found`, 409 `job_state`.
    pub async fn order_job(
        &self,
        kind: JobKind,
        id: Option<Uuid>,
        action: JobAction,
    ) -> Result<Job, ServiceError> {
        Ok(self.jobs()?.order(kind, id, action).await?)
    }

    /// A job; without an id the last one of its kind. 404 `job_not_found`.
    pub async fn job(&self, kind: JobKind, id: Option<Uuid>) -> Result<Job, ServiceError> {
        Ok(self.jobs()?.find(kind, id).await?)
    }
}
