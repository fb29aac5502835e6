//! What the writer of a partition is given.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::{EventStoreSettings, Partition};
use crate::actors::mirror_progress::Mirrors;
use crate::domain::time::Clock;
use crate::migration::partition_state::{PartitionState, PartitionStates};
use crate::store::halts::Halts;
use crate::store::log::log_heads::LogHeads;
use crate::store::log::log_reader::LogReader;
use crate::store::ports::migration_table::MigrationTable;
use crate::store::ports::transport::TopicNames;

pub struct WriterDeps {
    pub log: Arc<LogReader>,
    pub shared: Arc<Partition>,
    pub heads: Arc<LogHeads>,
    pub stages: watch::Receiver<PartitionStates>,
    /// Woken when `stages` turns out to be out of date.
    pub stale: Arc<Notify>,
    /// How far the copies in the other store are.
    pub mirrors: Arc<Mirrors>,
    pub table: Option<Arc<dyn MigrationTable>>,
    /// The topics' names, for commits that carry their outbox rows.
    pub topics: TopicNames,
    pub settings: EventStoreSettings,
    pub clock: Arc<dyn Clock>,
    /// Where it reports that the partition takes no writes.
    pub halts: Halts,
}

impl WriterDeps {
    pub fn state(&self) -> Option<PartitionState> {
        let stages = self.stages.borrow();
        stages.get(usize::from(self.shared.id.0)).copied().flatten()
    }
}
