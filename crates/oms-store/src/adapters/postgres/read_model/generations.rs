//! The generations of the read model: builds one beside the other and swaps them.

use deadpool_postgres::{GenericClient, Object, Transaction};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::super::Work;
use super::super::marks::mark_of;
use super::sql::table;
use crate::ports::read_model::{Generation, GenerationState, Generations};
use oms_core::domain::ids::{PartitionId, Position};
use oms_core::log::identity::{LogId, Mark};
use oms_core::log::object::ObjectHash;
use oms_core::projection::changes::ParkedEvent;

/// Everything about the generations in one statement, hence one snapshot. `whole` says whether a
/// generation's tables exist: they may have been dropped.
const STATES: &str = "
    SELECT g.generation, g.state,
           extract(epoch FROM clock_timestamp() - g.begun)::float8 AS age,
           to_regclass('rm_' || g.generation || '_databases') IS NOT NULL
             AND to_regclass('rm_' || g.generation || '_classes') IS NOT NULL
             AND to_regclass('rm_' || g.generation || '_instances') IS NOT NULL AS whole,
           (SELECT count(*) FROM read_model_parked k WHERE k.generation = g.generation) AS parked,
           ARRAY(SELECT p.partition FROM read_model_positions p
                 WHERE p.generation = g.generation ORDER BY p.partition) AS partitions,
           ARRAY(SELECT p.next_offset FROM read_model_positions p
                 WHERE p.generation = g.generation ORDER BY p.partition) AS next,
           ARRAY(SELECT p.log_id FROM read_model_positions p
                 WHERE p.generation = g.generation ORDER BY p.partition) AS logs,
           ARRAY(SELECT p.anchored_at FROM read_model_positions p
                 WHERE p.generation = g.generation ORDER BY p.partition) AS anchored,
           ARRAY(SELECT p.sha256 FROM read_model_positions p
                 WHERE p.generation = g.generation ORDER BY p.partition) AS hashes
    FROM read_model_generations g";

/// Serialises creating, swapping and dropping generations.
const ONE_AT_A_TIME: &str = "LOCK TABLE read_model_generations IN SHARE ROW EXCLUSIVE MODE";

/// Creates a generation's tables.
const TABLES: &str = include_str!("generation.sql");

struct Found {
    live: Option<GenerationState>,
    building: Option<GenerationState>,
    /// Generations without tables or positions.
    broken: Vec<Generation>,
}

/// The generations; creates an empty live one if there is none.
pub(super) fn open(
    partitions: u16,
    log: Option<Uuid>,
) -> impl for<'c> FnOnce(&'c mut Object) -> Work<'c, Generations> + Send + 'static {
    move |client| {
        Box::pin(async move {
            let found = find(&*client, partitions).await?;
            if let Some(live) = found.live
                && found.broken.is_empty()
            {
                return Ok(Generations {
                    live,
                    building: found.building,
                });
            }
            let transaction = client.transaction().await?;
            transaction.batch_execute(ONE_AT_A_TIME).await?;
            let mut found = find(&transaction, partitions).await?;
            for broken in found.broken {
                tracing::warn!(
                    generation = broken.0,
                    "a copy of the read model is damaged; dropping it"
                );
                drop_generation(&transaction, broken).await?;
            }
            let live = match found.live.take() {
                Some(live) => live,
                None => {
                    let generation = make(&transaction, "live").await?;
                    let all: Vec<i32> = (0..i32::from(partitions)).collect();
                    begin_at_zero(&transaction, generation, &all, log).await?;
                    tracing::info!(generation = generation.0, "made an empty read model");
                    let start = Mark::start(log.map(LogId));
                    GenerationState {
                        generation,
                        next: vec![0; usize::from(partitions)],
                        anchors: vec![start.anchor; usize::from(partitions)],
                        parked: 0,
                        age_seconds: 0.0,
                    }
                }
            };
            transaction.commit().await?;
            Ok(Generations {
                live,
                building: found.building,
            })
        })
    }
}

async fn find(client: &impl GenericClient, partitions: u16) -> Result<Found, Error> {
    let mut found = Found {
        live: None,
        building: None,
        broken: Vec::new(),
    };
    for row in client.query(STATES, &[]).await? {
        let generation = Generation(row.try_get("generation")?);
        let listed: Vec<i32> = row.try_get("partitions")?;
        let next: Vec<i64> = row.try_get("next")?;
        let complete = listed.into_iter().eq(0..i32::from(partitions));
        if !row.try_get::<_, bool>("whole")? || !complete {
            found.broken.push(generation);
            continue;
        }
        let logs: Vec<Option<Uuid>> = row.try_get("logs")?;
        let anchored: Vec<Option<i64>> = row.try_get("anchored")?;
        let hashes: Vec<Option<&[u8]>> = row.try_get("hashes")?;
        let anchors = (next.iter().zip(logs).zip(anchored).zip(hashes))
            .map(|(((next, log), at), hash)| mark_of(*next, log, at, hash).anchor);
        let state = GenerationState {
            generation,
            anchors: anchors.collect(),
            next: next.into_iter().map(|n| n as u64).collect(),
            parked: row.try_get::<_, i64>("parked")? as u64,
            age_seconds: row.try_get("age")?,
        };
        match row.try_get("state")? {
            "live" => found.live = Some(state),
            _ => found.building = Some(state),
        }
    }
    Ok(found)
}

async fn make(transaction: &Transaction<'_>, state: &str) -> Result<Generation, Error> {
    let row = transaction
        .query_one(
            "INSERT INTO read_model_generations (state) VALUES ($1) RETURNING generation",
            &[&state],
        )
        .await?;
    let generation = Generation(row.try_get(0)?);
    let tables = TABLES.replace("{g}", &generation.0.to_string());
    transaction.batch_execute(&tables).await?;
    Ok(generation)
}

async fn begin_at_zero(
    transaction: &Transaction<'_>,
    generation: Generation,
    partitions: &[i32],
    log: Option<Uuid>,
) -> Result<(), Error> {
    transaction
        .execute(
            "INSERT INTO read_model_positions
                 (generation, partition, next_offset, log_id, anchored_at, sha256)
             SELECT $1, p, 0, $3, 0, $4 FROM unnest($2::int[]) p",
            &[&generation.0, &partitions, &log, &&ObjectHash::NONE.0[..]],
        )
        .await?;
    Ok(())
}

/// Drops a generation. Its tables are locked in the order of readers and writers, to avoid
/// deadlocks.
async fn drop_generation(
    transaction: &Transaction<'_>,
    generation: Generation,
) -> Result<(), Error> {
    let tables = ["instances", "classes", "databases"].map(|name| table(generation, name));
    transaction
        .batch_execute(&format!("DROP TABLE IF EXISTS {}", tables.join(", ")))
        .await?;
    transaction
        .execute(
            "DELETE FROM read_model_generations WHERE generation = $1",
            &[&generation.0],
        )
        .await?;
    Ok(())
}

/// Starts a rebuild, or returns the one under way. Its partitions are those of the live generation.
pub(super) fn begin_rebuild(
    log: Option<Uuid>,
) -> impl for<'c> FnOnce(&'c mut Object) -> Work<'c, Generation> + Send + 'static {
    move |client| {
        Box::pin(async move {
            let transaction = client.transaction().await?;
            transaction.batch_execute(ONE_AT_A_TIME).await?;
            let building = transaction
                .query_opt(
                    "SELECT generation FROM read_model_generations WHERE state = 'building'",
                    &[],
                )
                .await?;
            if let Some(row) = building {
                return Ok(Generation(row.try_get(0)?));
            }
            let partitions: Vec<i32> = transaction
                .query(
                    "SELECT p.partition FROM read_model_positions p
                     JOIN read_model_generations g USING (generation)
                     WHERE g.state = 'live' ORDER BY 1",
                    &[],
                )
                .await?
                .iter()
                .map(|row| row.try_get(0))
                .collect::<Result<_, Error>>()?;
            let generation = make(&transaction, "building").await?;
            begin_at_zero(&transaction, generation, &partitions, log).await?;
            transaction.commit().await?;
            tracing::info!(generation = generation.0, "began to rebuild the read model");
            Ok(generation)
        })
    }
}

/// Drops a generation of any kind.
pub(super) fn discard(
    generation: Generation,
) -> impl for<'c> FnOnce(&'c mut Object) -> Work<'c, ()> + Send + 'static {
    move |client| {
        Box::pin(async move {
            let transaction = client.transaction().await?;
            transaction.batch_execute(ONE_AT_A_TIME).await?;
            drop_generation(&transaction, generation).await?;
            transaction.commit().await
        })
    }
}

const MARK: &str = "
UPDATE read_model_positions SET log_id = $4, anchored_at = next_offset, sha256 = $5
WHERE generation = $1 AND partition = $2 AND next_offset = $3
  AND log_id IS NOT DISTINCT FROM $6 AND sha256 IS NOT DISTINCT FROM $7";

/// Records the commit at which a generation stands in a partition.
pub(super) fn mark(
    (generation, partition): (Generation, PartitionId),
    from: Mark,
    hash: ObjectHash,
    log: Option<Uuid>,
) -> impl for<'c> FnOnce(&'c mut Object) -> Work<'c, ()> + Send + 'static {
    move |client| {
        Box::pin(async move {
            let was_log = from.anchor.and_then(|a| a.log).map(|id| id.0);
            let was_hash = from.anchor.map(|a| a.hash.0.to_vec());
            let (number, next) = (i32::from(partition.0), from.next as i64);
            client
                .execute(
                    MARK,
                    &[
                        &generation.0,
                        &number,
                        &next,
                        &log,
                        &&hash.0[..],
                        &was_log,
                        &was_hash,
                    ],
                )
                .await
                .map(|_| ())
        })
    }
}

/// Replaces the live generation by `building`: if that has caught up, or in any case.
pub(super) fn swap(
    building: Generation,
    in_any_case: bool,
) -> impl for<'c> FnOnce(&'c mut Object) -> Work<'c, bool> + Send + 'static {
    move |client| {
        Box::pin(async move {
            let transaction = client.transaction().await?;
            transaction.batch_execute(ONE_AT_A_TIME).await?;
            let Some(row) = transaction
                .query_opt(
                    "SELECT l.generation FROM read_model_generations b, read_model_generations l
                     WHERE b.generation = $1 AND b.state = 'building' AND l.state = 'live'",
                    &[&building.0],
                )
                .await?
            else {
                return Ok(false);
            };
            let live = Generation(row.try_get(0)?);
            // From here on no projector moves the live generation.
            transaction
                .query(
                    "SELECT FROM read_model_positions WHERE generation = $1
                     ORDER BY partition FOR UPDATE",
                    &[&live.0],
                )
                .await?;
            let behind: bool = transaction
                .query_one(
                    "SELECT EXISTS (
                         SELECT FROM read_model_positions l
                         LEFT JOIN read_model_positions b
                           ON b.generation = $2 AND b.partition = l.partition
                         WHERE l.generation = $1
                           AND coalesce(b.next_offset, -1) < l.next_offset)",
                    &[&live.0, &building.0],
                )
                .await?
                .try_get(0)?;
            if behind && !in_any_case {
                return Ok(false);
            }
            drop_generation(&transaction, live).await?;
            transaction
                .execute(
                    "UPDATE read_model_generations SET state = 'live' WHERE generation = $1",
                    &[&building.0],
                )
                .await?;
            transaction.commit().await?;
            tracing::info!(
                generation = building.0,
                replaced = live.0,
                "swapped the rebuilt read model in"
            );
            Ok(true)
        })
    }
}

/// Parked events of the live generation.
pub(super) fn parked(
    limit: u32,
) -> impl for<'c> FnOnce(&'c mut Object) -> Work<'c, Vec<ParkedEvent>> + Send + 'static {
    move |client| {
        Box::pin(async move {
            let rows = client
                .query(
                    "SELECT k.partition, k.commit_offset, k.idx, k.stream, k.event_type, k.reason
                     FROM read_model_parked k JOIN read_model_generations g USING (generation)
                     WHERE g.state = 'live' ORDER BY 1, 2, 3 LIMIT $1",
                    &[&i64::from(limit)],
                )
                .await?;
            rows.iter().map(parked_event).collect()
        })
    }
}

fn parked_event(row: &Row) -> Result<ParkedEvent, Error> {
    Ok(ParkedEvent {
        position: Position {
            partition: PartitionId(row.try_get::<_, i32>(0)? as u16),
            offset: row.try_get::<_, i64>(1)? as u64,
            index: row.try_get::<_, i32>(2)? as u32,
        },
        stream: row.try_get(3)?,
        event_type: row.try_get(4)?,
        reason: row.try_get(5)?,
    })
}
