//! The runners of `backfill`: of our own log, copies the history that the other store lacks; of a
//! configured source, imports the events of another program's PostgreSQL event store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::actors::event_store::LogWriter;
use crate::actors::import::{ImportRefused, Importer, StartImport};
use crate::actors::mirror::Throttle;
use crate::actors::mirror::copier::{copy_some, prove_end};
use crate::actors::mirror_progress::Mirrors;
use crate::domain::ids::{Offset, PartitionId};
use crate::domain::refusal::Refusal;
use crate::import::progress::ImportState;
use crate::jobs::context::JobContext;
use crate::jobs::failure::JobCommand;
use crate::jobs::failure::{JobFailure, write};
use crate::jobs::pace::Pace;
use crate::jobs::runner::{JobRefused, Runner};
use crate::log::lead::Lead;
use crate::migration::job::{JobKind, JobProgress};
use crate::migration::stage::StageKind;
use crate::store::error::{StoreError, StoreErrorKind};

/// How often progress is published while the mirror or the importer does the work.
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

/// Copies to S3 what it lacks of PostgreSQL's history. In `dual_write` the mirror copies, and this
/// sets its pace and watches it; in `legacy` this copies ahead, so that less is left for the
/// mirror.
pub struct History {
    pub writer: LogWriter,
    /// How far the mirror is.
    pub mirrors: Arc<Mirrors>,
    /// The mirror's throttle.
    pub throttle: Arc<Throttle>,
}

/// Events copied since the job began or resumed; while the mirror copies, those of all its
/// partitions.
#[derive(Debug, Default, Serialize)]
struct Copied {
    commits: u64,
    events: u64,
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
    fn led_by_postgres(&self) -> Vec<PartitionId> {
        let all = self.writer.log().partition_ids();
        all.filter(|p| self.stage_of(*p).is_some()).collect()
    }

    fn head(&self, partition: PartitionId) -> Offset {
        self.writer.heads().next_offset(partition)
    }

    async fn end_in_s3(&self, partition: PartitionId) -> Result<Offset, StoreError> {
        let log = self.writer.log();
        match log.place(Lead::S3) {
            Some(s3) => s3.end(partition, 0).await,
            None => Ok(0),
        }
    }

    /// The stage of a partition while PostgreSQL leads it; once S3 leads, nothing is copied to S3.
    fn stage_of(&self, partition: PartitionId) -> Option<StageKind> {
        let stage = self.writer.state_of(partition)?.kind()?;
        (stage.lead() == Lead::Postgres).then_some(stage)
    }

    /// One step of a partition: returns how far S3 is afterwards and how many events were copied.
    async fn step(
        &self,
        partition: PartitionId,
        stage: StageKind,
        at: Offset,
    ) -> Result<(Offset, u64), StoreError> {
        if stage == StageKind::DualWritePostgres {
            let before = self.throttle.copied();
            tokio::time::sleep(LOOK).await;
            let next = self.mirrors.of(partition).next.max(at);
            return Ok((next, self.throttle.copied() - before));
        }
        let log = self.writer.log();
        prove_end(log, partition, Lead::S3, at).await?;
        copy_some(log, partition, Lead::S3, at, self.head(partition)).await
    }

    /// Copies one step of a partition if S3 lacks something; returns how much was copied.
    async fn advance(
        &self,
        partition: PartitionId,
        at: &mut Offset,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let head = self.head(partition);
        let Some(stage) = self.stage_of(partition).filter(|_| *at < head) else {
            return Ok(None);
        };
        let (next, events) = self.step(partition, stage, *at).await?;
        let commits = next - std::mem::replace(at, next);
        Ok(Some((events, commits)))
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

    fn cancelled(&self, _: &Value) {
        self.throttle.set_paused(false);
    }

    async fn run(&self, job: &JobContext) -> Result<Value, JobFailure> {
        let parameters: Parameters = job.parameters()?;
        self.throttle
            .set_rate(parameters.rate.map_or(0, |rate| rate.max(0.0) as u64));
        self.throttle.set_paused(false);
        let mut at = Vec::new();
        for partition in self.led_by_postgres() {
            at.push((partition, self.end_in_s3(partition).await?));
        }
        let mut pace = Pace::new(parameters.rate);
        let mut copied = Copied::default();
        let mut open = !parameters.dry_run;
        while open {
            open = false;
            for i in 0..at.len() {
                let (partition, next) = &mut at[i];
                let Some((events, commits)) = self.advance(*partition, next).await? else {
                    continue;
                };
                open = true;
                copied.events += events;
                copied.commits += commits;
                let pause = pace.advance(events, commits);
                let saved = job.save(self.progress(&at, &copied, &pace), || write(&copied));
                if let Err(JobFailure::Interrupted(told)) = &saved
                    && told.0 == JobCommand::Pause
                {
                    self.throttle.set_paused(true);
                }
                saved?;
                job.wait(pause).await;
            }
        }
        let seconds = pace.elapsed().as_secs_f64();
        write(&HistoryReport {
            partitions: at.len(),
            commits: copied.commits,
            events: copied.events,
            seconds,
            events_per_second: if seconds > 0.0 {
                copied.events as f64 / seconds
            } else {
                0.0
            },
        })
    }
}

impl History {
    fn progress(&self, at: &[(PartitionId, Offset)], copied: &Copied, pace: &Pace) -> JobProgress {
        let done = at.iter().map(|(_, next)| next).sum::<u64>();
        let total = at.iter().map(|(p, next)| self.head(*p).max(*next)).sum();
        JobProgress {
            phase: "copying history to S3".into(),
            unit: "commits".into(),
            done,
            total,
            events: copied.events,
            rate: pace.rate(),
            eta_seconds: pace.eta(total - done),
            waiting: None,
        }
    }
}

pub struct Imports {
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

    fn cancelled(&self, parameters: &Value) {
        let source = parameters["source"].as_str().unwrap_or_default();
        if let Err(error) = self.importer.stop(source) {
            tracing::debug!(%error, "there is no import to be stopped here");
        }
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
                        JobCommand::Pause => self.importer.pause(&source),
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
