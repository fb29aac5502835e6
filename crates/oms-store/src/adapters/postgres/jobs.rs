//! The jobs of the migration in PostgreSQL.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde_json::Value;
use tokio_postgres::types::Json;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::Postgres;
use super::errors::STORE;
use super::rows::{timestamp, unreadable};
use crate::error::{StoreError, StoreErrorKind};
use crate::ports::job_table::{JobEnd, JobTable};
use oms_core::migration::job::{Job, JobKind, JobProgress, JobState};

const COLUMNS: &str = "id, kind, state, parameters, started_by, checkpoint, progress, report, \
     error, node, heartbeat, begun, ended";

const BEAT: &str = "
UPDATE migration_jobs SET heartbeat = now(), progress = $3, checkpoint = coalesce($4, checkpoint)
WHERE id = $1 AND node = $2 AND state IN ('running', 'pausing')
RETURNING state";

const END: &str = "
UPDATE migration_jobs SET state = $3, progress = $4, checkpoint = coalesce($5, checkpoint),
    report = $6, error = $7, heartbeat = now(),
    ended = CASE WHEN $8 THEN now() END
WHERE id = $1 AND node = $2 AND state IN ('running', 'pausing')";

const CHANGE: &str = "
UPDATE migration_jobs SET state = $3, node = coalesce($4, node),
    heartbeat = CASE WHEN $4 IS NULL THEN heartbeat ELSE now() END,
    ended = CASE WHEN $5 THEN now() END
WHERE id = $1 AND state = ANY($2)";

/// Sets the heartbeat so far back that the job is taken over at once.
const RELEASE: &str = "
UPDATE migration_jobs SET heartbeat = now() - interval '1 day'
WHERE node = $1 AND state IN ('running', 'pausing')";

/// One at a time: the caller comes again.
const ADOPT: &str = "
UPDATE migration_jobs SET node = $1, heartbeat = now()
WHERE id = (
    SELECT id FROM migration_jobs
    WHERE state IN ('running', 'pausing') AND heartbeat < now() - $2::float8 * interval '1 second'
    ORDER BY begun LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING ";

/// The table of jobs in PostgreSQL.
#[derive(Clone)]
pub struct PostgresJobs {
    postgres: Postgres,
}

impl PostgresJobs {
    /// The jobs in this database.
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }

    async fn one(
        &self,
        operation: &'static str,
        condition: &'static str,
        kind: Option<JobKind>,
        id: Option<Uuid>,
        state: Option<JobState>,
    ) -> Result<Option<Job>, StoreError> {
        let row = self
            .postgres
            .run(operation, move |client| {
                Box::pin(async move {
                    let sql = format!("SELECT {COLUMNS} FROM migration_jobs WHERE {condition}");
                    let kind = kind.map(JobKind::as_str);
                    let state = state.map(JobState::as_str);
                    match id {
                        Some(id) => client.query_opt(&sql, &[&id]).await,
                        None => client.query_opt(&sql, &[&kind, &state]).await,
                    }
                })
            })
            .await?;
        row.map(|row| decode(&row, operation)).transpose()
    }
}

#[async_trait]
impl JobTable for PostgresJobs {
    async fn begin(&self, job: &Job) -> Result<bool, StoreError> {
        let job = job.clone();
        let begun = self
            .postgres
            .run("job_begin", move |client| {
                Box::pin(async move {
                    client
                        .execute(
                            "INSERT INTO migration_jobs
                                 (id, kind, state, parameters, started_by, progress, node)
                             VALUES ($1, $2, $3, $4, $5, $6, $7)
                             ON CONFLICT DO NOTHING",
                            &[
                                &job.id,
                                &job.kind.as_str(),
                                &job.state.as_str(),
                                &Json(&job.parameters),
                                &job.by,
                                &Json(&job.progress),
                                &job.node,
                            ],
                        )
                        .await
                })
            })
            .await?;
        Ok(begun == 1)
    }

    async fn beat(
        &self,
        id: Uuid,
        node: &str,
        progress: &JobProgress,
        checkpoint: Option<&Value>,
    ) -> Result<Option<JobState>, StoreError> {
        const OPERATION: &str = "job_beat";
        let (node, progress) = (node.to_owned(), progress.clone());
        let checkpoint = checkpoint.cloned();
        let row = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let checkpoint = checkpoint.as_ref().map(Json);
                    client
                        .query_opt(BEAT, &[&id, &node, &Json(&progress), &checkpoint])
                        .await
                })
            })
            .await?;
        row.map(|row| {
            let text: &str = row.try_get(0).map_err(unreadable(OPERATION))?;
            word(text, OPERATION)
        })
        .transpose()
    }

    async fn end(&self, id: Uuid, node: &str, end: &JobEnd) -> Result<bool, StoreError> {
        let (node, end) = (node.to_owned(), end.clone());
        let ended = self
            .postgres
            .run("job_end", move |client| {
                Box::pin(async move {
                    client
                        .execute(
                            END,
                            &[
                                &id,
                                &node,
                                &end.state.as_str(),
                                &Json(&end.progress),
                                &end.checkpoint.as_ref().map(Json),
                                &end.report.as_ref().map(Json),
                                &end.error,
                                &end.state.is_over(),
                            ],
                        )
                        .await
                })
            })
            .await?;
        Ok(ended == 1)
    }

    async fn change(
        &self,
        id: Uuid,
        from: &[JobState],
        to: JobState,
        node: Option<&str>,
    ) -> Result<bool, StoreError> {
        let from: Vec<&'static str> = from.iter().map(|state| state.as_str()).collect();
        let node = node.map(str::to_owned);
        let changed = self
            .postgres
            .run("job_change", move |client| {
                Box::pin(async move {
                    let over = to.is_over();
                    client
                        .execute(CHANGE, &[&id, &from, &to.as_str(), &node, &over])
                        .await
                })
            })
            .await?;
        Ok(changed == 1)
    }

    async fn release(&self, node: &str) -> Result<(), StoreError> {
        let node = node.to_owned();
        self.postgres
            .run("job_release", move |client| {
                Box::pin(async move { client.execute(RELEASE, &[&node]).await.map(|_| ()) })
            })
            .await
    }

    async fn adopt(&self, node: &str, patience: Duration) -> Result<Option<Job>, StoreError> {
        const OPERATION: &str = "job_adopt";
        let node = node.to_owned();
        let row = self
            .postgres
            .run(OPERATION, move |client| {
                Box::pin(async move {
                    let sql = format!("{ADOPT}{COLUMNS}");
                    client
                        .query_opt(&sql, &[&node, &patience.as_secs_f64()])
                        .await
                })
            })
            .await?;
        row.map(|row| decode(&row, OPERATION)).transpose()
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>, StoreError> {
        self.one("job", "id = $1", None, Some(id), None).await
    }

    async fn latest(
        &self,
        kind: JobKind,
        state: Option<JobState>,
    ) -> Result<Option<Job>, StoreError> {
        let condition =
            "kind = $1 AND ($2::text IS NULL OR state = $2) ORDER BY begun DESC LIMIT 1";
        self.one("job_latest", condition, Some(kind), None, state)
            .await
    }

    async fn latest_full_verification(&self) -> Result<Option<Job>, StoreError> {
        let condition = "kind = $1 AND state = $2 AND report ->> 'full' = 'true' \
                         ORDER BY begun DESC LIMIT 1";
        let (kind, state) = (Some(JobKind::Verify), Some(JobState::Done));
        self.one("job_latest_full", condition, kind, None, state)
            .await
    }
}

fn word<T: std::str::FromStr>(text: &str, operation: &'static str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| {
        // Possibly written by a newer version of the program.
        StoreError::determinate(StoreErrorKind::Invalid, STORE, operation, e.to_string())
    })
}

fn decode(row: &Row, operation: &'static str) -> Result<Job, StoreError> {
    let columns = || -> Result<(String, String, Job), Error> {
        let json = |column| -> Result<Option<Value>, Error> {
            Ok(row.try_get::<_, Option<Json<Value>>>(column)?.map(|j| j.0))
        };
        let job = Job {
            id: row.try_get(0)?,
            kind: JobKind::Verify,
            state: JobState::Failed,
            parameters: json(3)?.unwrap_or_default(),
            by: row.try_get(4)?,
            checkpoint: json(5)?,
            progress: row.try_get::<_, Json<JobProgress>>(6)?.0,
            report: json(7)?,
            error: row.try_get(8)?,
            node: row.try_get(9)?,
            heartbeat: timestamp(row.try_get(10)?),
            begun: timestamp(row.try_get(11)?),
            ended: row.try_get::<_, Option<SystemTime>>(12)?.map(timestamp),
        };
        Ok((row.try_get(1)?, row.try_get(2)?, job))
    };
    let (kind, state, job) = columns().map_err(unreadable(operation))?;
    Ok(Job {
        kind: word(&kind, operation)?,
        state: word(&state, operation)?,
        ..job
    })
}
