//! The audit trail in PostgreSQL.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio_postgres::Row;

use super::Postgres;
use super::errors::STORE;
use super::rows::{system_time, timestamp, unreadable};
use crate::error::StoreError;
use crate::ports::audit_table::{AuditEntry, AuditFilter, AuditKind, AuditTable};

const APPEND: &str = "
INSERT INTO audit (id, recorded, node, kind, principal, address, action, body, status, code,
                   request_id, times)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (id) DO NOTHING";

const ENTRIES: &str = "
SELECT id, recorded, node, kind, principal, address, action, body, status, code, request_id, times
FROM audit
WHERE ($1::uuid IS NULL OR id < $1) AND ($2::text IS NULL OR principal = $2)
  AND ($3::text IS NULL OR kind = $3)
ORDER BY id DESC LIMIT $4";

const PRUNE: &str = "DELETE FROM audit WHERE recorded < now() - $1::float8 * interval '1 second'";

/// The audit trail in PostgreSQL.
#[derive(Clone)]
pub struct PostgresAudit {
    postgres: Postgres,
}

impl PostgresAudit {
    /// The trail in this database.
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }
}

#[async_trait]
impl AuditTable for PostgresAudit {
    async fn append(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        self.postgres
            .run("audit_append", move |client| {
                Box::pin(async move {
                    let transaction = client.transaction().await?;
                    let insert = transaction.prepare(APPEND).await?;
                    for entry in &entries {
                        let recorded = system_time(entry.time);
                        let times = i64::try_from(entry.times).unwrap_or(i64::MAX);
                        transaction
                            .execute(
                                &insert,
                                &[
                                    &entry.id,
                                    &recorded,
                                    &entry.node,
                                    &entry.kind.as_str(),
                                    &entry.principal,
                                    &entry.address,
                                    &entry.action,
                                    &entry.body,
                                    &i32::from(entry.status),
                                    &entry.code,
                                    &entry.request_id,
                                    &times,
                                ],
                            )
                            .await?;
                    }
                    transaction.commit().await
                })
            })
            .await
    }

    async fn entries(
        &self,
        filter: AuditFilter,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        const OPERATION: &str = "audit_entries";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let kind = filter.kind.map(AuditKind::as_str);
                    client
                        .query(ENTRIES, &[&filter.before, &filter.principal, &kind, &limit])
                        .await
                })
            })
            .await?;
        rows.iter().map(|row| decode(row, OPERATION)).collect()
    }

    async fn prune(&self, keep: Duration) -> Result<u64, StoreError> {
        let keep = keep.as_secs_f64();
        self.postgres
            .run("audit_prune", move |client| {
                Box::pin(async move { client.execute(PRUNE, &[&keep]).await })
            })
            .await
    }
}

fn decode(row: &Row, operation: &'static str) -> Result<AuditEntry, StoreError> {
    let bad = unreadable(operation);
    let recorded: SystemTime = row.try_get(1).map_err(&bad)?;
    let kind: &str = row.try_get(3).map_err(&bad)?;
    let status: i32 = row.try_get(8).map_err(&bad)?;
    let times: i64 = row.try_get(11).map_err(&bad)?;
    Ok(AuditEntry {
        id: row.try_get(0).map_err(&bad)?,
        time: timestamp(recorded),
        node: row.try_get(2).map_err(&bad)?,
        kind: AuditKind::from_word(kind).ok_or_else(|| {
            StoreError::corrupt(STORE, operation, format!("{kind:?} is no kind of entry"))
        })?,
        principal: row.try_get(4).map_err(&bad)?,
        address: row.try_get(5).map_err(&bad)?,
        action: row.try_get(6).map_err(&bad)?,
        body: row.try_get(7).map_err(&bad)?,
        status: u16::try_from(status).unwrap_or_default(),
        code: row.try_get(9).map_err(&bad)?,
        request_id: row.try_get(10).map_err(&bad)?,
        times: u64::try_from(times).unwrap_or_default(),
    })
}
