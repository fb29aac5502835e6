//! The outbox in PostgreSQL.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio_postgres::{IsolationLevel, Row};
use uuid::Uuid;

use super::marks::{MarkColumns, mark_at};
use super::rows::{
    DEAD_COLUMNS, RowColumns, decode_dead_letter, decode_row, partition_of, position_columns,
    system_time, timestamp, unreadable,
};
use super::{Postgres, leases};
use crate::error::StoreError;
use crate::ports::delivery::{
    CommitGroup, DeadLetter, DeliveryStatus, DeliveryStore, Leases, OutboxRow, PartitionDelivery,
    Refused,
};
use oms_core::domain::ids::{Offset, PartitionId, Position};
use oms_core::log::identity::{LogId, Mark};
use oms_core::log::object::ObjectHash;

/// Moves the watermarks of those partitions that are where their group begins, on the same commit
/// of the same log, and inserts only their rows: one statement, one round trip and one fsync for
/// many partitions. A second process that records the same commits waits for the watermark's row
/// and then finds it moved.
const RECORD: &str = "
WITH wanted AS (
    SELECT * FROM unnest($1::int4[], $2::int8[], $3::int8[], $17::bytea[], $18::bytea[])
         AS w(partition, was, next, before, after)
), moved AS (
    UPDATE outbox_watermarks m
    SET next_offset = w.next, moved = now(), log_id = $19, anchored_at = w.next, sha256 = w.after
    FROM wanted w WHERE m.partition = w.partition AND m.next_offset = w.was
      AND CASE WHEN m.anchored_at = m.next_offset THEN m.sha256 END IS NOT DISTINCT FROM w.before
      AND m.log_id IS NOT DISTINCT FROM $19
    RETURNING m.partition
), taken AS (
    INSERT INTO outbox (partition, commit_offset, idx, event_id, stream_type, stream_id, version,
                        topic, epoch, mode, start_byte, len_bytes, body)
    SELECT r.*
    FROM unnest($4::int4[], $5::int8[], $6::int4[], $7::uuid[], $8::text[], $9::text[],
                $10::int8[], $11::text[], $12::int8[], $13::text[], $14::int8[], $15::int8[],
                $16::bytea[])
         AS r(partition, commit_offset, idx, event_id, stream_type, stream_id, version,
              topic, epoch, mode, start_byte, len_bytes, body)
    WHERE r.partition IN (SELECT partition FROM moved)
    ON CONFLICT DO NOTHING
)
SELECT partition FROM moved";

const BEGIN: &str = "
INSERT INTO outbox_watermarks (partition, next_offset, log_id, anchored_at, sha256)
SELECT * FROM unnest($1::int4[], $2::int8[], $3::uuid[], $4::int8[], $5::bytea[])
ON CONFLICT DO NOTHING";

const MARK: &str = "
UPDATE outbox_watermarks SET log_id = $3, anchored_at = next_offset, sha256 = $4
WHERE partition = $1 AND next_offset = $2
  AND log_id IS NOT DISTINCT FROM $5 AND sha256 IS NOT DISTINCT FROM $6";

/// The lower bound `after` keeps the scan from reading rows that were just deleted.
const PENDING: &str = "
SELECT o.partition, o.commit_offset, o.idx, o.event_id, o.stream_type, o.stream_id, o.version,
       o.topic, o.epoch, o.mode, o.start_byte, o.len_bytes, o.body, o.attempts, o.next_attempt
FROM unnest($1::int4[], $2::int8[], $3::int4[]) AS after(partition, commit_offset, idx)
CROSS JOIN LATERAL (
    SELECT * FROM outbox
    WHERE partition = after.partition
      AND (commit_offset, idx) > (after.commit_offset, after.idx)
      AND EXISTS (SELECT FROM outbox_watermarks w
                  WHERE w.partition = after.partition AND w.log_id IS NOT DISTINCT FROM $5)
    ORDER BY commit_offset, idx LIMIT $4
) o
ORDER BY o.partition, o.commit_offset, o.idx";

const DELIVERED: &str = "
DELETE FROM outbox o
USING unnest($1::int4[], $2::int8[], $3::int4[]) AS d(partition, commit_offset, idx)
WHERE o.partition = d.partition AND o.commit_offset = d.commit_offset AND o.idx = d.idx";

const REFUSED: &str = "
UPDATE outbox o SET attempts = r.attempts, last_error = r.reason, next_attempt = r.next_attempt
FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::int4[], $5::text[], $6::timestamptz[])
     AS r(partition, commit_offset, idx, attempts, reason, next_attempt)
WHERE o.partition = r.partition AND o.commit_offset = r.commit_offset AND o.idx = r.idx
  AND r.next_attempt IS NOT NULL";

const DIED: &str = "
WITH given_up AS (
    SELECT * FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::int4[], $5::text[],
                         $6::timestamptz[])
    AS r(partition, commit_offset, idx, attempts, reason, next_attempt)
    WHERE r.next_attempt IS NULL
), gone AS (
    DELETE FROM outbox o USING given_up r
    WHERE o.partition = r.partition AND o.commit_offset = r.commit_offset AND o.idx = r.idx
    RETURNING o.partition, o.commit_offset, o.idx, o.event_id, o.stream_type, o.stream_id,
              o.version, o.topic, o.epoch, o.mode, o.start_byte, o.len_bytes, o.body,
              r.attempts, r.reason, o.created
)
INSERT INTO dead_letters (partition, commit_offset, idx, event_id, stream_type, stream_id, version,
                          topic, epoch, mode, start_byte, len_bytes, body, attempts, last_error,
                          created)
SELECT * FROM gone ON CONFLICT DO NOTHING";

const REQUEUE: &str = "
WITH back AS (DELETE FROM dead_letters WHERE id = $1 RETURNING *), taken AS (
    INSERT INTO outbox (partition, commit_offset, idx, event_id, stream_type, stream_id, version,
                        topic, epoch, mode, start_byte, len_bytes, body, created)
    SELECT partition, commit_offset, idx, event_id, stream_type, stream_id, version,
           topic, epoch, mode, start_byte, len_bytes, body, created
    FROM back ON CONFLICT DO NOTHING
)
SELECT count(*) FROM back";

/// One statement, hence one snapshot: a commit below the watermark without a row in the outbox was
/// delivered. `least` ignores NULLs.
const DELIVERED_WATERMARKS: &str = "
SELECT w.partition,
       least(w.next_offset,
             (SELECT min(commit_offset) FROM outbox o WHERE o.partition = w.partition),
             (SELECT min(commit_offset) FROM dead_letters d WHERE d.partition = w.partition)),
       w.next_offset, l.node, l.until
FROM outbox_watermarks w
LEFT JOIN relay_leases l ON l.partition = w.partition AND l.until > now()
ORDER BY w.partition";

const BACKLOG: &str = "
SELECT count(*), extract(epoch FROM now() - min(created))::float8,
       (SELECT count(*) FROM dead_letters)
FROM outbox";

/// The outbox in PostgreSQL.
#[derive(Clone)]
pub struct PostgresOutbox {
    postgres: Postgres,
    log: Option<Uuid>,
}

impl PostgresOutbox {
    /// The outbox in this database.
    pub fn new(postgres: Postgres) -> Self {
        Self {
            postgres,
            log: None,
        }
    }

    /// Records this log in its watermarks.
    #[must_use]
    pub fn of_log(self, log: Option<LogId>) -> Self {
        Self {
            log: log.map(|id| id.0),
            ..self
        }
    }

    async fn rows(
        &self,
        operation: &'static str,
        sql: &'static str,
    ) -> Result<Vec<Row>, StoreError> {
        self.postgres
            .run(operation, move |client| {
                Box::pin(async move {
                    let statement = client.prepare_cached(sql).await?;
                    client.query(&statement, &[]).await
                })
            })
            .await
    }
}

#[async_trait]
impl DeliveryStore for PostgresOutbox {
    async fn watermarks(&self) -> Result<BTreeMap<PartitionId, Mark>, StoreError> {
        const OPERATION: &str = "outbox_watermarks";
        let rows = self
            .rows(
                OPERATION,
                "SELECT partition, next_offset, log_id, anchored_at, sha256 FROM outbox_watermarks",
            )
            .await?;
        rows.iter()
            .map(|row| Ok((partition_of(row, 0)?, mark_at(row, 1)?)))
            .collect::<Result<_, _>>()
            .map_err(unreadable(OPERATION))
    }

    async fn begin(&self, starts: Vec<(PartitionId, Mark)>) -> Result<(), StoreError> {
        self.postgres
            .run("outbox_begin", move |client| {
                Box::pin(async move {
                    let partitions: Vec<i32> = starts.iter().map(|s| i32::from(s.0.0)).collect();
                    let m = MarkColumns::of(starts.iter().map(|s| &s.1));
                    client
                        .execute(BEGIN, &[&partitions, &m.next, &m.log, &m.at, &m.hash])
                        .await
                        .map(|_| ())
                })
            })
            .await
    }

    async fn mark(
        &self,
        partition: PartitionId,
        from: Mark,
        hash: ObjectHash,
    ) -> Result<(), StoreError> {
        let log = self.log;
        self.postgres
            .run("outbox_mark", move |client| {
                Box::pin(async move {
                    let was = from.anchor;
                    let (was_log, was_hash) = (
                        was.and_then(|a| a.log).map(|id| id.0),
                        was.map(|a| a.hash.0.to_vec()),
                    );
                    let (number, next) = (i32::from(partition.0), from.next as i64);
                    client
                        .execute(
                            MARK,
                            &[&number, &next, &log, &&hash.0[..], &was_log, &was_hash],
                        )
                        .await
                        .map(|_| ())
                })
            })
            .await
    }

    async fn record(&self, groups: Vec<CommitGroup>) -> Result<Vec<PartitionId>, StoreError> {
        const OPERATION: &str = "outbox_record";
        let log = self.log;
        let rows = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let statement = client.prepare_cached(RECORD).await?;
                    let partitions: Vec<i32> =
                        groups.iter().map(|g| i32::from(g.partition.0)).collect();
                    let from: Vec<i64> = groups.iter().map(|g| g.from as i64).collect();
                    let to: Vec<i64> = groups.iter().map(|g| g.to as i64).collect();
                    let before: Vec<Option<Vec<u8>>> = groups
                        .iter()
                        .map(|g| g.before.map(|hash| hash.0.to_vec()))
                        .collect();
                    let after: Vec<&[u8]> = groups.iter().map(|g| &g.after.0[..]).collect();
                    let c = RowColumns::of(groups.iter().flat_map(|g| &g.rows));
                    client
                        .query(
                            &statement,
                            &[
                                &partitions,
                                &from,
                                &to,
                                &c.partition,
                                &c.commit_offset,
                                &c.idx,
                                &c.event_id,
                                &c.stream_type,
                                &c.stream_id,
                                &c.version,
                                &c.topic,
                                &c.epoch,
                                &c.mode,
                                &c.start,
                                &c.len,
                                &c.body,
                                &before,
                                &after,
                                &log,
                            ],
                        )
                        .await
                })
            })
            .await?;
        rows.iter()
            .map(|row| partition_of(row, 0))
            .collect::<Result<_, _>>()
            .map_err(unreadable(OPERATION))
    }

    async fn pending(
        &self,
        after: Vec<(PartitionId, Option<Position>)>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        const OPERATION: &str = "outbox_pending";
        let log = self.log;
        let rows = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let statement = client.prepare_cached(PENDING).await?;
                    let partitions: Vec<i32> = after.iter().map(|a| i32::from(a.0.0)).collect();
                    let offsets: Vec<i64> = after
                        .iter()
                        .map(|a| a.1.map_or(-1, |p| p.offset as i64))
                        .collect();
                    let indexes: Vec<i32> = after
                        .iter()
                        .map(|a| a.1.map_or(-1, |p| p.index as i32))
                        .collect();
                    client
                        .query(
                            &statement,
                            &[&partitions, &offsets, &indexes, &(limit as i64), &log],
                        )
                        .await
                })
            })
            .await?;
        rows.iter().map(|row| decode_row(row, OPERATION)).collect()
    }

    async fn delivered(&self, positions: Vec<Position>) -> Result<(), StoreError> {
        self.postgres
            .run("outbox_delivered", move |client| {
                Box::pin(async move {
                    let statement = client.prepare_cached(DELIVERED).await?;
                    let (partitions, offsets, indexes) = position_columns(positions.iter());
                    client
                        .execute(&statement, &[&partitions, &offsets, &indexes])
                        .await
                        .map(|_| ())
                })
            })
            .await
    }

    async fn refused(&self, rows: Vec<Refused>) -> Result<(), StoreError> {
        self.postgres
            .run("outbox_refused", move |client| {
                Box::pin(async move {
                    let (partitions, offsets, indexes) =
                        position_columns(rows.iter().map(|r| &r.position));
                    let attempts: Vec<i32> = rows.iter().map(|r| r.attempts as i32).collect();
                    let reasons: Vec<&str> = rows.iter().map(|r| r.reason.as_str()).collect();
                    let next: Vec<Option<SystemTime>> = rows
                        .iter()
                        .map(|r| r.next_attempt.map(system_time))
                        .collect();
                    let transaction = client.transaction().await?;
                    for sql in [REFUSED, DIED] {
                        transaction
                            .execute(
                                sql,
                                &[&partitions, &offsets, &indexes, &attempts, &reasons, &next],
                            )
                            .await?;
                    }
                    transaction.commit().await
                })
            })
            .await
    }

    async fn lease(
        &self,
        node: &str,
        partitions: u16,
        ttl: Duration,
    ) -> Result<Leases, StoreError> {
        const OPERATION: &str = "relay_lease";
        let node = node.to_owned();
        let rows = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move { leases::take(client, &node, partitions, ttl).await })
            })
            .await?;
        rows.iter()
            .map(|row| Ok((partition_of(row, 0)?, row.try_get(1)?)))
            .collect::<Result<_, _>>()
            .map_err(unreadable(OPERATION))
    }

    async fn release(&self, node: &str) -> Result<(), StoreError> {
        let node = node.to_owned();
        self.postgres
            .run("relay_release", move |client| {
                Box::pin(async move { leases::release(client, &node).await })
            })
            .await
    }

    async fn delivered_watermarks(&self) -> Result<BTreeMap<PartitionId, Offset>, StoreError> {
        const OPERATION: &str = "outbox_delivered_watermarks";
        let rows = self.rows(OPERATION, DELIVERED_WATERMARKS).await?;
        rows.iter()
            .map(|row| watermark(row, 1))
            .collect::<Result<_, _>>()
            .map_err(unreadable(OPERATION))
    }

    async fn status(&self) -> Result<DeliveryStatus, StoreError> {
        const OPERATION: &str = "outbox_status";
        let (backlog, partitions) = self
            .postgres
            .run(OPERATION, |client| {
                Box::pin(async move {
                    // In one snapshot: a commit recorded between two reads would look delivered.
                    let snapshot = client
                        .build_transaction()
                        .isolation_level(IsolationLevel::RepeatableRead)
                        .read_only(true)
                        .start()
                        .await?;
                    let backlog = snapshot.query_one(BACKLOG, &[]).await?;
                    let partitions = snapshot.query(DELIVERED_WATERMARKS, &[]).await?;
                    snapshot.commit().await?;
                    Ok((backlog, partitions))
                })
            })
            .await?;
        decode_status(&backlog, &partitions).map_err(unreadable(OPERATION))
    }

    async fn dead_letters(
        &self,
        limit: usize,
        after: Option<i64>,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        const OPERATION: &str = "dead_letters";
        let rows = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let sql = format!(
                        "SELECT {DEAD_COLUMNS} FROM dead_letters WHERE id > $1 ORDER BY id LIMIT $2"
                    );
                    let after = after.unwrap_or(i64::MIN);
                    client.query(&sql, &[&after, &(limit as i64)]).await
                })
            })
            .await?;
        rows.iter()
            .map(decode_dead_letter)
            .collect::<Result<_, _>>()
            .map_err(unreadable(OPERATION))
    }

    async fn requeue(&self, id: i64) -> Result<bool, StoreError> {
        let count: i64 = self
            .postgres
            .run("dead_letter_requeue", move |client| {
                Box::pin(async move { client.query_one(REQUEUE, &[&id]).await?.try_get(0) })
            })
            .await?;
        Ok(count > 0)
    }

    async fn discard(&self, id: i64) -> Result<bool, StoreError> {
        let count = self
            .postgres
            .run("dead_letter_discard", move |client| {
                Box::pin(async move {
                    client
                        .execute("DELETE FROM dead_letters WHERE id = $1", &[&id])
                        .await
                })
            })
            .await?;
        Ok(count > 0)
    }
}

fn watermark(row: &Row, column: usize) -> Result<(PartitionId, Offset), tokio_postgres::Error> {
    let offset: i64 = row.try_get(column)?;
    Ok((partition_of(row, 0)?, offset as Offset))
}

fn decode_status(
    backlog: &Row,
    partitions: &[Row],
) -> Result<DeliveryStatus, tokio_postgres::Error> {
    let partitions = partitions
        .iter()
        .map(|row| {
            Ok(PartitionDelivery {
                partition: partition_of(row, 0)?,
                delivered: watermark(row, 1)?.1,
                watermark: watermark(row, 2)?.1,
                lag: None,
                lease_owner: row.try_get(3)?,
                lease_until: row.try_get::<_, Option<SystemTime>>(4)?.map(timestamp),
            })
        })
        .collect::<Result<_, tokio_postgres::Error>>()?;
    Ok(DeliveryStatus {
        depth: backlog.try_get::<_, i64>(0)? as u64,
        oldest_seconds: backlog.try_get(1)?,
        dead_letters: backlog.try_get::<_, i64>(2)? as u64,
        partitions,
        halted: Vec::new(),
    })
}
