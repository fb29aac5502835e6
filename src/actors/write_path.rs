//! Where an append goes: to the store that leads the stream's partition in its present stage.
//! This is the one place that knows there may be more than one leader.

use tokio::sync::watch;

use super::event_store::{AppendError, AppendRequest, EventStore};
use crate::domain::ids::{PartitionId, StreamName};
use crate::log::partition::Verdict;
use crate::migration::lead::Lead;
use crate::migration::stage::Stage;
use crate::store::error::{StoreError, StoreErrorKind};

/// The stage of every partition; `None` while it is not known.
pub type Stages = Vec<Option<Stage>>;

/// See the module.
#[derive(Clone)]
pub struct WritePath {
    store: EventStore,
    stages: watch::Receiver<Stages>,
}

impl WritePath {
    /// Appends go to `store` where S3 leads.
    pub fn new(store: EventStore, stages: watch::Receiver<Stages>) -> Self {
        Self { store, stages }
    }

    /// The event store.
    pub fn store(&self) -> &EventStore {
        &self.store
    }

    /// The stage of a partition, if it is known.
    pub fn stage_of(&self, partition: PartitionId) -> Option<Stage> {
        let stages = self.stages.borrow();
        stages.get(usize::from(partition.0)).copied().flatten()
    }

    /// The stage of a stream's partition, waiting for it until it is known or another than
    /// `not_this`. The caller bounds the wait.
    pub async fn stage(
        &self,
        stream: &StreamName,
        not_this: Option<Stage>,
    ) -> Result<Stage, StoreError> {
        let at = usize::from(self.store.log().partition_of(stream).0);
        let found = self
            .stages
            .clone()
            .wait_for(|stages| {
                let stage = stages.get(at).copied().flatten();
                stage.is_some() && stage != not_this
            })
            .await
            .map(|stages| stages.get(at).copied().flatten());
        match found {
            Ok(Some(stage)) => Ok(stage),
            _ => Err(StoreError::determinate(
                StoreErrorKind::Closed,
                "s3",
                "find stage",
                "the service is shutting down",
            )),
        }
    }

    /// Appends under the stage the events were decided in.
    pub async fn append(
        &self,
        stage: Stage,
        request: AppendRequest,
    ) -> Result<Verdict, AppendError> {
        match stage.leadership.lead {
            Lead::S3 => self.store.append(request).await,
            Lead::Postgres => Err(AppendError::NotWritten(StoreError::determinate(
                StoreErrorKind::Invalid,
                "postgres",
                "append",
                "this version cannot write while PostgreSQL leads",
            ))),
        }
    }
}
