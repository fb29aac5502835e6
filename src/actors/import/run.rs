//! One import: how it begins, and how it is steered. The loop itself is [`super::running`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Source;
use super::appender::Appender;
use super::running::Running;
use crate::domain::time::Clock;
use crate::import::progress::{ImportState, ImportStatus};
use crate::store::backoff::Backoff;
use crate::store::error::StoreError;
use crate::store::ports::import::ImportJournal;

/// Pauses while the source or the journal does not answer.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What an import is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportControl {
    /// Go on.
    Run,
    /// Finish what is under way and wait.
    Pause,
    /// Finish what is under way and end.
    Stop,
}

/// How an import is steered while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// What to do.
    pub order: ImportControl,
    /// Most rows a second.
    pub rate: Option<u32>,
}

/// What a run works with.
#[derive(Clone)]
pub struct RunDeps {
    /// What is imported.
    pub source: Source,
    /// Checkpoint and parked rows.
    pub journal: Arc<dyn ImportJournal>,
    /// The log.
    pub appender: Arc<dyn Appender>,
    /// Stands in for times that are missing.
    pub clock: Arc<dyn Clock>,
}

/// See the module.
pub struct ImportRun {
    pub(super) deps: RunDeps,
    restart: bool,
    pub(super) progress: watch::Sender<ImportStatus>,
    pub(super) control: watch::Receiver<Control>,
}

impl ImportRun {
    /// A run that goes on from the checkpoint, or `restart`s; it tells `progress`, which says
    /// whether it follows, and obeys `control`.
    pub fn new(
        deps: RunDeps,
        restart: bool,
        progress: watch::Sender<ImportStatus>,
        control: watch::Receiver<Control>,
    ) -> Self {
        Self {
            deps,
            restart,
            progress,
            control,
        }
    }

    /// Runs to the end.
    pub async fn run(mut self) {
        match self.begin().await {
            Ok(running) => running.run(self).await,
            Err(state) => self.progress.send_modify(|status| status.state = state),
        }
    }

    /// Reads where it stopped; otherwise says how it ended before it began.
    async fn begin(&mut self) -> Result<Running, ImportState> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let error = match self.try_begin().await {
                Ok(running) => return Ok(running),
                Err(error) => error,
            };
            tracing::warn!(source = self.name(), %error, "the import cannot begin");
            self.progress.send_modify(|status| {
                status.state = ImportState::Waiting;
                status.error = Some(error.to_string());
            });
            if !error.is_transient() {
                return Err(ImportState::Failed);
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.pause()) => {}
                _ = self.control.wait_for(|c| c.order == ImportControl::Stop) => {
                    return Err(ImportState::Stopped);
                }
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.deps.source.spec.name
    }

    async fn try_begin(&mut self) -> Result<Running, StoreError> {
        let name = self.name().to_owned();
        let journal = &self.deps.journal;
        if self.restart {
            journal.forget(&name).await?;
            self.restart = false;
        }
        let total = self.deps.source.events.begin().await?;
        let checkpoint = journal.checkpoint(&name).await?;
        let stopped = journal.stopped(&name).await?;
        let parked = journal.count_parked(&name).await?;
        self.progress.send_modify(|status| {
            status.state = ImportState::Running;
            status.total = total;
            status.done_total = checkpoint.as_ref().map_or(0, |c| c.rows);
            status.error = None;
        });
        Ok(Running::new(
            &self.deps.source.spec,
            checkpoint,
            stopped,
            parked,
        ))
    }
}
