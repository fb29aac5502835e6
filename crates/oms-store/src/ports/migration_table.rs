//! The port to what PostgreSQL records of the migration: the row of each partition, which fences
//! its appends, and the switches that were ordered.

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

/// A partition's row, and since when it is in its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSeen {
    /// The row.
    pub row: MigrationRow,
    /// When its stage was reached.
    pub since: Timestamp,
    /// When it was changed last.
    pub changed: Timestamp,
    /// When it was read, by the clock that stamped the other two.
    pub read: Timestamp,
}

impl RowSeen {
    /// For how long it was in its stage when it was read. The store's clock alone counts: ours may
    /// have been set since. `None` if that went backwards, which proves nothing.
    pub fn held(&self) -> Option<Duration> {
        Duration::try_from(self.read.duration_since(self.since)).ok()
    }

    /// For how long it had been as it is when it was read; likewise.
    pub fn unchanged(&self) -> Option<Duration> {
        Duration::try_from(self.read.duration_since(self.changed)).ok()
    }
}

/// The rows, and the switches.
#[async_trait]
pub trait MigrationTable: Send + Sync + 'static {
    /// Every partition's row. [`Conflict`](crate::error::StoreErrorKind::Conflict) when they are
    /// another log's: then nothing here may be believed, nor changed.
    async fn rows(&self) -> Result<BTreeMap<PartitionId, RowSeen>, StoreError>;

    /// A partition's row and the end of its log in PostgreSQL, in one snapshot; `None` without a
    /// row.
    async fn view(&self, partition: PartitionId) -> Result<Option<PostgresView>, StoreError>;

    /// The row becomes `to` if it is `from`; says whether. Waits for the appends that hold it, as
    /// long as the statement may take.
    async fn compare_and_set(
        &self,
        partition: PartitionId,
        from: &MigrationRow,
        to: &MigrationRow,
    ) -> Result<bool, StoreError>;

    /// Gives a partition that has none its row, and where PostgreSQL is to lead the beginning of
    /// its log, in one transaction. Answers the row that is there then: whoever was first decides.
    async fn begin(
        &self,
        partition: PartitionId,
        row: &MigrationRow,
        genesis: Option<&CommitObject>,
    ) -> Result<MigrationRow, StoreError>;

    /// Whether PostgreSQL holds any commit of a partition.
    async fn has_commits(&self, partition: PartitionId) -> Result<bool, StoreError>;

    /// Records a switch that begins, driven by `driver`. False while another one is under way whose
    /// driver was heard of within `patience`.
    async fn begin_switch(
        &self,
        switch: &Switch,
        driver: &str,
        patience: Duration,
    ) -> Result<bool, StoreError>;

    /// Records how far a switch is; also says that its driver is alive. False when another process
    /// drives it by now.
    async fn record_switch(&self, switch: &Switch, driver: &str) -> Result<bool, StoreError>;

    /// Takes over a switch under way whose driver was not heard of for `patience`.
    async fn adopt_switch(
        &self,
        driver: &str,
        patience: Duration,
    ) -> Result<Option<Switch>, StoreError>;

    /// A switch.
    async fn switch(&self, id: Uuid) -> Result<Option<Switch>, StoreError>;

    /// The switch under way, if any.
    async fn current_switch(&self) -> Result<Option<Switch>, StoreError>;

    /// Switches, the newest first, those begun before `before`.
    async fn switches(
        &self,
        limit: usize,
        before: Option<Timestamp>,
    ) -> Result<Vec<Switch>, StoreError>;
}
