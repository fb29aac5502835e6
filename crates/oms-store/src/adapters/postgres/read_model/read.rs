//! Queries on the live generation.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use deadpool_postgres::Object;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio_postgres::{Error, Row};

use super::sql::{Sql, table};
use super::{PostgresReadModel, UNKNOWN, is_gone, query_sql};
use crate::error::{StoreError, StoreErrorKind};
use crate::ports::read_model::{ClassQuery, Generation, ListQuery, Record, RecordPage};
use oms_core::domain::ids::{ClassId, DatabaseName, InstanceId, Version};

/// A page ends at so many bytes of data, however few its items: 1,000 items of the largest size
/// would be a gigabyte.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Index of the data column.
const DATA: usize = 2;

impl PostgresReadModel {
    pub(super) async fn read_database(
        &self,
        name: &DatabaseName,
    ) -> Result<Option<Record>, StoreError> {
        let rows = self
            .rows("read_database", |generation| {
                let mut sql = Sql::default();
                let name = sql.text(name.as_str());
                sql.push(&select_databases(generation));
                sql.push(&format!(" AND d.name = {name}"));
                sql
            })
            .await?;
        first(rows)
    }

    pub(super) async fn read_databases(&self, page: &ListQuery) -> Result<RecordPage, StoreError> {
        let rows = self
            .rows("list_databases", |generation| {
                let mut sql = Sql::default();
                let after = sql.text(page.after.as_deref().unwrap_or_default());
                let limit = page.limit + 1;
                sql.push(&select_databases(generation));
                sql.push(&format!(
                    " AND d.name > {after} ORDER BY d.name LIMIT {limit}"
                ));
                sql
            })
            .await?;
        list(page, rows)
    }

    pub(super) async fn read_class(
        &self,
        db: &DatabaseName,
        id: &ClassId,
    ) -> Result<Option<Record>, StoreError> {
        let rows = self
            .rows("read_class", |generation| {
                let mut sql = Sql::default();
                let (db, id) = (sql.text(db.as_str()), sql.text(id.as_str()));
                sql.push(&select_classes(generation, &db));
                sql.push(&format!(" AND c.id = {id}"));
                sql
            })
            .await?;
        first(rows)
    }

    pub(super) async fn read_classes(
        &self,
        db: &DatabaseName,
        page: &ListQuery,
    ) -> Result<RecordPage, StoreError> {
        let rows = self
            .rows("list_classes", |generation| {
                let mut sql = Sql::default();
                let db = sql.text(db.as_str());
                let after = sql.text(page.after.as_deref().unwrap_or_default());
                let limit = page.limit + 1;
                sql.push(&select_classes(generation, &db));
                sql.push(&format!(" AND c.id > {after} ORDER BY c.id LIMIT {limit}"));
                sql
            })
            .await?;
        list(page, rows)
    }

    pub(super) async fn read_instance(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        id: &InstanceId,
    ) -> Result<Option<Record>, StoreError> {
        let rows = self
            .rows("read_instance", |generation| {
                let mut sql = Sql::default();
                let (db, class) = (sql.text(db.as_str()), sql.text(class.as_str()));
                let id = sql.text(id.as_str());
                sql.push(&format!(
                    "SELECT i.id, i.version, i.data::text, i.created_at, i.updated_at FROM {} i \
                     WHERE i.db = {db} AND i.class = {class} AND i.id = {id} \
                     AND i.data IS NOT NULL AND i.parent = ({})",
                    table(generation, "instances"),
                    query_sql::class_incarnation(generation, &db, &class),
                ));
                sql
            })
            .await?;
        first(rows)
    }

    pub(super) async fn read_instances(
        &self,
        query: &ClassQuery,
    ) -> Result<RecordPage, StoreError> {
        // Only the first page counts; the cursor carries the number to the others.
        let total = match query.after.as_ref().and_then(|a| a.total) {
            Some(total) => total,
            None => self.count_instances(query).await?,
        };
        let mut rows = self
            .rows("query_instances", |generation| {
                query_sql::page(generation, query, total)
            })
            .await?;
        let next_cursor = cut(&mut rows, query.limit)
            .map(|last| -> Result<String, StoreError> {
                let keys = (query_sql::FIXED_COLUMNS..last.len())
                    .map(|i| last.try_get(i))
                    .collect::<Result<_, _>>()
                    .map_err(|e| unreadable(&e))?;
                let id = last.try_get(0).map_err(|e| unreadable(&e))?;
                Ok(query.cursor(keys, id, total))
            })
            .transpose()?;
        let items = rows
            .iter()
            .map(|row| {
                let mut record = record(row)?;
                if query.select.is_some() {
                    record.data = select(query, &record.data)?;
                }
                Ok(record)
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(RecordPage {
            items,
            total: Some(total),
            next_cursor,
        })
    }

    pub(super) async fn count_instances(&self, query: &ClassQuery) -> Result<u64, StoreError> {
        self.with_live("count_instances", |generation| {
            let sql = query_sql::count(generation, query);
            move |client: &Object| Box::pin(async move { count_rows(client, &sql).await })
        })
        .await
    }

    async fn rows(
        &self,
        operation: &'static str,
        sql: impl Fn(Generation) -> Sql,
    ) -> Result<Vec<Row>, StoreError> {
        self.with_live(operation, |generation| {
            let sql = sql(generation);
            move |client: &Object| Box::pin(async move { rows(client, &sql).await })
        })
        .await
    }

    /// Runs a read on the live generation. If that was swapped away since it was last seen, the
    /// read is repeated on the one that replaced it.
    async fn with_live<T, W>(
        &self,
        operation: &'static str,
        work: impl Fn(Generation) -> W,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c Object) -> super::super::Work<'c, T> + Send + 'static,
    {
        for _ in 0..3 {
            let live = self.live.load(Ordering::Acquire);
            if live == UNKNOWN {
                self.refresh_live().await?;
                continue;
            }
            let read = work(Generation(live));
            let place = self.places.take(operation).await?;
            let found = self
                .postgres
                .run(operation, move |client| {
                    Box::pin(async move {
                        let _place = place;
                        match read(client).await {
                            Ok(found) => Ok(Some(found)),
                            Err(e) if is_gone(&e) => Ok(None),
                            Err(e) => Err(e),
                        }
                    })
                })
                .await?;
            if let Some(found) = found {
                return Ok(found);
            }
            self.remember(None);
        }
        Err(not_built(operation))
    }

    async fn refresh_live(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "find_read_model";
        let live: Option<i64> = self
            .postgres
            .run(OPERATION, |client| {
                Box::pin(async move {
                    let row = client
                        .query_opt(
                            "SELECT generation FROM read_model_generations WHERE state = 'live'",
                            &[],
                        )
                        .await?;
                    row.map(|row| row.try_get(0)).transpose()
                })
            })
            .await?;
        self.remember(live.map(Generation));
        live.map(|_| ()).ok_or_else(|| not_built(OPERATION))
    }
}

fn not_built(operation: &'static str) -> StoreError {
    StoreError::determinate(
        StoreErrorKind::Unavailable,
        "postgres",
        operation,
        "the read model is not there yet; the projection will make it",
    )
}

fn select_databases(generation: Generation) -> String {
    format!(
        "SELECT d.name, d.version, d.data::text, d.created_at, d.updated_at FROM {} d \
         WHERE d.data IS NOT NULL AND d.incarnation IS NOT NULL",
        table(generation, "databases")
    )
}

fn select_classes(generation: Generation, db: &str) -> String {
    format!(
        "SELECT c.id, c.version, c.data::text, c.created_at, c.updated_at FROM {} c \
         WHERE c.db = {db} AND c.data IS NOT NULL AND c.parent = \
         (SELECT d.incarnation FROM {} d WHERE d.name = {db} AND d.data IS NOT NULL)",
        table(generation, "classes"),
        table(generation, "databases"),
    )
}

/// Rows with up to [`MAX_PAGE_BYTES`] of data, and one more.
async fn rows(client: &Object, sql: &Sql) -> Result<Vec<Row>, Error> {
    let params = sql.params.iter().map(|p| p.as_sql());
    let mut stream = pin!(client.query_typed_raw(&sql.text, params).await?);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = stream.try_next().await? {
        let full = bytes >= MAX_PAGE_BYTES;
        bytes += row.try_get::<_, &str>(DATA)?.len();
        rows.push(row);
        if full {
            break;
        }
    }
    Ok(rows)
}

async fn count_rows(client: &Object, sql: &Sql) -> Result<u64, Error> {
    let params: Vec<_> = sql.params.iter().map(|p| p.as_sql()).collect();
    let row = client.query_typed_one(&sql.text, &params).await?;
    row.try_get::<_, i64>(0).map(|n| n as u64)
}

/// Cuts the rows to a page; returns its last row if there is more.
fn cut(rows: &mut Vec<Row>, limit: u32) -> Option<&Row> {
    let data = |row: &Row| row.try_get::<_, &str>(DATA).map_or(0, str::len);
    let bytes: usize = rows.iter().map(data).sum();
    let mut more = rows.len() > limit as usize;
    if more {
        rows.truncate(limit as usize);
    }
    // The row at which reading stopped shows that there may be more.
    if bytes >= MAX_PAGE_BYTES && rows.len() > 1 && !more {
        rows.pop();
        more = true;
    }
    rows.last().filter(|_| more)
}

fn record(row: &Row) -> Result<Record, StoreError> {
    let read = || -> Result<_, Error> {
        Ok((
            row.try_get::<_, String>(0)?,
            row.try_get::<_, i64>(1)?,
            row.try_get::<_, String>(DATA)?,
            row.try_get::<_, SystemTime>(3)?,
            row.try_get::<_, SystemTime>(4)?,
        ))
    };
    let (id, version, data, created_at, updated_at) = read().map_err(|e| unreadable(&e))?;
    Ok(Record {
        id,
        version: Version(version as u64),
        data: RawValue::from_string(data).map_err(|e| unreadable(&e))?,
        created_at: Timestamp::try_from(created_at).map_err(|e| unreadable(&e))?,
        updated_at: Timestamp::try_from(updated_at).map_err(|e| unreadable(&e))?,
    })
}

fn select(query: &ClassQuery, data: &RawValue) -> Result<Box<RawValue>, StoreError> {
    let whole: Value = serde_json::from_str(data.get()).map_err(|e| unreadable(&e))?;
    serde_json::value::to_raw_value(&query.project(whole)).map_err(|e| unreadable(&e))
}

fn first(rows: Vec<Row>) -> Result<Option<Record>, StoreError> {
    rows.first().map(record).transpose()
}

fn list(page: &ListQuery, mut rows: Vec<Row>) -> Result<RecordPage, StoreError> {
    let more = cut(&mut rows, page.limit).is_some();
    let items: Vec<Record> = rows.iter().map(record).collect::<Result<_, _>>()?;
    let last = items.last().filter(|_| more);
    Ok(RecordPage {
        next_cursor: last.map(|record| page.cursor(record.id.clone())),
        total: None,
        items,
    })
}

fn unreadable(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::corrupt("postgres", "read", error.to_string())
}
