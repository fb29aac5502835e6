//! Imports from other event stores: each is a loop that reads a source, appends to the log like any
//! command, and keeps a checkpoint. [`Importer`] starts and steers them. A loop has a thread of its
//! own, so that converting rows at full speed holds up no arbiter.
//!
//! * [`appender`]: the part of the append path that an import needs
//! * [`given`]: what an import is given; [`run`]: starts one; [`import_loop`]: its loop; [`limits`]: its limits
//! * [`settle`]: one append, until it is in the log; [`numbering`]: versions that the source lacks or
//!   numbers differently

pub mod appender;
pub mod given;
mod import_loop;
mod limits;
mod numbering;
pub mod run;
mod settle;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::appender::Appender;
use self::given::{Control, ImportControl, ImportRun, RunDeps};
use crate::domain::time::Clock;
use crate::import::progress::{ImportState, ImportStatus};
use crate::import::spec::SourceSpec;
use crate::store::error::StoreError;
use crate::store::ports::import::{ForeignEvents, ImportJournal, ParkedEntry};

#[derive(Clone)]
pub struct Source {
    /// Its tables and columns.
    pub spec: SourceSpec,
    /// Where its events are read.
    pub events: Arc<dyn ForeignEvents>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StartImport {
    pub source: String,
    /// Rows per second at most; `None`: no limit.
    pub rate: Option<u32>,
    /// Whether to go on with new rows after history is copied, until stopped.
    pub follow: bool,
    /// Whether to forget checkpoint and parked rows and read everything again. Events that are in
    /// the log are recognised.
    pub restart: bool,
}

/// Why a request to an import was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImportRefused {
    /// The configuration has no such source.
    #[error("there is no source `{0}` in migration.sources")]
    UnknownSource(String),
    #[error("the import of `{0}` is under way")]
    UnderWay(String),
    #[error("the import of `{0}` is not under way")]
    NotUnderWay(String),
    /// A limit of 0 would be a pause that no status shows.
    #[error("a rate is at least 1 row a second; to halt an import, pause it")]
    NoRate,
    /// No thread could be started for it.
    #[error("no thread for the import: {0}")]
    NoThread(String),
}

/// Runs an import to its end. However it ends, also by a panic, its status says that it has ended.
fn drive(name: &str, run: ImportRun, progress: &watch::Sender<ImportStatus>) {
    let fail = |why: String| {
        tracing::error!(source = name, why, "the import has failed");
        progress.send_modify(|status| {
            status.state = ImportState::Failed;
            status.error = Some(why);
        });
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    match runtime {
        Ok(runtime) => {
            if catch_unwind(AssertUnwindSafe(|| runtime.block_on(run.run()))).is_err() {
                fail("the import panicked: see the log".into());
            }
        }
        Err(e) => fail(format!("no runtime: {e}")),
    }
}

/// Starts and steers imports. Cheap to clone.
#[derive(Clone)]
pub struct Importer {
    inner: Arc<Inner>,
}

struct Inner {
    sources: BTreeMap<String, Source>,
    journal: Arc<dyn ImportJournal>,
    appender: Arc<dyn Appender>,
    clock: Arc<dyn Clock>,
    runs: Mutex<BTreeMap<String, Steering>>,
}

struct Steering {
    control: watch::Sender<Control>,
    status: watch::Receiver<ImportStatus>,
}

impl Importer {
    /// Manages imports of `sources`; starts none.
    pub fn new(
        sources: impl IntoIterator<Item = Source>,
        journal: Arc<dyn ImportJournal>,
        appender: Arc<dyn Appender>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let sources = sources
            .into_iter()
            .map(|source| (source.spec.name.clone(), source))
            .collect();
        let inner = Inner {
            sources,
            journal,
            appender,
            clock,
            runs: Mutex::new(BTreeMap::new()),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.inner.sources.keys().map(String::as_str)
    }

    /// Starts an import from its checkpoint, or from the beginning.
    pub fn start(&self, start: StartImport) -> Result<ImportStatus, ImportRefused> {
        let Some(source) = self.inner.sources.get(&start.source) else {
            return Err(ImportRefused::UnknownSource(start.source));
        };
        if start.rate == Some(0) {
            return Err(ImportRefused::NoRate);
        }
        let mut runs = self.inner.runs.lock();
        if let Some(run) = runs.get(&start.source)
            && !run.status.borrow().state.is_over()
        {
            return Err(ImportRefused::UnderWay(start.source));
        }
        let mut status = ImportStatus::idle(&start.source);
        status.state = ImportState::Starting;
        status.follow = start.follow;
        status.limit = start.rate;
        status.started = Some(self.inner.clock.now());
        let (control, controlled) = watch::channel(Control {
            order: ImportControl::Run,
            rate: start.rate,
        });
        let (progress, seen) = watch::channel(status.clone());
        let run = ImportRun::new(
            RunDeps {
                source: source.clone(),
                journal: self.inner.journal.clone(),
                appender: self.inner.appender.clone(),
                clock: self.inner.clock.clone(),
            },
            start.restart,
            progress.clone(),
            controlled,
        );
        let name = start.source.clone();
        std::thread::Builder::new()
            .name(format!("import-{name}"))
            .spawn(move || drive(&name, run, &progress))
            .map_err(|e| ImportRefused::NoThread(e.to_string()))?;
        runs.insert(
            start.source,
            Steering {
                control,
                status: seen,
            },
        );
        Ok(status)
    }

    /// Stops reading and appending until it is resumed; appends in flight are finished.
    pub fn pause(&self, source: &str) -> Result<(), ImportRefused> {
        self.steer(source, |control| control.order = ImportControl::Pause)
    }

    pub fn resume(&self, source: &str) -> Result<(), ImportRefused> {
        self.steer(source, |control| control.order = ImportControl::Run)
    }

    /// Ends the run after the appends in flight; a later start continues from there.
    pub fn stop(&self, source: &str) -> Result<(), ImportRefused> {
        self.steer(source, |control| control.order = ImportControl::Stop)
    }

    /// Changes the limit in rows per second; `None` removes it.
    pub fn set_rate(&self, source: &str, rate: Option<u32>) -> Result<(), ImportRefused> {
        if rate == Some(0) {
            return Err(ImportRefused::NoRate);
        }
        self.steer(source, |control| control.rate = rate)
    }

    fn steer(&self, source: &str, order: impl FnOnce(&mut Control)) -> Result<(), ImportRefused> {
        self.known(source)?;
        let runs = self.inner.runs.lock();
        match runs.get(source) {
            Some(run) if !run.status.borrow().state.is_over() => {
                run.control.send_modify(order);
                Ok(())
            }
            _ => Err(ImportRefused::NotUnderWay(source.to_owned())),
        }
    }

    fn known(&self, source: &str) -> Result<(), ImportRefused> {
        if self.inner.sources.contains_key(source) {
            Ok(())
        } else {
            Err(ImportRefused::UnknownSource(source.to_owned()))
        }
    }

    pub fn status(&self, source: &str) -> Result<ImportStatus, ImportRefused> {
        self.known(source)?;
        let runs = self.inner.runs.lock();
        Ok(runs.get(source).map_or_else(
            || ImportStatus::idle(source),
            |run| run.status.borrow().clone(),
        ))
    }

    /// Receives changes of a run's status.
    pub fn watch(&self, source: &str) -> Result<watch::Receiver<ImportStatus>, ImportRefused> {
        self.known(source)?;
        let runs = self.inner.runs.lock();
        runs.get(source)
            .map(|run| run.status.clone())
            .ok_or_else(|| ImportRefused::NotUnderWay(source.to_owned()))
    }

    /// Rows that could not be imported, in the order in which they were parked.
    pub async fn parked(
        &self,
        source: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<ParkedEntry>, StoreError> {
        self.inner.journal.parked(source, after, limit).await
    }
}
