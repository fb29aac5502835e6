//! What `backfill` means: of our own log, the history that the other store lacks; of a configured
//! source, the events of somebody else's PostgreSQL event store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::actors::import::{ImportRefused, Importer, StartImport};
use crate::actors::mirror::Pace;
use crate::actors::mirror::copier::copy_some;
use crate::actors::mirrors::Mirrors;
use crate::actors::write_path::WritePath;
use crate::domain::ids::{Offset, PartitionId};
use crate::domain::refusal::Refusal;
use crate::import::progress::ImportState;
use crate::jobs::context::{JobContext, Order};
use crate::jobs::runner::{JobFailure, JobRefused, Runner, write};
use crate::migration::job::{JobKind, JobProgress};
use crate::migration::lead::Lead;
use crate::migration::stage::StageKind;
use crate::store::error::{StoreError, StoreErrorKind};

/// How often it is told how far a backfill is, while somebody else does the work.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, Default, Deserialize)]
struct Parameters {
    rate: Option<f64>,
    source: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    restart: bool,
}

/// Copies to S3 what it lacks of PostgreSQL's history. In `dual_write` the mirror does the work, and
/// this paces and watches it; in `legacy` it copies ahead, so that less is left for the mirror.
pub struct History {
    /// Where partitions stand.
    pub path: WritePath,
    /// How far the mirror is.
    pub mirrors: Arc<Mirrors>,
    /// Its brake.
    pub pace: Arc<Pace>,
}

#[derive(Debug, Serialize)]
struct HistoryReport {
    partitions: usize,
    commits: u64,
    events: u64,
    seconds: f64,
    events_per_second: f64,
}

impl History {
    fn led_by_postgres(&self) -> Vec<(PartitionId, StageKind)> {
        let log = self.path.store().log();
        log.partition_ids()
            .filter_map(|p| Some((p, self.path.standing_of(p)?.kind()?)))
            .filter(|(_, stage)| stage.lead() == Lead::Postgres)
            .collect()
    }

    fn head(&self, partition: PartitionId) -> Offset {
        self.path.store().heads().next_offset(partition)
    }

    async fn end_in_s3(&self, partition: PartitionId) -> Result<Offset, StoreError> {
        let log = self.path.store().log();
        match log.place(Lead::S3) {
            Some(s3) => s3.end(partition, 0).await,
            None => Ok(0),
        }
    }

    /// One step of a partition: how far S3 is then, and how many events were copied for it.
    async fn step(
        &self,
        partition: PartitionId,
        stage: StageKind,
        at: Offset,
    ) -> Result<(Offset, u64), StoreError> {
        if stage == StageKind::DualWritePostgres {
            tokio::time::sleep(LOOK).await;
            return Ok((self.mirrors.of(partition).next.max(at), 0));
        }
        let log = self.path.store().log();
        copy_some(log, partition, Lead::S3, at, self.head(partition)).await
    }
}

#[async_trait]
impl Runner for History {
    fn kind(&self) -> JobKind {
        JobKind::Backfill
    }

    fn takes(&self, parameters: &Value) -> bool {
        parameters.get("source").is_none_or(Value::is_null)
    }

    async fn check(&self, _: &Value) -> Result<(), JobRefused> {
        if self.led_by_postgres().is_empty() {
            let message = "S3 leads every partition and has all of its history: there is nothing \
                           to copy";
            return Err(Refusal::conflict("nothing_to_backfill", message).into());
        }
        Ok(())
    }

    async fn run(&self, job: &JobContext) -> Result<Value, JobFailure> {
        let parameters: Parameters = job.parameters()?;
        let rate = parameters.rate.unwrap_or(0.0).max(0.0);
        self.pace.set_rate(rate as u64);
        self.pace.set_paused(false);
        let begun = Instant::now();
        let partitions = self.led_by_postgres();
        let mut at = Vec::new();
        for (partition, _) in &partitions {
            at.push(self.end_in_s3(*partition).await?);
        }
        let first: u64 = at.iter().sum();
        let (mut events, mut open) = (0, true);
        while open && !parameters.dry_run {
            open = false;
            for (i, (partition, stage)) in partitions.iter().enumerate() {
                if at[i] >= self.head(*partition) {
                    continue;
                }
                let (next, copied) = self.step(*partition, *stage, at[i]).await?;
                at[i] = next;
                events += copied;
                open |= next < self.head(*partition);
                let done = at.iter().sum::<u64>();
                let saved = job.save(
                    self.progress(&at, &partitions, first, begun, events),
                    || Ok(json!({ "commits": done })),
                );
                if let Err(JobFailure::Interrupted(told)) = &saved
                    && told.0 == Order::Pause
                {
                    self.pace.set_paused(true);
                }
                saved?;
                if rate > 0.0 && *stage == StageKind::Legacy {
                    let due = Duration::from_secs_f64(events as f64 / rate);
                    job.wait(due.saturating_sub(begun.elapsed())).await;
                }
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        write(&HistoryReport {
            partitions: partitions.len(),
            commits: at.iter().sum::<u64>() - first,
            events,
            seconds,
            events_per_second: if seconds > 0.0 {
                events as f64 / seconds
            } else {
                0.0
            },
        })
    }
}

impl History {
    fn progress(
        &self,
        at: &[Offset],
        partitions: &[(PartitionId, StageKind)],
        first: u64,
        begun: Instant,
        events: u64,
    ) -> JobProgress {
        let done = at.iter().sum::<u64>();
        let total = partitions.iter().map(|(p, _)| self.head(*p)).sum::<u64>();
        let seconds = begun.elapsed().as_secs_f64().max(0.001);
        let pace = (done - first) as f64 / seconds;
        JobProgress {
            phase: "copying history to S3".into(),
            unit: "commits".into(),
            done,
            total: total.max(done),
            events,
            rate: events as f64 / seconds,
            eta_seconds: (pace > 0.0).then(|| total.saturating_sub(done) as f64 / pace),
            waiting: None,
        }
    }
}

/// Imports a configured source.
pub struct Imports {
    /// The importer.
    pub importer: Importer,
}

fn refused(error: &ImportRefused) -> Refusal {
    match error {
        ImportRefused::UnknownSource(_) => {
            Refusal::not_found("source_not_found", error.to_string())
        }
        ImportRefused::NoRate => Refusal::invalid("invalid_rate", error.to_string()),
        _ => Refusal::conflict("import_state", error.to_string()),
    }
}

fn start_of(parameters: Parameters) -> StartImport {
    StartImport {
        source: parameters.source.unwrap_or_default(),
        rate: parameters.rate.map(|r| r.max(0.0) as u32),
        follow: parameters.follow,
        restart: parameters.restart,
    }
}

#[async_trait]
impl Runner for Imports {
    fn kind(&self) -> JobKind {
        JobKind::Backfill
    }

    fn takes(&self, parameters: &Value) -> bool {
        parameters.get("source").is_some_and(Value::is_string)
    }

    async fn check(&self, parameters: &Value) -> Result<(), JobRefused> {
        let source = parameters["source"].as_str().unwrap_or_default();
        self.importer
            .status(source)
            .map(drop)
            .map_err(|e| refused(&e).into())
    }

    async fn run(&self, job: &JobContext) -> Result<Value, JobFailure> {
        let parameters: Parameters = job.parameters()?;
        let start = start_of(parameters);
        let source = start.source.clone();
        let failed = |e: ImportRefused| JobFailure::Failed(e.to_string());
        let status = self.importer.status(&source).map_err(failed)?;
        match status.state {
            ImportState::Paused => self.importer.resume(&source).map_err(failed)?,
            state if state.is_over() => drop(self.importer.start(start).map_err(failed)?),
            _ => {}
        }
        loop {
            job.wait(LOOK).await;
            let status = self.importer.status(&source).map_err(failed)?;
            let progress = JobProgress {
                phase: format!("importing {source}"),
                unit: "rows".into(),
                done: status.done_total,
                total: status.total,
                events: status.written,
                rate: status.rate,
                eta_seconds: status.eta_seconds.map(|s| s as f64),
                waiting: status.error.clone(),
            };
            // The import keeps its own checkpoint, with what it has written.
            if let Err(interrupted) = job.save(progress, || write(&status)) {
                if let JobFailure::Interrupted(told) = &interrupted {
                    let steered = match told.0 {
                        Order::Pause => self.importer.pause(&source),
                        _ => self.importer.stop(&source),
                    };
                    if let Err(error) = steered {
                        tracing::debug!(%error, "the import is over already");
                    }
                }
                return Err(interrupted);
            }
            match status.state {
                ImportState::Failed => {
                    let why = status.error.unwrap_or_default();
                    return Err(JobFailure::Failed(why));
                }
                ImportState::Done | ImportState::Stopped => return write(&status),
                ImportState::Idle => {
                    return Err(JobFailure::Store(StoreError::determinate(
                        StoreErrorKind::Unavailable,
                        "import",
                        "import",
                        "the import did not start",
                    )));
                }
                _ => {}
            }
        }
    }
}
