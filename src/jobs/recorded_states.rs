//! The partitions' states, as recorded, for the jobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::ids::{Epoch, PartitionId};
use crate::log::lead::Lead;
use crate::migration::record::Step;
use crate::migration::stage::StageKind;
use crate::store::error::StoreError;
use crate::store::ports::migration_table::MigrationTable;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedState {
    pub stage: StageKind,
    /// Time in this stage, by the clock of the store that recorded it; `None` if unknown.
    pub held: Option<Duration>,
    /// The epoch of its lead.
    pub epoch: Epoch,
    /// Whether no hand-off is under way.
    pub steady: bool,
}

impl RecordedState {
    /// The leader; `None` while the lead is being moved.
    pub fn lead(&self) -> Option<Lead> {
        self.steady.then(|| self.stage.lead())
    }
}

/// Source of the partitions' states.
#[async_trait]
pub trait RecordedStates: Send + Sync + 'static {
    /// Every partition that has a recorded state.
    async fn states(&self) -> Result<BTreeMap<PartitionId, RecordedState>, StoreError>;
}

/// The states from the migration's rows in PostgreSQL.
pub struct RowStates(pub Arc<dyn MigrationTable>);

#[async_trait]
impl RecordedStates for RowStates {
    async fn states(&self) -> Result<BTreeMap<PartitionId, RecordedState>, StoreError> {
        let rows = self.0.rows().await?;
        let state = rows.into_iter().map(|(partition, seen)| {
            let state = RecordedState {
                stage: seen.row.stage,
                held: seen.held(),
                epoch: seen.row.epoch,
                steady: seen.row.step == Step::Steady,
            };
            (partition, state)
        });
        Ok(state.collect())
    }
}
