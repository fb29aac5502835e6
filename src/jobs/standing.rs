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
pub struct Standing {
    /// Its stage.
    pub stage: StageKind,
    /// For how long, by the clock of whoever recorded it; `None` if that is not known.
    pub held: Option<Duration>,
    /// The hand-off.
    pub epoch: Epoch,
    /// Whether none is under way.
    pub steady: bool,
}

impl Standing {
    /// Who leads; `None` while the lead is being moved.
    pub fn lead(&self) -> Option<Lead> {
        self.steady.then(|| self.stage.lead())
    }
}

/// Tells where the partitions stand. Whoever assembles the service decides from what.
#[async_trait]
pub trait Standings: Send + Sync + 'static {
    /// Every partition that has begun its road.
    async fn standings(&self) -> Result<BTreeMap<PartitionId, Standing>, StoreError>;
}

/// As PostgreSQL's rows of the migration say.
pub struct RecordedStandings(pub Arc<dyn MigrationTable>);

#[async_trait]
impl Standings for RecordedStandings {
    async fn standings(&self) -> Result<BTreeMap<PartitionId, Standing>, StoreError> {
        let rows = self.0.rows().await?;
        let standing = rows.into_iter().map(|(partition, seen)| {
            let standing = Standing {
                stage: seen.row.stage,
                held: seen.held(),
                epoch: seen.row.epoch,
                steady: seen.row.step == Step::Steady,
            };
            (partition, standing)
        });
        Ok(standing.collect())
    }
}
