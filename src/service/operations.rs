//! What operators see and do.

use serde::Serialize;

use super::Service;
use super::error::ServiceError;
use crate::actors::supervision::tree::{KillHow, NodeView};
use crate::migration::lead::Lead;
use crate::migration::stage::Mode;
use crate::store::delivery::{DeadLetter, DeliveryStatus};
use crate::store::health::DependencyStatus;
use crate::store::read_model::ProjectionStatus;

/// The dependencies as last seen.
#[derive(Debug, Clone, Serialize)]
pub struct Dependencies {
    /// The event store.
    pub s3: DependencyStatus,
    /// The outbox and the read model.
    pub postgres: DependencyStatus,
    /// The transport.
    pub kafka: DependencyStatus,
}

/// Body of `GET /health`.
#[derive(Debug, Clone, Serialize)]
pub struct HealthReport {
    /// `ok`, `degraded` (serves writes, but something lags behind) or `unavailable`.
    pub status: &'static str,
    /// The mode.
    pub migration_mode: Mode,
    /// Which store leads.
    pub lead: Lead,
    /// Since which hand-off.
    pub epoch: u64,
    /// The dependencies.
    pub dependencies: Dependencies,
    /// Version of the program.
    pub version: &'static str,
}

impl Service {
    /// How the service is; `status: "unavailable"` is answered with 503.
    pub fn health(&self) -> HealthReport {
        todo!()
    }

    /// Whether requests should be sent here.
    pub fn is_ready(&self) -> bool {
        todo!()
    }

    /// The supervision tree.
    pub fn actors(&self) -> NodeView {
        todo!()
    }

    /// Kills an actor; refused unless chaos is enabled.
    pub fn kill_actor(&self, path: &str, how: KillHow) -> Result<(), ServiceError> {
        todo!()
    }

    /// Outbox depth, age, watermarks.
    pub async fn delivery(&self) -> Result<DeliveryStatus, ServiceError> {
        todo!()
    }

    /// Dead letters, oldest first.
    pub async fn dead_letters(
        &self,
        limit: usize,
        after: Option<i64>,
    ) -> Result<Vec<DeadLetter>, ServiceError> {
        todo!()
    }

    /// Puts a dead letter back into the outbox; 404 `dead_letter_not_found`.
    pub async fn requeue_dead_letter(&self, id: i64) -> Result<(), ServiceError> {
        todo!()
    }

    /// Removes a dead letter for good; 404 `dead_letter_not_found`.
    pub async fn discard_dead_letter(&self, id: i64) -> Result<(), ServiceError> {
        todo!()
    }

    /// The projections.
    pub async fn projections(&self) -> Result<Vec<ProjectionStatus>, ServiceError> {
        todo!()
    }

    /// Begins to rebuild a projection beside the live one; 404 `projection_not_found`.
    pub async fn rebuild_projection(&self, name: &str) -> Result<(), ServiceError> {
        todo!()
    }
}
