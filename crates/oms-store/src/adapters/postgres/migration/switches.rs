//! Switches, each stored as a document. At most one is under way, which a unique index ensures;
//! each record by its driver is a heartbeat.

use std::time::{Duration, SystemTime};

use deadpool_postgres::Object;
use jiff::Timestamp;
use tokio_postgres::types::Json;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::super::errors::STORE;
use super::super::rows::system_time;
use crate::error::{StoreError, StoreErrorKind};
use oms_core::migration::switch::{Switch, SwitchState};

/// Ends a switch whose driver is gone, when another one supersedes it.
const SUPERSEDE: &str = "
UPDATE migration_switches
SET ended = $1, state = $2,
    document = document || jsonb_build_object('ended', $3::text, 'state', $2::text,
        'error', 'the process that drove it stopped, and another switch was ordered')
WHERE ended IS NULL AND id <> $5 AND heard < now() - $4::float8 * interval '1 second'";

const BEGIN: &str = "
INSERT INTO migration_switches (id, begun, ended, state, driver, document)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

const BEGUN: &str = "
SELECT EXISTS (SELECT FROM migration_switches WHERE id = $1 AND driver = $2)";

/// Repeating a record whose answer was lost is harmless.
const RECORD: &str = "
UPDATE migration_switches SET ended = $2, state = $3, document = $4, heard = now()
WHERE id = $1 AND driver = $5 AND (ended IS NULL OR document = $4)";

/// Of two concurrent adoptions the second waits for the first and then finds a recent heartbeat.
const ADOPT: &str = "
UPDATE migration_switches SET driver = $1, heard = now()
WHERE ended IS NULL AND heard < now() - $2::float8 * interval '1 second'
RETURNING document";

const PAGE: &str = "
SELECT document FROM migration_switches
WHERE begun < coalesce($2::timestamptz, 'infinity')
ORDER BY begun DESC, id DESC LIMIT $1";

/// A switch as stored.
pub(super) struct Document {
    id: Uuid,
    begun: SystemTime,
    ended: Option<SystemTime>,
    /// `begun` as formatted in a document.
    begun_text: String,
    state: &'static str,
    json: serde_json::Value,
}

impl Document {
    pub fn of(switch: &Switch) -> Result<Self, StoreError> {
        let json = serde_json::to_value(switch).map_err(|e| {
            StoreError::determinate(
                StoreErrorKind::Invalid,
                STORE,
                "switch",
                format!("cannot be written: {e}"),
            )
        })?;
        Ok(Self {
            id: switch.id,
            begun: system_time(switch.begun),
            ended: switch.ended.map(system_time),
            begun_text: switch.begun.to_string(),
            state: switch.state.as_str(),
            json,
        })
    }
}

pub(super) async fn begin(
    client: &mut Object,
    switch: &Document,
    driver: &str,
    patience: Duration,
) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    if switch.ended.is_none() {
        transaction
            .execute(
                SUPERSEDE,
                &[
                    &switch.begun,
                    &SwitchState::Failed.as_str(),
                    &switch.begun_text,
                    &patience.as_secs_f64(),
                    &switch.id,
                ],
            )
            .await?;
    }
    let begun = transaction
        .execute(
            BEGIN,
            &[
                &switch.id,
                &switch.begun,
                &switch.ended,
                &switch.state,
                &driver,
                &Json(&switch.json),
            ],
        )
        .await?;
    if begun > 0 {
        transaction.commit().await?;
        return Ok(true);
    }
    transaction.rollback().await?;
    // It may have been this very one, with its answer lost.
    client
        .query_one(BEGUN, &[&switch.id, &driver])
        .await?
        .try_get(0)
}

pub(super) async fn record(
    client: &mut Object,
    switch: &Document,
    driver: &str,
) -> Result<bool, Error> {
    let updated = client
        .execute(
            RECORD,
            &[
                &switch.id,
                &switch.ended,
                &switch.state,
                &Json(&switch.json),
                &driver,
            ],
        )
        .await?;
    Ok(updated > 0)
}

pub(super) async fn adopt(
    client: &mut Object,
    driver: &str,
    patience: Duration,
) -> Result<Result<Option<Switch>, StoreError>, Error> {
    let row = client
        .query_opt(ADOPT, &[&driver, &patience.as_secs_f64()])
        .await?;
    Ok(row.map(|row| decode(&row)).transpose())
}

pub(super) async fn by_id(
    client: &mut Object,
    id: Uuid,
) -> Result<Result<Option<Switch>, StoreError>, Error> {
    let sql = "SELECT document FROM migration_switches WHERE id = $1";
    let row = client.query_opt(sql, &[&id]).await?;
    Ok(row.map(|row| decode(&row)).transpose())
}

pub(super) async fn current(
    client: &mut Object,
) -> Result<Result<Option<Switch>, StoreError>, Error> {
    let sql = "SELECT document FROM migration_switches WHERE ended IS NULL";
    let row = client.query_opt(sql, &[]).await?;
    Ok(row.map(|row| decode(&row)).transpose())
}

pub(super) async fn page(
    client: &mut Object,
    limit: usize,
    before: Option<Timestamp>,
) -> Result<Result<Vec<Switch>, StoreError>, Error> {
    let rows = client
        .query(PAGE, &[&(limit as i64), &before.map(system_time)])
        .await?;
    Ok(rows.iter().map(decode).collect())
}

fn decode(row: &Row) -> Result<Switch, StoreError> {
    let document: Result<Json<Switch>, Error> = row.try_get(0);
    document
        .map(|json| json.0)
        .map_err(|e| StoreError::corrupt(STORE, "switch", e.to_string()))
}
