//! One import: how it starts and how it is controlled. The loop itself is [`super::import_loop`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Source;
use super::appender::Appender;
use super::import_loop::ImportLoop;
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
    Run,
    /// Finish the appends in flight and wait.
    Pause,
    /// Finish the appends in flight and end.
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    pub order: ImportControl,
    pub rate: Option<u32>,
}

#[derive(Clone)]
pub struct RunDeps {
    pub source: Source,
    /// Checkpoint and parked rows.
    pub journal: Arc<dyn ImportJournal>,
    pub appender: Arc<dyn Appender>,
    /// Gives the time to events that have none.
    pub clock: Arc<dyn Clock>,
}

pub struct ImportRun {
    pub(super) deps: RunDeps,
    restart: bool,
    pub(super) progress: watch::Sender<ImportStatus>,
    pub(super) control: watch::Receiver<Control>,
}

impl ImportRun {
    /// A run that continues from the checkpoint, or `restart`s. It publishes its status through
    /// `progress`, whose value says whether to follow new rows, and obeys `control`.
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

    pub async fn run(mut self) {
        match self.begin().await {
            Ok(running) => running.run(self).await,
            Err(state) => self.progress.send_modify(|status| status.state = state),
        }
    }

    /// Loads the checkpoint; on failure returns the state in which the run has ended.
    async fn begin(&mut self) -> Result<ImportLoop, ImportState> {
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

    async fn try_begin(&mut self) -> Result<ImportLoop, StoreError> {
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
        Ok(ImportLoop::new(
            &self.deps.source.spec,
            checkpoint,
            stopped,
            parked,
        ))
    }
}
