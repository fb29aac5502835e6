//! The migration's records in PostgreSQL: the row of each partition, and the switches.

mod switches;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::types::Json;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::commits::copy::{self, Inserted};
use super::errors::STORE;
use super::rows::{mode, partition_of, timestamp, unreadable};
use super::{Postgres, Work};
use crate::error::{StoreError, StoreErrorKind};
use crate::ports::migration_table::{MigrationTable, RowSeen};
use oms_core::domain::ids::{Epoch, Offset, PartitionId};
use oms_core::log::identity::LogId;
use oms_core::log::lead::Lead;
use oms_core::log::object::{CommitObject, ControlRecord};
use oms_core::migration::handoff::PostgresView;
use oms_core::migration::record::{InvalidRow, MigrationRow, Step};
use oms_core::migration::switch::Switch;

/// Column 0 is the partition, 1 to 5 are what [`decode_row`] reads.
const ROWS: &str = "
SELECT partition, mode, lead, epoch, step, revision, since, changed, clock_timestamp(),
       (SELECT log_id FROM log_identity)
FROM migration ORDER BY partition";

/// One statement, hence one snapshot.
const VIEW: &str = "
SELECT mode, lead, epoch, step, revision,
       (SELECT coalesce(max(commit_offset) + 1, 0) FROM commits WHERE partition = $1)
FROM migration WHERE partition = $1";

/// The update waits for every append that holds the row `FOR SHARE`: this is the fence.
const COMPARE_AND_SET: &str = "
UPDATE migration
SET mode = $7, lead = $8, epoch = $9, step = $10, revision = $11, changed = now(),
    since = CASE WHEN (mode, lead) = ($7, $8) THEN since ELSE now() END
WHERE partition = $1 AND mode = $2 AND lead = $3 AND epoch = $4 AND step = $5 AND revision = $6";

const BEGIN: &str = "
INSERT INTO migration (partition, mode, lead, epoch, step, revision)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

const ROW: &str = "
SELECT mode, lead, epoch, step, revision FROM migration WHERE partition = $1";

/// The last control record of a log.
const LAST_RECORD: &str = "
SELECT control FROM commits WHERE partition = $1 AND kind = 'control'
ORDER BY commit_offset DESC LIMIT 1";

const BEGIN_OPERATION: &str = "migration_begin";

const HAS_COMMITS: &str = "SELECT EXISTS (SELECT FROM commits WHERE partition = $1)";

/// The migration's tables in PostgreSQL.
#[derive(Clone)]
pub struct PostgresMigration {
    postgres: Postgres,
    log: Option<LogId>,
}

const BIND: &str = "INSERT INTO log_identity (log_id) VALUES ($1) ON CONFLICT DO NOTHING";

const BOUND: &str = "SELECT log_id FROM log_identity";

impl PostgresMigration {
    /// The migration in this database.
    pub fn new(postgres: Postgres) -> Self {
        Self {
            postgres,
            log: None,
        }
    }

    /// Refuses rows of any other log than this one.
    #[must_use]
    pub fn of_log(self, log: Option<LogId>) -> Self {
        Self { log, ..self }
    }

    /// The log to which this schema belongs; `None` until a process with access to that log's
    /// bucket has recorded it.
    pub async fn log_id(&self) -> Result<Option<LogId>, StoreError> {
        const OPERATION: &str = "log_identity";
        let row = self
            .postgres
            .run(OPERATION, |client| {
                Box::pin(async move { client.query_opt(BOUND, &[]).await })
            })
            .await?;
        row.map(|row| row.try_get(0).map(LogId))
            .transpose()
            .map_err(unreadable(OPERATION))
    }

    /// Records to which log the schema belongs, unless that is recorded already.
    async fn bind(&self) -> Result<(), StoreError> {
        let Some(LogId(ours)) = self.log else {
            return Ok(());
        };
        let bound = self
            .postgres
            .run("log_identity", move |client| {
                Box::pin(async move {
                    client.execute(BIND, &[&ours]).await?;
                    client.query_one(BOUND, &[]).await?.try_get(0)
                })
            })
            .await?;
        self.refuse_other(Some(bound))
    }

    fn refuse_other(&self, bound: Option<Uuid>) -> Result<(), StoreError> {
        let theirs = bound.map(LogId);
        match (theirs, self.log) {
            (Some(theirs), Some(ours)) if theirs != ours => {
                let message = format!(
                    "the PostgreSQL schema belongs to the log {theirs}, the bucket holds the log \
                     {ours}: point the service at the bucket or the database that belong \
                     together, or give this bucket a schema of its own (`postgres.schema`)"
                );
                let kind = StoreErrorKind::Conflict;
                Err(StoreError::determinate(
                    kind,
                    STORE,
                    "log_identity",
                    message,
                ))
            }
            _ => Ok(()),
        }
    }

    async fn run<T, W>(&self, operation: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut deadpool_postgres::Object) -> Work<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.postgres.run(operation, work).await?
    }
}

/// The columns of a row, as stored.
struct RowColumns {
    mode: &'static str,
    lead: &'static str,
    epoch: i64,
    step: &'static str,
    revision: i64,
}

impl From<&MigrationRow> for RowColumns {
    fn from(row: &MigrationRow) -> Self {
        Self {
            mode: row.stage.mode().as_str(),
            lead: row.stage.lead().as_str(),
            epoch: row.epoch.0 as i64,
            step: row.step.as_str(),
            revision: row.revision as i64,
        }
    }
}

/// The row whose columns mode, lead, epoch, step and revision begin at `at`.
pub(super) fn decode_row(
    row: &Row,
    at: usize,
    operation: &'static str,
) -> Result<MigrationRow, StoreError> {
    let columns = || -> Result<(&str, &str, i64, &str, i64), Error> {
        Ok((
            row.try_get(at)?,
            row.try_get(at + 1)?,
            row.try_get(at + 2)?,
            row.try_get(at + 3)?,
            row.try_get(at + 4)?,
        ))
    };
    let (mode_text, lead_text, epoch, step, revision) = columns().map_err(unreadable(operation))?;
    let decoded = || -> Result<MigrationRow, InvalidRow> {
        let unknown = |what: &str, text: &str| InvalidRow(format!("there is no {what} `{text}`"));
        let mode = mode(mode_text).ok_or_else(|| unknown("mode", mode_text))?;
        let lead = lead(lead_text).ok_or_else(|| unknown("lead", lead_text))?;
        let step: Step = step.parse()?;
        MigrationRow::from_columns(mode, lead, Epoch(epoch as u64), step, revision as u64)
    };
    decoded().map_err(|e| StoreError::corrupt(STORE, operation, e.to_string()))
}

fn lead(text: &str) -> Option<Lead> {
    [Lead::Postgres, Lead::S3]
        .into_iter()
        .find(|lead| lead.as_str() == text)
}

fn seen(row: &Row, operation: &'static str) -> Result<(PartitionId, RowSeen), StoreError> {
    let columns = || -> Result<(PartitionId, [SystemTime; 3]), Error> {
        let times = [row.try_get(6)?, row.try_get(7)?, row.try_get(8)?];
        Ok((partition_of(row, 0)?, times))
    };
    let (partition, [since, changed, read]) = columns().map_err(unreadable(operation))?;
    let seen = RowSeen {
        row: decode_row(row, 1, operation)?,
        since: timestamp(since),
        changed: timestamp(changed),
        read: timestamp(read),
    };
    Ok((partition, seen))
}

fn view(row: &Row, operation: &'static str) -> Result<PostgresView, StoreError> {
    let next: i64 = row.try_get(5).map_err(unreadable(operation))?;
    Ok(PostgresView {
        row: decode_row(row, 0, operation)?,
        next: next as Offset,
    })
}

/// Inserts the beginning of a partition's log. An existing log whose row was lost keeps its own, if
/// that names the same leader.
async fn begin_log(
    transaction: &deadpool_postgres::Transaction<'_>,
    partition: i32,
    genesis: &CommitObject,
) -> Result<Result<(), StoreError>, Error> {
    let conflict = |found: &str| {
        let message = format!("the log of partition {partition} {found}");
        let kind = StoreErrorKind::Conflict;
        Err(StoreError::determinate(
            kind,
            STORE,
            BEGIN_OPERATION,
            message,
        ))
    };
    if let Some(found) = transaction.query_opt(LAST_RECORD, &[&partition]).await? {
        let record: Json<ControlRecord> = match found.try_get(0) {
            Ok(record) => record,
            Err(e) => return Ok(Err(unreadable(BEGIN_OPERATION)(e))),
        };
        let agreed = genesis.control_record().ok().flatten() == Some(record.0);
        return Ok(if agreed {
            Ok(())
        } else {
            conflict(&format!(
                "is led by {} since epoch {}",
                record.0.lead.as_str(),
                record.0.epoch.0
            ))
        });
    }
    let object = std::iter::once((genesis, genesis.hash()));
    match copy::insert(transaction, object, BEGIN_OPERATION).await? {
        Ok(Inserted::Yes) => Ok(Ok(())),
        Ok(Inserted::Taken) => Ok(conflict("has another beginning")),
        Err(e) => Ok(Err(e)),
    }
}

#[async_trait]
impl MigrationTable for PostgresMigration {
    async fn rows(&self) -> Result<BTreeMap<PartitionId, RowSeen>, StoreError> {
        const OPERATION: &str = "migration_rows";
        let rows = self
            .postgres
            .run(OPERATION, |client| {
                Box::pin(async move {
                    let statement = client.prepare_cached(ROWS).await?;
                    client.query(&statement, &[]).await
                })
            })
            .await?;
        let bound: Option<Uuid> = match rows.first() {
            Some(row) => row.try_get(9).map_err(unreadable(OPERATION))?,
            None => None,
        };
        self.refuse_other(bound)?;
        if bound.is_none() {
            self.bind().await?;
        }
        rows.iter().map(|row| seen(row, OPERATION)).collect()
    }

    async fn view(&self, partition: PartitionId) -> Result<Option<PostgresView>, StoreError> {
        const OPERATION: &str = "migration_view";
        let row = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let statement = client.prepare_cached(VIEW).await?;
                    client
                        .query_opt(&statement, &[&i32::from(partition.0)])
                        .await
                })
            })
            .await?;
        row.map(|row| view(&row, OPERATION)).transpose()
    }

    async fn compare_and_set(
        &self,
        partition: PartitionId,
        from: &MigrationRow,
        to: &MigrationRow,
    ) -> Result<bool, StoreError> {
        let (from, to) = (RowColumns::from(from), RowColumns::from(to));
        let changed = self
            .postgres
            .run("migration_compare_and_set", move |client| {
                Box::pin(async move {
                    client
                        .execute(
                            COMPARE_AND_SET,
                            &[
                                &i32::from(partition.0),
                                &from.mode,
                                &from.lead,
                                &from.epoch,
                                &from.step,
                                &from.revision,
                                &to.mode,
                                &to.lead,
                                &to.epoch,
                                &to.step,
                                &to.revision,
                            ],
                        )
                        .await
                })
            })
            .await?;
        Ok(changed > 0)
    }

    async fn begin(
        &self,
        partition: PartitionId,
        row: &MigrationRow,
        genesis: Option<&CommitObject>,
    ) -> Result<MigrationRow, StoreError> {
        let (row, genesis) = (RowColumns::from(row), genesis.cloned());
        self.run(BEGIN_OPERATION, move |client| {
            Box::pin(async move {
                let number = i32::from(partition.0);
                let transaction = client.transaction().await?;
                let begun = transaction
                    .execute(
                        BEGIN,
                        &[
                            &number,
                            &row.mode,
                            &row.lead,
                            &row.epoch,
                            &row.step,
                            &row.revision,
                        ],
                    )
                    .await?;
                if begun > 0
                    && let Some(genesis) = &genesis
                    && let Err(e) = begin_log(&transaction, number, genesis).await?
                {
                    return Ok(Err(e));
                }
                let found = transaction.query_one(ROW, &[&number]).await?;
                transaction.commit().await?;
                Ok(decode_row(&found, 0, BEGIN_OPERATION))
            })
        })
        .await
    }

    async fn has_commits(&self, partition: PartitionId) -> Result<bool, StoreError> {
        self.postgres
            .run("migration_has_commits", move |client| {
                Box::pin(async move {
                    client
                        .query_one(HAS_COMMITS, &[&i32::from(partition.0)])
                        .await?
                        .try_get(0)
                })
            })
            .await
    }

    async fn begin_switch(
        &self,
        switch: &Switch,
        driver: &str,
        patience: Duration,
    ) -> Result<bool, StoreError> {
        self.bind().await?;
        let (row, driver) = (switches::Document::of(switch)?, driver.to_owned());
        self.postgres
            .run("switch_begin", move |client| {
                Box::pin(async move { switches::begin(client, &row, &driver, patience).await })
            })
            .await
    }

    async fn record_switch(&self, switch: &Switch, driver: &str) -> Result<bool, StoreError> {
        let (row, driver) = (switches::Document::of(switch)?, driver.to_owned());
        self.postgres
            .run("switch_record", move |client| {
                Box::pin(async move { switches::record(client, &row, &driver).await })
            })
            .await
    }

    async fn adopt_switch(
        &self,
        driver: &str,
        patience: Duration,
    ) -> Result<Option<Switch>, StoreError> {
        self.bind().await?;
        let driver = driver.to_owned();
        self.run("switch_adopt", move |client| {
            Box::pin(async move { switches::adopt(client, &driver, patience).await })
        })
        .await
    }

    async fn switch(&self, id: Uuid) -> Result<Option<Switch>, StoreError> {
        self.run("switch_get", move |client| {
            Box::pin(async move { switches::by_id(client, id).await })
        })
        .await
    }

    async fn current_switch(&self) -> Result<Option<Switch>, StoreError> {
        self.run("switch_current", |client| {
            Box::pin(async move { switches::current(client).await })
        })
        .await
    }

    async fn switches(
        &self,
        limit: usize,
        before: Option<Timestamp>,
    ) -> Result<Vec<Switch>, StoreError> {
        self.run("switches", move |client| {
            Box::pin(async move { switches::page(client, limit, before).await })
        })
        .await
    }
}
