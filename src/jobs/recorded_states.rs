//! Where the migration stands, as far as jobs must know.

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

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedState {
    /// Its stage.
    pub stage: StageKind,
    /// For how long, by the clock of whoever recorded it; `None` if that is not known.
    pub held: Option<Duration>,
    /// The hand-off.
    pub epoch: Epoch,
    /// Whether none is under way.
    pub steady: bool,
}

impl RecordedState {
    /// Who leads; `None` while the lead is being moved.
    pub fn lead(&self) -> Option<Lead> {
        self.steady.then(|| self.stage.lead())
    }
}

/// Tells where the partitions stand. Whoever assembles the service decides from what.
#[async_trait]
pub trait RecordedStates: Send + Sync + 'static {
    /// Every partition that has begun its road.
    async fn states(&self) -> Result<BTreeMap<PartitionId, RecordedState>, StoreError>;
}

/// As PostgreSQL's rows of the migration say.
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
