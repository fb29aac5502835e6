//! The port to the migration's records in PostgreSQL: the row of each partition, which fences its
//! appends, and the switches.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::error::StoreError;
use oms_core::domain::ids::PartitionId;
use oms_core::log::object::CommitObject;
use oms_core::migration::handoff::PostgresView;
use oms_core::migration::record::MigrationRow;
use oms_core::migration::switch::Switch;

/// A partition's row, with its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSeen {
    /// The row.
    pub row: MigrationRow,
    /// When its stage was reached.
    pub since: Timestamp,
    /// When it was last changed.
    pub changed: Timestamp,
    /// When it was read, by the same clock as the other two.
    pub read: Timestamp,
}

impl RowSeen {
    /// How long it had been in its stage when it was read, by the store's clock, because ours may
    /// have been set since. `None` if that clock went back.
    pub fn held(&self) -> Option<Duration> {
        Duration::try_from(self.read.duration_since(self.since)).ok()
    }

    /// How long it had been unchanged when it was read; as [`Self::held`].
    pub fn unchanged(&self) -> Option<Duration> {
        Duration::try_from(self.read.duration_since(self.changed)).ok()
    }
}

/// The rows and the switches.
#[async_trait]
pub trait MigrationTable: Send + Sync + 'static {
    /// Every partition's row. [`Conflict`](crate::error::StoreErrorKind::Conflict) if they belong
    /// to another log: then they must be neither used nor changed.
    async fn rows(&self) -> Result<BTreeMap<PartitionId, RowSeen>, StoreError>;

    /// A partition's row and the end of its log in PostgreSQL, in one snapshot; `None` without a
    /// row.
    async fn view(&self, partition: PartitionId) -> Result<Option<PostgresView>, StoreError>;

    /// Sets the row to `to` if it is `from`; returns whether it did. Waits for the appends that
    /// hold it, within the statement timeout.
    async fn compare_and_set(
        &self,
        partition: PartitionId,
        from: &MigrationRow,
        to: &MigrationRow,
    ) -> Result<bool, StoreError>;

    /// Inserts the row of a partition that has none and, if PostgreSQL is to lead, the beginning of
    /// its log, in one transaction. Returns the row that is there then, which may be another
    /// process's.
    async fn begin(
        &self,
        partition: PartitionId,
        row: &MigrationRow,
        genesis: Option<&CommitObject>,
    ) -> Result<MigrationRow, StoreError>;

    /// Whether PostgreSQL holds any commit of a partition.
    async fn has_commits(&self, partition: PartitionId) -> Result<bool, StoreError>;

    /// Records a switch that begins, driven by `driver`. False while another one is under way whose
    /// driver has recorded something within `patience`.
    async fn begin_switch(
        &self,
        switch: &Switch,
        driver: &str,
        patience: Duration,
    ) -> Result<bool, StoreError>;

    /// Records the progress of a switch, as a heartbeat of its driver. False if another process
    /// drives it now.
    async fn record_switch(&self, switch: &Switch, driver: &str) -> Result<bool, StoreError>;

    /// Takes over a switch under way without a heartbeat for `patience`.
    async fn adopt_switch(
        &self,
        driver: &str,
        patience: Duration,
    ) -> Result<Option<Switch>, StoreError>;

    /// The switch with this id.
    async fn switch(&self, id: Uuid) -> Result<Option<Switch>, StoreError>;

    /// The switch under way, if any.
    async fn current_switch(&self) -> Result<Option<Switch>, StoreError>;

    /// Switches that began before `before`, newest first.
    async fn switches(
        &self,
        limit: usize,
        before: Option<Timestamp>,
    ) -> Result<Vec<Switch>, StoreError>;
}
