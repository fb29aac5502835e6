//! One import: how it starts and how it is controlled. The loop itself is [`super::import_loop`].

use super::given::{ImportControl, ImportRun, RETRY};
use super::import_loop::ImportLoop;
use crate::import::progress::ImportState;
use crate::store::backoff::Backoff;
use crate::store::error::StoreError;

impl ImportRun {
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
