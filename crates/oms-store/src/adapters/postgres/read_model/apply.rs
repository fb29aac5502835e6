//! Applies a batch in one transaction. Positions first: the transaction that holds their rows is
//! the only one that moves the generation, and one that finds other positions does nothing.

use std::collections::BTreeMap;
use std::time::SystemTime;

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::super::Work;
use super::super::marks::mark_at;
use super::is_gone;
use super::sql::{system_time, table};
use crate::ports::read_model::{Applied, Batch, Generation, Move};
use oms_core::projection::changes::{ParkedEvent, State};

/// The columns of every row besides its key.
const STATE_COLUMNS: &str = "version, incarnation, parent, data, created_at, updated_at";

/// No fsync: after a crash of the server the last batches are lost together with their offsets and
/// are applied again from the log.
const UNHURRIED: &str = "SET LOCAL synchronous_commit = off";

/// Takes a batch in.
pub(super) fn apply(
    batch: Batch,
    log: Option<Uuid>,
) -> impl for<'c> FnOnce(&'c mut Object) -> Work<'c, Applied> + Send + 'static {
    move |client| {
        Box::pin(async move {
            let transaction = client.transaction().await?;
            transaction.batch_execute(UNHURRIED).await?;
            if !begins_here(&transaction, &batch, log).await? {
                return Ok(Applied::Moved);
            }
            match write(&transaction, &batch, log).await {
                Ok(()) => {}
                // The generation was swapped and dropped.
                Err(e) if is_gone(&e) => return Ok(Applied::Moved),
                Err(e) => match unfit(&e) {
                    Some(reason) => return Ok(Applied::Unfit(reason)),
                    None => return Err(e),
                },
            }
            transaction.commit().await?;
            Ok(Applied::Yes)
        })
    }
}

/// PostgreSQL's message, if it cannot store a value: jsonb has no U+0000 and no unbounded numbers,
/// and everything has a maximum size.
fn unfit(error: &Error) -> Option<String> {
    let error = error.as_db_error()?;
    let code = error.code().code();
    (code.starts_with("22") || code == "54000").then(|| format!("{} ({code})", error.message()))
}

async fn begins_here(
    transaction: &Transaction<'_>,
    batch: &Batch,
    log: Option<Uuid>,
) -> Result<bool, Error> {
    let moves = &batch.moves;
    let partitions: Vec<i32> = moves.iter().map(|m| i32::from(m.partition.0)).collect();
    let statement = transaction
        .prepare_cached(
            "SELECT partition, next_offset, log_id, anchored_at, sha256 FROM read_model_positions
             WHERE generation = $1 AND partition = ANY($2) ORDER BY partition FOR UPDATE",
        )
        .await?;
    let rows = transaction
        .query(&statement, &[&batch.generation.0, &partitions])
        .await?;
    let mut found = BTreeMap::new();
    for row in rows {
        let log_id: Option<Uuid> = row.try_get(2)?;
        let mark = mark_at(&row, 1)?;
        found.insert(row.try_get::<_, i32>(0)?, (mark.next, mark.hash(), log_id));
    }
    Ok(moves
        .iter()
        .all(|m| found.get(&i32::from(m.partition.0)) == Some(&(m.from, m.before, log))))
}

async fn write(
    transaction: &Transaction<'_>,
    batch: &Batch,
    log: Option<Uuid>,
) -> Result<(), Error> {
    let (generation, changes) = (batch.generation, &batch.changes);
    if !changes.instances.is_empty() {
        let states: Vec<&State> = changes.instances.values().collect();
        let keys = changes.instances.keys();
        let (mut dbs, mut classes, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for (db, class, id) in keys {
            dbs.push(db.as_str());
            classes.push(class.as_str());
            ids.push(id.as_str());
        }
        let keys: [(&str, &(dyn ToSql + Sync)); 3] =
            [("db", &dbs), ("class", &classes), ("id", &ids)];
        upsert(
            transaction,
            generation,
            "instances",
            "jsonb",
            &keys,
            &states,
        )
        .await?;
    }
    if !changes.classes.is_empty() {
        let states: Vec<&State> = changes.classes.values().collect();
        let (dbs, ids): (Vec<&str>, Vec<&str>) = changes
            .classes
            .keys()
            .map(|(db, id)| (db.as_str(), id.as_str()))
            .unzip();
        let keys: [(&str, &(dyn ToSql + Sync)); 2] = [("db", &dbs), ("id", &ids)];
        upsert(transaction, generation, "classes", "json", &keys, &states).await?;
    }
    if !changes.databases.is_empty() {
        let states: Vec<&State> = changes.databases.values().collect();
        let names: Vec<&str> = changes.databases.keys().map(String::as_str).collect();
        let keys: [(&str, &(dyn ToSql + Sync)); 1] = [("name", &names)];
        upsert(transaction, generation, "databases", "json", &keys, &states).await?;
    }
    park(transaction, generation, &batch.parked).await?;
    advance(transaction, generation, &batch.moves, log).await
}

/// Writes states unless newer ones are stored. Fields that a state does not set stay unchanged.
async fn upsert(
    transaction: &Transaction<'_>,
    generation: Generation,
    name: &'static str,
    data_type: &'static str,
    keys: &[(&str, &(dyn ToSql + Sync))],
    states: &[&State],
) -> Result<(), Error> {
    let key_columns: Vec<&str> = keys.iter().map(|(column, _)| *column).collect();
    let key_columns = key_columns.join(", ");
    // Databases have no parent.
    let has_parent = name != "databases";
    let without_parent = STATE_COLUMNS.replace("parent, ", "");
    let columns = if has_parent {
        STATE_COLUMNS
    } else {
        &without_parent
    };
    let n = keys.len();
    let key_arrays: Vec<String> = (1..=n).map(|i| format!("${i}::text[]")).collect();
    let table = table(generation, name);
    let statement = format!(
        "INSERT INTO {table} AS t ({key_columns}, {columns})
         SELECT {key_columns}, {selected}
         FROM unnest({key_arrays}, ${v}::int8[], ${i}::int8[], ${p}::int8[], ${d}::text[],
                     ${c}::timestamptz[], ${u}::timestamptz[])
           AS new ({key_columns}, {STATE_COLUMNS})
         ON CONFLICT ({key_columns}) DO UPDATE SET
             version = excluded.version,
             incarnation = coalesce(excluded.incarnation, t.incarnation),
             {parent}
             data = excluded.data,
             created_at = coalesce(excluded.created_at, t.created_at),
             updated_at = excluded.updated_at
         WHERE excluded.version > t.version",
        selected = columns.replace("data", &format!("data::{data_type}")),
        key_arrays = key_arrays.join(", "),
        v = n + 1,
        i = n + 2,
        p = n + 3,
        d = n + 4,
        c = n + 5,
        u = n + 6,
        parent = if has_parent {
            "parent = coalesce(excluded.parent, t.parent),"
        } else {
            ""
        },
    );
    let versions: Vec<i64> = states.iter().map(|s| s.version.0 as i64).collect();
    let incarnations: Vec<Option<i64>> = states
        .iter()
        .map(|s| s.incarnation.map(|v| v.0 as i64))
        .collect();
    let parents: Vec<Option<i64>> = states
        .iter()
        .map(|s| s.parent.map(|v| v.0 as i64))
        .collect();
    let data: Vec<Option<&str>> = states.iter().map(|s| s.data.as_deref()).collect();
    let created: Vec<Option<SystemTime>> = states
        .iter()
        .map(|s| s.created_at.map(system_time))
        .collect();
    let updated: Vec<SystemTime> = states.iter().map(|s| system_time(s.updated_at)).collect();
    let mut params: Vec<&(dyn ToSql + Sync)> = keys.iter().map(|(_, values)| *values).collect();
    params.extend([
        &versions as &(dyn ToSql + Sync),
        &incarnations,
        &parents,
        &data,
        &created,
        &updated,
    ]);
    let statement = transaction.prepare_cached(&statement).await?;
    transaction.execute(&statement, &params).await?;
    Ok(())
}

async fn park(
    transaction: &Transaction<'_>,
    generation: Generation,
    parked: &[ParkedEvent],
) -> Result<(), Error> {
    for event in parked {
        transaction
            .execute(
                "INSERT INTO read_model_parked
                     (generation, partition, commit_offset, idx, stream, event_type, reason)
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                &[
                    &generation.0,
                    &i32::from(event.position.partition.0),
                    &(event.position.offset as i64),
                    &(event.position.index as i32),
                    &clean(&event.stream),
                    &clean(&event.event_type),
                    &clean(&event.reason),
                ],
            )
            .await?;
    }
    Ok(())
}

/// Removes U+0000, which PostgreSQL's text cannot store: what made an event unfit may also be in
/// its description.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

async fn advance(
    transaction: &Transaction<'_>,
    generation: Generation,
    moves: &[Move],
    log: Option<Uuid>,
) -> Result<(), Error> {
    let partitions: Vec<i32> = moves.iter().map(|m| i32::from(m.partition.0)).collect();
    let to: Vec<i64> = moves.iter().map(|m| m.to as i64).collect();
    let after: Vec<&[u8]> = moves.iter().map(|m| &m.after.0[..]).collect();
    let statement = transaction
        .prepare_cached(
            "UPDATE read_model_positions p
             SET next_offset = m.next, log_id = $4, anchored_at = m.next, sha256 = m.after
             FROM unnest($2::int[], $3::int8[], $5::bytea[]) AS m (partition, next, after)
             WHERE p.generation = $1 AND p.partition = m.partition",
        )
        .await?;
    transaction
        .execute(&statement, &[&generation.0, &partitions, &to, &log, &after])
        .await?;
    Ok(())
}
