//! PostgreSQL as a store to be verified and repaired. Reads the tables of the log as they are,
//! without assuming that they are valid.

mod retired;
mod sql;

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::Transaction;
use tokio_postgres::{Error, Row};

use self::sql::{
    COMMIT, COMMIT_HASH, ENVELOPES, FOREIGN, KEEP_COMMIT, KEEP_EVENTS, RIVALS, STRAY_HASH, STRAYS,
    TAKE_COMMIT, TAKE_STRAY,
};
use super::Postgres;
use super::commits::copy::{self, Inserted};
use super::errors::invalid;
use super::rows::unreadable;
use crate::error::StoreError;
use crate::ports::log_repair::{LogRepair, MAX_SURVEYED, Mended, Rivals, Stray, Survey};
use oms_core::domain::event::Envelope;
use oms_core::domain::ids::{Offset, PartitionId, Version};
use oms_core::log::lead::Lead;
use oms_core::log::object::{CommitObject, ObjectHash};
use oms_core::proof::divergence::StrayName;

/// Offsets inspected by one statement: with a few hundred events each it stays well below the
/// statement timeout.
const STRETCH: Offset = 500;

/// Inspection and repair of the log in PostgreSQL.
#[derive(Clone)]
pub struct PostgresLogRepair {
    postgres: Postgres,
}

impl PostgresLogRepair {
    /// The log in this database.
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }

    async fn reach(&self, partition: PartitionId) -> Result<Offset, StoreError> {
        let next: i64 = self
            .postgres
            .run("log_reach", move |client| {
                Box::pin(async move {
                    let sql = "SELECT coalesce(max(commit_offset) + 1, 0) FROM commits
                               WHERE partition = $1";
                    let row = client.query_one(sql, &[&i32::from(partition.0)]).await?;
                    row.try_get(0)
                })
            })
            .await?;
        Ok(next.max(0) as Offset)
    }

    async fn offsets(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Result<BTreeSet<Offset>, StoreError> {
        const OPERATION: &str = "log_offsets";
        let rows = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let sql = "SELECT commit_offset FROM commits
                               WHERE partition = $1 AND commit_offset >= $2 AND commit_offset < $3";
                    let statement = client.prepare_cached(sql).await?;
                    let partition = i32::from(partition.0);
                    client
                        .query(&statement, &[&partition, &(from as i64), &(to as i64)])
                        .await
                })
            })
            .await?;
        rows.iter()
            .map(|row| Ok(row.try_get::<_, i64>(0)? as Offset))
            .collect::<Result<_, Error>>()
            .map_err(unreadable(OPERATION))
    }

    async fn strays(
        &self,
        partition: PartitionId,
        from: i64,
        to: i64,
    ) -> Result<Vec<Stray>, StoreError> {
        const OPERATION: &str = "log_strays";
        let rows = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let statement = client.prepare_cached(STRAYS).await?;
                    let (partition, limit) = (i32::from(partition.0), MAX_SURVEYED as i64 + 1);
                    client
                        .query(&statement, &[&partition, &from, &to, &limit])
                        .await
                })
            })
            .await?;
        rows.iter()
            .map(|row| stray(partition, row))
            .collect::<Result<_, _>>()
            .map_err(unreadable(OPERATION))
    }
}

fn stray(partition: PartitionId, row: &Row) -> Result<Stray, Error> {
    let (offset, index): (i64, i32) = (row.try_get(0)?, row.try_get(1)?);
    let (stream_type, stream_id): (&str, &str) = (row.try_get(2)?, row.try_get(3)?);
    let version: i64 = row.try_get(4)?;
    Ok(Stray {
        name: StrayName::Row {
            partition: i32::from(partition.0),
            offset,
            index,
        },
        why: row.try_get(7)?,
        offset: offset.max(0) as Offset,
        event: Some((
            format!("{stream_type}/{stream_id}"),
            Version(version.max(0) as u64),
        )),
        digest: row.try_get(5)?,
        within_object: row.try_get(6)?,
    })
}

#[async_trait]
impl LogRepair for PostgresLogRepair {
    fn place(&self) -> Lead {
        Lead::Postgres
    }

    async fn survey(&self, partition: PartitionId, from: Offset) -> Result<Survey, StoreError> {
        let reach = self.reach(partition).await?;
        let mut survey = Survey {
            reach: reach.max(from),
            ..Survey::default()
        };
        // Rows with an offset below 0.
        let mut strays = match from {
            0 => self.strays(partition, i64::MIN, 0).await?,
            _ => Vec::new(),
        };
        let mut at = from;
        while at < reach {
            let to = (at + STRETCH).min(reach);
            let there = self.offsets(partition, at, to).await?;
            let mut next = at;
            for offset in there.iter().copied().chain(std::iter::once(to)) {
                if offset > next {
                    survey.gap(next..offset);
                }
                next = offset + 1;
            }
            strays.extend(self.strays(partition, at as i64, to as i64).await?);
            at = to;
            if strays.len() > MAX_SURVEYED {
                break;
            }
        }
        // Rows with an offset beyond the last commit. The log may have grown meanwhile: such rows
        // have their commits.
        let beyond = at.max(reach) as i64;
        strays.extend(self.strays(partition, beyond, i64::MAX).await?);
        for stray in strays {
            survey.stray(stray);
        }
        Ok(survey)
    }

    async fn foreign(&self, partitions: u16) -> Result<Vec<Stray>, StoreError> {
        const OPERATION: &str = "log_foreign";
        let rows = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let limit = MAX_SURVEYED as i64;
                    client
                        .query(FOREIGN, &[&i32::from(partitions), &limit])
                        .await
                })
            })
            .await?;
        rows.iter()
            .map(|row| {
                let (partition, offset): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
                let name = match row.try_get::<_, Option<i32>>(2)? {
                    Some(index) => StrayName::Row {
                        partition,
                        offset,
                        index,
                    },
                    None => StrayName::Commit { partition, offset },
                };
                Ok(Stray {
                    name,
                    why: "its partition does not exist".into(),
                    offset: offset.max(0) as Offset,
                    event: None,
                    digest: None,
                    within_object: false,
                })
            })
            .collect::<Result<_, Error>>()
            .map_err(unreadable(OPERATION))
    }

    async fn raw(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Bytes>, StoreError> {
        self.postgres
            .run("log_raw", move |client| {
                Box::pin(async move {
                    let transaction = client.transaction().await?;
                    raw(&transaction, partition, offset).await
                })
            })
            .await
    }

    async fn replace(
        &self,
        object: &CommitObject,
        wrong: Option<ObjectHash>,
        rivals: Rivals,
    ) -> Result<Mended, StoreError> {
        const OPERATION: &str = "log_replace";
        let names = Names::of(object).map_err(|e| invalid(OPERATION, e))?;
        let object = object.clone();
        self.postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let (partition, offset) = (object.header.partition, object.header.offset);
                    let transaction = client.transaction().await?;
                    let found = raw(&transaction, partition, offset).await?;
                    // An object that is readable may still have wrong columns: then `wrong` is its
                    // own hash, and it is inserted again all the same.
                    if found.as_deref().map(ObjectHash::of) != wrong {
                        let right = found.is_some_and(|bytes| bytes == object.bytes);
                        return Ok(Ok(if right { Mended::Yes } else { Mended::Changed }));
                    }
                    take_out(&transaction, partition, offset, "another object is right").await?;
                    if rivals == Rivals::TakeAway {
                        take_rivals_out(&transaction, &object, &names).await?;
                    }
                    let hash = object.hash();
                    let one = std::iter::once((&object, hash));
                    match copy::insert(&transaction, one, OPERATION).await? {
                        Ok(Inserted::Yes) => {
                            transaction.commit().await?;
                            Ok(Ok(Mended::Yes))
                        }
                        Ok(Inserted::Taken) => Ok(Ok(Mended::Changed)),
                        Err(error) => Ok(Err(error)),
                    }
                })
            })
            .await?
    }

    async fn remove(
        &self,
        partition: PartitionId,
        offset: Offset,
        wrong: ObjectHash,
    ) -> Result<Mended, StoreError> {
        self.postgres
            .run("log_remove", move |client| {
                Box::pin(async move {
                    let transaction = client.transaction().await?;
                    let Some(found) = raw(&transaction, partition, offset).await? else {
                        return Ok(Mended::Yes);
                    };
                    if ObjectHash::of(&found) != wrong {
                        return Ok(Mended::Changed);
                    }
                    take_out(&transaction, partition, offset, "beyond the end of the log").await?;
                    transaction.commit().await?;
                    Ok(Mended::Yes)
                })
            })
            .await
    }

    async fn stray_hash(&self, stray: &StrayName) -> Result<Option<ObjectHash>, StoreError> {
        let stray = stray.clone();
        self.postgres
            .run("log_stray_hash", move |client| {
                Box::pin(async move {
                    let row = match stray {
                        StrayName::Key(_) => return Ok(None),
                        StrayName::Row {
                            partition,
                            offset,
                            index,
                        } => {
                            client
                                .query_opt(STRAY_HASH, &[&partition, &offset, &index])
                                .await?
                        }
                        StrayName::Commit { partition, offset } => {
                            client
                                .query_opt(COMMIT_HASH, &[&partition, &offset])
                                .await?
                        }
                    };
                    let hash = row.map(|row| row.try_get::<_, Vec<u8>>(0)).transpose()?;
                    Ok(hash.and_then(|hash| hash.try_into().ok()).map(ObjectHash))
                })
            })
            .await
    }

    async fn quarantine(&self, stray: &StrayName, seen: ObjectHash) -> Result<Mended, StoreError> {
        let stray = stray.clone();
        self.postgres
            .run("log_quarantine", move |client| {
                Box::pin(async move {
                    let seen = &seen.0[..];
                    let taken = match stray {
                        StrayName::Key(_) => return Ok(Mended::Changed),
                        StrayName::Row {
                            partition,
                            offset,
                            index,
                        } => {
                            client
                                .execute(TAKE_STRAY, &[&partition, &offset, &index, &seen])
                                .await?
                        }
                        StrayName::Commit { partition, offset } => {
                            client
                                .execute(TAKE_COMMIT, &[&partition, &offset, &seen])
                                .await?
                        }
                    };
                    Ok(match taken {
                        0 => Mended::Changed,
                        _ => Mended::Yes,
                    })
                })
            })
            .await
    }
}

/// The bytes at an offset, concatenated as if they were an object. Locks the commit's row.
async fn raw(
    transaction: &Transaction<'_>,
    partition: PartitionId,
    offset: Offset,
) -> Result<Option<Bytes>, Error> {
    let (partition, offset) = (i32::from(partition.0), offset as i64);
    let sql = format!("{COMMIT} FOR UPDATE");
    let Some(commit) = transaction.query_opt(&sql, &[&partition, &offset]).await? else {
        return Ok(None);
    };
    let events = transaction.query(ENVELOPES, &[&partition, &offset]).await?;
    let (header, control): (&str, Option<&str>) = (commit.try_get(0)?, commit.try_get(1)?);
    let mut bytes = header.as_bytes().to_vec();
    bytes.push(b'\n');
    for line in control
        .into_iter()
        .map(Ok)
        .chain(events.iter().map(|row| row.try_get(0)))
    {
        bytes.extend_from_slice(str::as_bytes(line?));
        bytes.push(b'\n');
    }
    Ok(Some(bytes.into()))
}

async fn take_out(
    transaction: &Transaction<'_>,
    partition: PartitionId,
    offset: Offset,
    why: &str,
) -> Result<(), Error> {
    let (partition, offset) = (i32::from(partition.0), offset as i64);
    for sql in [KEEP_EVENTS, KEEP_COMMIT] {
        transaction
            .execute(sql, &[&partition, &offset, &why])
            .await?;
    }
    for table in ["events", "commits"] {
        let sql = format!("DELETE FROM {table} WHERE partition = $1 AND commit_offset = $2");
        transaction.execute(&sql, &[&partition, &offset]).await?;
    }
    Ok(())
}

/// Names in messages about an object's events.
#[derive(Default)]
struct Names {
    stream_type: Vec<String>,
    stream_id: Vec<String>,
    version: Vec<i64>,
}

impl Names {
    fn of(object: &CommitObject) -> Result<Self, String> {
        let mut names = Self::default();
        for i in 0..object.event_count() {
            let line = object.line(i);
            let event = Envelope::parse(&line).map_err(|e| format!("event {i}: {e}"))?;
            names.stream_type.push(event.stream_type.into_owned());
            names.stream_id.push(event.stream_id.into_owned());
            names.version.push(event.version.0 as i64);
        }
        Ok(names)
    }
}

async fn take_rivals_out(
    transaction: &Transaction<'_>,
    object: &CommitObject,
    names: &Names,
) -> Result<(), Error> {
    let (partition, offset) = (
        i32::from(object.header.partition.0),
        object.header.offset as i64,
    );
    transaction
        .execute(
            RIVALS,
            &[
                &partition,
                &offset,
                &names.stream_type,
                &names.stream_id,
                &names.version,
            ],
        )
        .await?;
    Ok(())
}
