//! Starts jobs, passes commands to them, and takes over those whose process has stopped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::context::JobContext;

use super::driver::Driver;
use super::failure::JobCommand;
use super::runner::{JobRefused, Runners};
use crate::clock::new_uuid;
use crate::domain::refusal::Refusal;
use crate::domain::time::Clock;
use crate::migration::job::{Job, JobKind, JobProgress, JobState};
use crate::store::error::StoreError;
use crate::store::halts::Halts;
use crate::store::io_runtime::IoRuntime;
use crate::store::ports::job_table::JobTable;

/// Intervals of the jobs.
#[derive(Debug, Clone, Copy)]
pub struct JobSettings {
    /// Heartbeat interval: how old the progress that others see may be, and how long a command
    /// given to another process takes to arrive.
    pub beat_every: Duration,
    /// Silence after which a job is taken over: several heartbeats, and longer than a statement of
    /// a slow database takes.
    pub patience: Duration,
    /// Interval between two checks for jobs to take over.
    pub look_every: Duration,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            beat_every: Duration::from_secs(1),
            patience: Duration::from_secs(30),
            look_every: Duration::from_secs(5),
        }
    }
}

/// A command to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAction {
    /// Stop at a checkpoint.
    Pause,
    /// Go on from there.
    Resume,
    /// Stop for good.
    Cancel,
}

struct Live {
    kind: JobKind,
    job: Job,
    context: Arc<JobContext>,
    orders: watch::Sender<JobCommand>,
}

/// The adapters, runners and settings of the jobs.
pub struct JobParts {
    /// Where jobs are recorded.
    pub table: Arc<dyn JobTable>,
    /// The runner of each kind.
    pub runners: Runners,
    /// This process's name among those that share the table.
    pub node: String,
    pub io: IoRuntime,
    /// Gives the times of what is not recorded yet.
    pub clock: Arc<dyn Clock>,
    pub settings: JobSettings,
    /// Where it reports that a job waits for a store.
    pub halts: Halts,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    parts: Arc<JobParts>,
    live: Arc<Mutex<HashMap<Uuid, Live>>>,
}

impl Jobs {
    /// Takes over no job until [`Jobs::watch`].
    pub fn new(parts: JobParts) -> Self {
        Self {
            parts: Arc::new(parts),
            live: Arc::default(),
        }
    }

    /// Takes over jobs whose process has stopped, as long as this process lives; first its own from
    /// before a restart.
    pub fn watch(&self) -> JoinHandle<()> {
        let jobs = self.clone();
        self.parts.io.spawn(async move {
            let JobParts { table, node, .. } = &*jobs.parts;
            let mut ticks = tokio::time::interval(jobs.parts.settings.look_every);
            let mut released = false;
            loop {
                ticks.tick().await;
                if !released {
                    released = table.release(node).await.is_ok();
                }
                jobs.adopt().await;
            }
        })
    }

    async fn adopt(&self) {
        let JobParts {
            table,
            node,
            settings,
            ..
        } = &*self.parts;
        loop {
            match table.adopt(node, settings.patience).await {
                Ok(Some(job)) if self.live.lock().contains_key(&job.id) => return,
                Ok(Some(job)) => {
                    tracing::warn!(job = %job.id, kind = %job.kind, "taking over job {}", job.kind);
                    let told = match job.state {
                        JobState::Pausing => JobCommand::Pause,
                        _ => JobCommand::Run,
                    };
                    self.drive(job, told);
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "cannot look for jobs");
                    return;
                }
            }
        }
    }

    /// Starts a job; 409 `job_running` while another one of its kind has not ended.
    pub async fn start(
        &self,
        kind: JobKind,
        parameters: Value,
        by: &str,
    ) -> Result<Job, JobRefused> {
        let runner = self.parts.runners.find(kind, &parameters).ok_or_else(|| {
            Refusal::conflict("job_not_available", format!("this service runs no {kind}"))
        })?;
        runner.check(&parameters).await?;
        let now = self.parts.clock.now();
        let job = Job {
            id: new_uuid(),
            kind,
            state: JobState::Running,
            parameters,
            by: by.to_owned(),
            checkpoint: None,
            progress: JobProgress {
                phase: "starting".into(),
                ..JobProgress::default()
            },
            report: None,
            error: None,
            node: self.parts.node.clone(),
            heartbeat: now,
            begun: now,
            ended: None,
        };
        match self.parts.table.begin(&job).await {
            Ok(true) => {}
            Ok(false) => {
                let message = format!("a {kind} is running or paused: resume or cancel it first");
                return Err(Refusal::conflict("job_running", message).into());
            }
            Err(error) if error.is_indeterminate() => {
                // If it is found by its id, it was recorded; otherwise it never was.
                if self.parts.table.job(job.id).await?.is_none() {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.drive(job.clone(), JobCommand::Run);
        Ok(job)
    }

    fn drive(&self, job: Job, told: JobCommand) {
        let JobParts {
            table,
            runners,
            node,
            io,
            settings,
            halts,
            ..
        } = &*self.parts;
        let (orders, received) = watch::channel(told);
        let Some(runner) = runners.find(job.kind, &job.parameters).cloned() else {
            tracing::warn!(job = %job.id, kind = %job.kind, "no runner here for job {}", job.kind);
            return;
        };
        let context = Arc::new(JobContext::new(&job, received));
        let live = Live {
            kind: job.kind,
            job: job.clone(),
            context: context.clone(),
            orders: orders.clone(),
        };
        self.live.lock().insert(job.id, live);
        let id = job.id;
        let driver = Driver {
            table: table.clone(),
            runner,
            context: context.clone(),
            orders,
            node: node.clone(),
            beat_every: settings.beat_every,
            halts: halts.clone(),
        };
        let lives = self.live.clone();
        io.spawn(async move {
            // A runner that panics must not look alive: without heartbeat the job is taken over.
            let running = tokio::spawn(async move { driver.run(&job).await });
            if let Err(error) = running.await {
                tracing::error!(job = %id, %error, "a job panicked; it will be taken up again");
            }
            // It may have been resumed already.
            let mut lives = lives.lock();
            let ours = |live: &Live| Arc::ptr_eq(&live.context, &context);
            if lives.get(&id).is_some_and(ours) {
                lives.remove(&id);
            }
        });
    }

    /// Passes a command to a job; without an id to the one of its kind that has not ended. 404
    /// `job_not_found`, 409 `job_state` if its state does not allow it.
    pub async fn order(
        &self,
        kind: JobKind,
        id: Option<Uuid>,
        action: JobAction,
    ) -> Result<Job, JobRefused> {
        let job = self.find(kind, id).await?;
        let table = &self.parts.table;
        use JobState::{Cancelled, Paused, Pausing, Running};
        let done = match action {
            JobAction::Pause => {
                let done = table.change(job.id, &[Running], Pausing, None).await?;
                self.tell(job.id, JobCommand::Pause);
                done
            }
            JobAction::Cancel => {
                let from = [Running, Pausing, Paused];
                let done = table.change(job.id, &from, Cancelled, None).await?;
                if done {
                    self.tell(job.id, JobCommand::Cancel);
                    let runner = self.parts.runners.find(kind, &job.parameters);
                    if let Some(runner) = runner.filter(|_| job.state == Paused) {
                        runner.cancelled(&job.parameters);
                    }
                }
                done
            }
            JobAction::Resume => {
                let node = Some(self.parts.node.as_str());
                let done = table.change(job.id, &[Paused], Running, node).await?;
                if done && let Some(job) = table.job(job.id).await? {
                    self.drive(job, JobCommand::Run);
                }
                done
            }
        };
        let now = self.find(kind, Some(job.id)).await?;
        // A command to reach a state that the job is in already succeeds.
        let is_so = match action {
            JobAction::Pause => matches!(now.state, Pausing | Paused),
            JobAction::Cancel => now.state == Cancelled,
            JobAction::Resume => now.state == Running,
        };
        if done || is_so {
            return Ok(now);
        }
        let message = format!("the {kind} is {}", now.state.as_str());
        Err(Refusal::conflict("job_state", message).into())
    }

    fn tell(&self, id: Uuid, order: JobCommand) {
        if let Some(live) = self.live.lock().get(&id) {
            live.orders.send_replace(order);
        }
    }

    /// A job of a kind; without an id the last one started. 404 `job_not_found`.
    pub async fn find(&self, kind: JobKind, id: Option<Uuid>) -> Result<Job, JobRefused> {
        let job = match id {
            Some(id) => self.job(id).await?.filter(|job| job.kind == kind),
            None => self.latest(kind).await?,
        };
        job.ok_or_else(|| {
            let message = match id {
                Some(id) => format!("there is no {kind} {id}"),
                None => format!("no {kind} was ever started"),
            };
            Refusal::not_found("job_not_found", message).into()
        })
    }

    /// A job, with its current progress if it runs here; such a job is found even while PostgreSQL
    /// is down.
    pub async fn job(&self, id: Uuid) -> Result<Option<Job>, StoreError> {
        match self.parts.table.job(id).await {
            Ok(job) => Ok(job.map(|job| self.fresh(job))),
            Err(error) => match self.here(|live| live.job.id == id) {
                Some(job) => Ok(Some(job)),
                None => Err(error),
            },
        }
    }

    /// The last job of a kind that was started.
    pub async fn latest(&self, kind: JobKind) -> Result<Option<Job>, StoreError> {
        match self.parts.table.latest(kind, None).await {
            Ok(job) => Ok(job.map(|job| self.fresh(job))),
            Err(error) => match self.here(|live| live.kind == kind) {
                Some(job) => Ok(Some(job)),
                None => Err(error),
            },
        }
    }

    /// The last job of a kind that ended with a report.
    pub async fn latest_done(&self, kind: JobKind) -> Result<Option<Job>, StoreError> {
        self.parts.table.latest(kind, Some(JobState::Done)).await
    }

    fn fresh(&self, job: Job) -> Job {
        match self.live.lock().get(&job.id) {
            Some(live) if !job.state.is_over() && job.state != JobState::Paused => Job {
                progress: live.context.seen().0,
                ..job
            },
            _ => job,
        }
    }

    fn here(&self, which: impl Fn(&Live) -> bool) -> Option<Job> {
        let lives = self.live.lock();
        let live = lives.values().find(|live| which(live))?;
        Some(Job {
            progress: live.context.seen().0,
            ..live.job.clone()
        })
    }

    /// Stops every job of this process at a checkpoint, to be continued by another process or the
    /// next start; at shutdown.
    pub fn leave(&self) {
        for live in self.live.lock().values() {
            live.orders.send_replace(JobCommand::Leave);
        }
    }
}
