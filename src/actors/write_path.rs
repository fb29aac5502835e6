//! Where an append goes, and where each partition stands: what an entity knows of the migration.

use tokio::sync::watch;

use super::event_store::{Answer, AppendError, AppendRequest, EventStore};
use crate::domain::ids::{PartitionId, StreamName};
use crate::migration::stage::Stage;
use crate::migration::standing::Standing;
use crate::store::error::{StoreError, StoreErrorKind};

/// Where every partition stands; `None` while it is not known.
pub type Standings = Vec<Option<Standing>>;

/// See the module.
#[derive(Clone)]
pub struct WritePath {
    store: EventStore,
    standings: watch::Receiver<Standings>,
}

impl WritePath {
    /// Appends go to the writers of `store`, which know who leads.
    pub fn new(store: EventStore, standings: watch::Receiver<Standings>) -> Self {
        Self { store, standings }
    }

    /// The event store.
    pub fn store(&self) -> &EventStore {
        &self.store
    }

    /// Where a partition stands, if it is known.
    pub fn standing_of(&self, partition: PartitionId) -> Option<Standing> {
        let standings = self.standings.borrow();
        standings.get(usize::from(partition.0)).copied().flatten()
    }

    /// Changes of where the partitions stand.
    pub fn standings(&self) -> watch::Receiver<Standings> {
        self.standings.clone()
    }

    /// The stage of a stream's partition, waiting until it is known and the partition is open. The
    /// caller bounds the wait.
    pub async fn stage(&self, stream: &StreamName) -> Result<Stage, StoreError> {
        let at = usize::from(self.store.log().partition_of(stream).0);
        let found = self
            .standings
            .clone()
            .wait_for(|all| all.get(at).copied().flatten().is_some())
            .await
            .map(|all| all.get(at).copied().flatten());
        match found {
            Ok(Some(standing)) => {
                self.store.opened(stream).await;
                Ok(standing.stage)
            }
            _ => Err(StoreError::determinate(
                StoreErrorKind::Closed,
                "log",
                "find stage",
                "the service is shutting down",
            )),
        }
    }

    /// Appends where the stream's partition is led; while the lead moves, it waits.
    pub async fn append(&self, request: AppendRequest) -> Result<Answer, AppendError> {
        self.store.append(request).await
    }
}
