//! The migration as this process knows it: the stage of each partition, and whether it takes
//! writes.

use tokio::sync::watch;

use super::LogWriter;
use crate::domain::ids::{PartitionId, StreamName};
use crate::migration::partition_state::{PartitionState, PartitionStates};
use crate::migration::stage::Stage;
use crate::store::error::{StoreError, StoreErrorKind};

impl LogWriter {
    /// The state of a partition, if it is known.
    pub fn state_of(&self, partition: PartitionId) -> Option<PartitionState> {
        let states = self.states.borrow();
        states.get(usize::from(partition.0)).copied().flatten()
    }

    /// Receives changes of the partitions' states.
    pub fn states(&self) -> watch::Receiver<PartitionStates> {
        self.states.clone()
    }

    /// The stage of a stream's partition, waiting until it is known and the partition is open. The
    /// caller bounds the wait.
    pub async fn stage(&self, stream: &StreamName) -> Result<Stage, StoreError> {
        let at = usize::from(self.log.partition_of(stream).0);
        let found = self
            .states
            .clone()
            .wait_for(|all| all.get(at).copied().flatten().is_some())
            .await
            .map(|all| all.get(at).copied().flatten());
        match found {
            Ok(Some(state)) => {
                self.opened(stream).await;
                Ok(state.stage)
            }
            _ => Err(StoreError::determinate(
                StoreErrorKind::Closed,
                "log",
                "find stage",
                "the service is shutting down",
            )),
        }
    }
}
