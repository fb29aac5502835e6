//! The read model in PostgreSQL.
//!
//! * [`generations`]: generations, rebuild and swap
//! * [`apply`]: applies a batch in one transaction
//! * [`read`]: queries on the live generation, as many at once as [`places`] allows
//! * [`query_sql`] on [`sql`]: queries on instances as SQL

mod apply;
mod generations;
mod places;
mod query_sql;
mod read;
mod sql;

use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use self::places::Places;
use super::Postgres;
use crate::error::StoreError;
use crate::ports::read_model::{
    Applied, Batch, ClassQuery, Generation, Generations, ListQuery, ReadModel, Record, RecordPage,
};
use oms_core::domain::ids::{ClassId, DatabaseName, InstanceId, PartitionId};
use oms_core::log::identity::{LogId, Mark};
use oms_core::log::object::ObjectHash;
use oms_core::projection::changes::ParkedEvent;

/// No generation known; numbers begin at 1.
const UNKNOWN: i64 = 0;

/// The read model in PostgreSQL.
pub struct PostgresReadModel {
    postgres: Postgres,
    /// The live generation as last read; a query that finds its tables missing reads it again.
    live: AtomicI64,
    log: Option<Uuid>,
    places: Places,
}

impl PostgresReadModel {
    /// The read model in this database.
    pub fn new(postgres: Postgres) -> Self {
        Self {
            places: Places::of(postgres.max_connections()),
            postgres,
            live: AtomicI64::new(UNKNOWN),
            log: None,
        }
    }

    /// Records this log in its positions.
    #[must_use]
    pub fn of_log(self, log: Option<LogId>) -> Self {
        Self {
            log: log.map(|id| id.0),
            ..self
        }
    }

    fn remember(&self, live: Option<Generation>) {
        let number = live.map_or(UNKNOWN, |g| g.0);
        self.live.store(number, Ordering::Release);
    }
}

/// Whether the failure means that a table is missing: one of a generation, because the other tables
/// were found just before.
fn is_gone(error: &Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}

#[async_trait]
impl ReadModel for PostgresReadModel {
    async fn generations(&self, partitions: u16) -> Result<Generations, StoreError> {
        let run = generations::open(partitions, self.log);
        let generations = self.postgres.run("projection_positions", run).await?;
        self.remember(Some(generations.live.generation));
        Ok(generations)
    }

    async fn apply(&self, batch: Batch) -> Result<Applied, StoreError> {
        self.postgres
            .run("project", apply::apply(batch, self.log))
            .await
    }

    async fn begin_rebuild(&self) -> Result<Generation, StoreError> {
        let run = generations::begin_rebuild(self.log);
        self.postgres.run("begin_rebuild", run).await
    }

    async fn swap(&self, building: Generation, in_any_case: bool) -> Result<bool, StoreError> {
        let run = generations::swap(building, in_any_case);
        let swapped = self.postgres.run("swap_read_model", run).await?;
        if swapped {
            self.remember(Some(building));
        }
        Ok(swapped)
    }

    async fn discard(&self, generation: Generation) -> Result<(), StoreError> {
        let run = generations::discard(generation);
        self.postgres.run("discard_read_model", run).await
    }

    async fn mark(
        &self,
        generation: Generation,
        partition: PartitionId,
        from: Mark,
        hash: ObjectHash,
    ) -> Result<(), StoreError> {
        let run = generations::mark((generation, partition), from, hash, self.log);
        self.postgres.run("mark_read_model", run).await
    }

    async fn parked(&self, limit: u32) -> Result<Vec<ParkedEvent>, StoreError> {
        let run = generations::parked(limit.clamp(1, 1000));
        self.postgres.run("parked_events", run).await
    }

    async fn database(&self, name: &DatabaseName) -> Result<Option<Record>, StoreError> {
        self.read_database(name).await
    }

    async fn databases(&self, page: &ListQuery) -> Result<RecordPage, StoreError> {
        self.read_databases(page).await
    }

    async fn class(&self, db: &DatabaseName, id: &ClassId) -> Result<Option<Record>, StoreError> {
        self.read_class(db, id).await
    }

    async fn classes(&self, db: &DatabaseName, page: &ListQuery) -> Result<RecordPage, StoreError> {
        self.read_classes(db, page).await
    }

    async fn instance(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        id: &InstanceId,
    ) -> Result<Option<Record>, StoreError> {
        self.read_instance(db, class, id).await
    }

    async fn instances(&self, query: &ClassQuery) -> Result<RecordPage, StoreError> {
        self.read_instances(query).await
    }

    async fn count(&self, query: &ClassQuery) -> Result<u64, StoreError> {
        self.count_instances(query).await
    }
}
