//! What an import is given: its source and where it writes, and the orders that it obeys.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Source;
use super::appender::Appender;
use crate::domain::time::Clock;
use crate::import::progress::ImportStatus;
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
    pub(super) restart: bool,
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

    pub(super) fn name(&self) -> &str {
        &self.deps.source.spec.name
    }
}
