//! Checkpoints and parked rows of imports in PostgreSQL.

use std::collections::BTreeMap;
use std::time::SystemTime;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tokio_postgres::types::Json;
use tokio_postgres::{Error, Row};

use super::Postgres;
use super::rows::{timestamp, unreadable};
use crate::error::StoreError;
use crate::ports::import::{Checkpoint, ImportJournal, ParkedEntry};
use oms_core::domain::ids::StreamName;
use oms_core::import::lanes::ParkedRow;
use oms_core::import::row::Cursor;

/// Two processes may import the same source: the checkpoint that is further on wins.
const SAVE: &str = "
INSERT INTO import_checkpoints (source, reached, rows, names) VALUES ($1, $2, $3, $4)
ON CONFLICT (source) DO UPDATE
SET reached = excluded.reached, rows = excluded.rows, updated = now(),
    names = excluded.names || import_checkpoints.names
WHERE import_checkpoints.rows <= excluded.rows";

/// Longest texts of a parked row: the key has to fit an index, the others are for people.
const MAX_KEY: usize = 400;
const MAX_TEXT: usize = 2_000;

/// Cuts a text to `max` bytes, with a hash of the whole so that different texts stay different.
fn shortened(text: String, max: usize) -> String {
    if text.len() <= max {
        return text;
    }
    let hash = hex::encode(Sha256::digest(text.as_bytes()));
    let kept = &text[..text.floor_char_boundary(max - hash.len() - 4)];
    format!("{kept}…{hash}")
}

const PARK: &str = "
INSERT INTO import_parked
    (source, key, foreign_stream, stream_type, stream_id, version, event_id, event_type, reason, detail)
SELECT $1, p.* FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::int8[],
                           $7::text[], $8::text[], $9::text[], $10::text[]) p
ON CONFLICT (source, key) DO UPDATE
SET reason = excluded.reason, detail = excluded.detail, parked = now()";

const PARKED: &str = "
SELECT id, key, foreign_stream, stream_type, stream_id, version, event_id, event_type, reason,
       detail, parked
FROM import_parked WHERE source = $1 AND id > $2 ORDER BY id LIMIT $3";

/// The journal of imports in PostgreSQL.
#[derive(Clone)]
pub struct PostgresImportJournal {
    postgres: Postgres,
}

impl PostgresImportJournal {
    /// The journal in this database.
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }
}

/// Parked rows as arrays of columns.
#[derive(Default)]
struct ParkedColumns {
    key: Vec<String>,
    foreign_stream: Vec<Option<String>>,
    stream_type: Vec<Option<String>>,
    stream_id: Vec<Option<String>>,
    version: Vec<Option<i64>>,
    event_id: Vec<Option<String>>,
    event_type: Vec<Option<String>>,
    reason: Vec<&'static str>,
    detail: Vec<String>,
}

impl ParkedColumns {
    fn of(rows: Vec<ParkedRow>) -> Self {
        let mut columns = Self::default();
        // One statement may touch a row only once.
        let mut seen = std::collections::HashSet::new();
        let text = |text: Option<String>| text.map(|text| shortened(text, MAX_TEXT));
        for row in rows {
            let key = shortened(row.row.key, MAX_KEY);
            if !seen.insert(key.clone()) {
                continue;
            }
            let stream = row.stream.as_ref();
            columns.key.push(key);
            columns.foreign_stream.push(text(row.row.foreign_stream));
            columns
                .stream_type
                .push(stream.map(|s| s.stream_type().to_owned()));
            columns.stream_id.push(stream.map(|s| s.id().to_owned()));
            columns.version.push(row.row.version);
            columns.event_id.push(text(row.row.event_id));
            columns.event_type.push(text(row.row.event_type));
            columns.reason.push(row.reason.as_str());
            columns.detail.push(shortened(row.detail, MAX_TEXT));
        }
        columns
    }
}

fn entry(source: &str, row: &Row) -> Result<ParkedEntry, Error> {
    let stream_type: Option<String> = row.try_get(3)?;
    let stream_id: Option<String> = row.try_get(4)?;
    Ok(ParkedEntry {
        id: row.try_get(0)?,
        source: source.to_owned(),
        key: row.try_get(1)?,
        foreign_stream: row.try_get(2)?,
        stream: stream_type
            .zip(stream_id)
            .map(|(t, id)| format!("{t}/{id}")),
        version: row.try_get(5)?,
        event_id: row.try_get(6)?,
        event_type: row.try_get(7)?,
        reason: row.try_get(8)?,
        detail: row.try_get(9)?,
        parked: timestamp(row.try_get::<_, SystemTime>(10)?),
    })
}

#[async_trait]
impl ImportJournal for PostgresImportJournal {
    async fn checkpoint(&self, source: &str) -> Result<Option<Checkpoint>, StoreError> {
        const OPERATION: &str = "import_checkpoint";
        let source = source.to_owned();
        let row = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let sql =
                        "SELECT reached, rows, names FROM import_checkpoints WHERE source = $1";
                    client.query_opt(sql, &[&source]).await
                })
            })
            .await?;
        row.map(|row| {
            let Json(cursor) = row.try_get::<_, Json<Cursor>>(0)?;
            let rows: i64 = row.try_get(1)?;
            let Json(names) = row.try_get::<_, Json<BTreeMap<String, String>>>(2)?;
            Ok(Checkpoint {
                cursor,
                rows: rows as u64,
                names,
            })
        })
        .transpose()
        .map_err(unreadable(OPERATION))
    }

    async fn save(&self, source: &str, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let source = source.to_owned();
        self.postgres
            .run("save_import_checkpoint", move |client| {
                Box::pin(async move {
                    let rows = checkpoint.rows as i64;
                    let cursor = Json(&checkpoint.cursor);
                    let names = Json(&checkpoint.names);
                    client
                        .execute(SAVE, &[&source, &cursor, &rows, &names])
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn park(&self, source: &str, rows: Vec<ParkedRow>) -> Result<(), StoreError> {
        let source = source.to_owned();
        let columns = ParkedColumns::of(rows);
        self.postgres
            .run("park_import", move |client| {
                Box::pin(async move {
                    let c = &columns;
                    client
                        .execute(
                            PARK,
                            &[
                                &source,
                                &c.key,
                                &c.foreign_stream,
                                &c.stream_type,
                                &c.stream_id,
                                &c.version,
                                &c.event_id,
                                &c.event_type,
                                &c.reason,
                                &c.detail,
                            ],
                        )
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn stopped(&self, source: &str) -> Result<Vec<StreamName>, StoreError> {
        const OPERATION: &str = "import_stopped";
        let source = source.to_owned();
        let rows = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let sql = "SELECT DISTINCT stream_type, stream_id FROM import_parked \
                               WHERE source = $1 AND stream_id IS NOT NULL";
                    client.query(sql, &[&source]).await
                })
            })
            .await?;
        rows.iter()
            .map(|row| {
                let (stream_type, id): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
                Ok(StreamName::from_stored(stream_type, id))
            })
            .collect::<Result<_, Error>>()
            .map_err(unreadable(OPERATION))
    }

    fn parked_in(&self) -> String {
        format!("{}.import_parked", self.postgres.schema())
    }

    async fn count_parked(&self, source: &str) -> Result<u64, StoreError> {
        let source = source.to_owned();
        let count: i64 = self
            .postgres
            .run("count_parked_import", move |client| {
                Box::pin(async move {
                    let sql = "SELECT count(*) FROM import_parked WHERE source = $1";
                    client.query_one(sql, &[&source]).await?.try_get(0)
                })
            })
            .await?;
        Ok(count as u64)
    }

    async fn parked(
        &self,
        source: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<ParkedEntry>, StoreError> {
        const OPERATION: &str = "list_parked_import";
        let (name, limit) = (source.to_owned(), limit as i64);
        let rows = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move { client.query(PARKED, &[&name, &after, &limit]).await })
            })
            .await?;
        rows.iter()
            .map(|row| entry(source, row))
            .collect::<Result<_, Error>>()
            .map_err(unreadable(OPERATION))
    }

    async fn forget(&self, source: &str) -> Result<(), StoreError> {
        let source = source.to_owned();
        self.postgres
            .run("forget_import", move |client| {
                Box::pin(async move {
                    let transaction = client.transaction().await?;
                    for sql in [
                        "DELETE FROM import_checkpoints WHERE source = $1",
                        "DELETE FROM import_parked WHERE source = $1",
                    ] {
                        transaction.execute(sql, &[&source]).await?;
                    }
                    transaction.commit().await
                })
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_13_a_key_fits_its_index_and_stays_one_of_its_own() {
        assert_eq!(shortened("a/1".into(), MAX_KEY), "a/1");
        let long = |end: &str| shortened("ü".repeat(5_000) + end, MAX_KEY);
        assert!(long("1").len() <= MAX_KEY);
        assert_ne!(long("1"), long("2"));
        assert_eq!(long("1"), long("1"));
    }
}
