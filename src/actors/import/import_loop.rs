//! The loop of one import: pages of the source on one side, appends in flight on the other, and a
//! checkpoint that never passes an event that is not settled.
//!
//! ```text
//!   page ─▶ mapping ─▶ lanes ─▶ appends, many at once ─▶ settled ─▶ checkpoint
//!              └─ cannot be an event ─▶ parked ──────────┘
//! ```
//!
//! All its state can be rebuilt from the source, the log and the journal: killed at any point, it
//! continues from the checkpoint and recognises what was appended since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use super::given::{Control, ImportControl, ImportRun, RETRY};
use super::limits::{
    LOOK_AT_LEAST_EVERY, LOOK_EVERY, LOOK_PAUSE_FACTOR, MAX_APPENDS, MAX_PARKED, PAGE_ROWS,
    PARK_ROWS, PORTIONS, REPORT_EVERY, SAVE_EVERY, SETTLE_EVERY, STOP_WITHIN,
};
use super::numbering::Numbering;
use super::settle::{Settled, Trouble, settle};
use crate::domain::ids::StreamName;
use crate::import::encoder::Encoder;
use crate::import::lanes::{LaneLimits, Lanes, ParkedRow};
use crate::import::mapping::{Mapping, ParkReason};
use crate::import::progress::{ImportState, Rate};
use crate::import::row::Cursor;
use crate::import::spec::SourceSpec;
use crate::metrics;
use crate::store::backoff::Backoff;
use crate::store::error::StoreError;
use crate::store::ports::import::{Checkpoint, Page, PageEnd};

/// A future that has completed.
enum Ended {
    Page(Result<Page, StoreError>, Duration),
    Append(Box<Settled>),
    Parked(Vec<ParkedRow>),
    Saved(Checkpoint, Result<(), StoreError>),
}

pub(super) struct ImportLoop {
    mapping: Mapping,
    encoder: Arc<Encoder>,
    numbering: Arc<Numbering>,
    lanes: Lanes,
    under_way: FuturesUnordered<LocalBoxFuture<'static, Ended>>,
    /// The last failure of the log or the journal.
    trouble: Arc<Trouble>,
    /// The last failure of the source or the checkpoint.
    unreachable: Option<String>,
    /// Why the run cannot continue.
    failed: Option<String>,
    backoff: Backoff,
    /// Where the next page begins.
    next: Option<Cursor>,
    /// Whether everything in the source has been read.
    caught: bool,
    fetching: bool,
    parking: bool,
    saving: bool,
    appends: usize,
    /// The next page is read no earlier than this.
    read_at: Instant,
    save_at: Instant,
    report_at: Instant,
    begun: Instant,
    /// When it was told to stop.
    ending: Option<Instant>,
    saved: Option<Checkpoint>,
    unsaved_names: BTreeMap<String, String>,
    rows_before: u64,
    read: u64,
    written: u64,
    existing: u64,
    parked: u64,
    parked_before: u64,
    diverged: u64,
    waiting_for_writers: u32,
    rate: Rate,
}

impl ImportLoop {
    pub fn new(
        spec: &SourceSpec,
        checkpoint: Option<Checkpoint>,
        stopped: Vec<StreamName>,
        parked_before: u64,
    ) -> Self {
        let now = Instant::now();
        let given = checkpoint.as_ref().map(|c| c.names.clone());
        Self {
            mapping: Mapping::new(spec, given.unwrap_or_default()),
            encoder: Arc::new(Encoder::new(spec)),
            numbering: Arc::new(Numbering::new(spec)),
            lanes: Lanes::new(LaneLimits::default(), stopped),
            under_way: FuturesUnordered::new(),
            trouble: Arc::default(),
            unreachable: None,
            failed: None,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            next: checkpoint.as_ref().map(|c| c.cursor.clone()),
            caught: false,
            fetching: false,
            parking: false,
            saving: false,
            appends: 0,
            read_at: now,
            save_at: now + SAVE_EVERY,
            report_at: now,
            begun: now,
            ending: None,
            rows_before: checkpoint.as_ref().map_or(0, |c| c.rows),
            saved: checkpoint,
            unsaved_names: BTreeMap::new(),
            read: 0,
            written: 0,
            existing: 0,
            parked: 0,
            parked_before,
            diverged: 0,
            waiting_for_writers: 0,
            rate: Rate::default(),
        }
    }

    pub async fn run(mut self, mut run: ImportRun) {
        let follow = run.progress.borrow().follow;
        loop {
            let control = *run.control.borrow_and_update();
            let now = Instant::now();
            let ends = control.order == ImportControl::Stop || self.failed.is_some();
            if ends && self.ending.is_none() {
                self.ending = Some(now);
                self.save_at = now;
            }
            if !ends {
                self.begin_work(&run, control, follow, now);
            }
            self.begin_records(&run, now);
            if let Some(state) = self.is_over(follow, now) {
                self.report(&run, control, follow, Some(state));
                tracing::info!(
                    source = run.name(),
                    ?state,
                    read = self.read,
                    "the import has ended"
                );
                return;
            }
            if now >= self.report_at {
                self.report(&run, control, follow, None);
                self.report_at = now + REPORT_EVERY;
            }
            let wake = self.wake(ends, now);
            tokio::select! {
                Some(ended) = self.under_way.next() => {
                    self.settle_one(ended, &run, control);
                    // Futures that completed at the same time are handled in the same turn.
                    while let Some(Some(ended)) = self.under_way.next().now_or_never() {
                        self.settle_one(ended, &run, control);
                    }
                }
                changed = run.control.changed() => {
                    if changed.is_err() {
                        // Control is closed: nobody can resume or stop the run.
                        self.failed = Some("the service is shutting down".into());
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn wake(&self, ends: bool, now: Instant) -> Instant {
        let mut wake = self.report_at;
        if !self.saving && self.save_at > now {
            wake = wake.min(self.save_at);
        }
        if !ends && !self.fetching && self.read_at > now {
            wake = wake.min(self.read_at);
        }
        wake
    }

    /// Starts reads and appends. A pause ends the reading; what was read is still appended, so that
    /// nothing is in flight while it is paused.
    fn begin_work(&mut self, run: &ImportRun, control: Control, follow: bool, now: Instant) {
        let wanted = control.order == ImportControl::Run && (!self.caught || follow);
        if wanted && !self.fetching && now >= self.read_at && self.lanes.has_room() {
            let limit = control
                .rate
                .map_or(PAGE_ROWS, |rate| (rate / PORTIONS).max(1) as usize)
                .min(PAGE_ROWS);
            let (events, after) = (run.deps.source.events.clone(), self.next.clone());
            self.fetching = true;
            self.under_way.push(Box::pin(async move {
                let begun = Instant::now();
                let page = events.page(after.as_ref(), limit).await;
                Ended::Page(page, begun.elapsed())
            }));
        }
        while self.appends < MAX_APPENDS
            && let Some(next) = self.lanes.next_run()
        {
            self.appends += 1;
            let settling = settle(
                run.deps.appender.clone(),
                self.encoder.clone(),
                self.numbering.clone(),
                self.trouble.clone(),
                next,
            );
            self.under_way
                .push(Box::pin(settling.map(|s| Ended::Append(Box::new(s)))));
        }
    }

    /// Saves parked rows, and how far everything is settled.
    fn begin_records(&mut self, run: &ImportRun, now: Instant) {
        if !self.parking {
            let rows = self.lanes.take_parked(PARK_ROWS);
            if !rows.is_empty() {
                self.parking = true;
                let (journal, name) = (run.deps.journal.clone(), run.name().to_owned());
                let trouble = self.trouble.clone();
                self.under_way.push(Box::pin(async move {
                    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
                    while let Err(error) = journal.park(&name, rows.clone()).await {
                        trouble.set(error);
                        tokio::time::sleep(backoff.pause()).await;
                    }
                    Ended::Parked(rows)
                }));
            }
        }
        if !self.saving
            && now >= self.save_at
            && let Some(checkpoint) = self.checkpoint()
        {
            if self.is_saved(&checkpoint) {
                self.save_at = now + SAVE_EVERY;
                return;
            }
            self.saving = true;
            self.unsaved_names
                .append(&mut self.mapping.take_new_names());
            let (journal, name) = (run.deps.journal.clone(), run.name().to_owned());
            let saving = Checkpoint {
                names: self.unsaved_names.clone(),
                ..checkpoint
            };
            self.under_way.push(Box::pin(async move {
                let saved = journal.save(&name, saving.clone()).await;
                Ended::Saved(saving, saved)
            }));
        }
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        let unsettled = self.lanes.unsettled() as u64;
        let cursor = if unsettled == 0 {
            self.next.clone()
        } else {
            self.lanes.reached().cloned()
        };
        let rows = self.rows_before + self.read - unsettled;
        cursor.map(|cursor| Checkpoint {
            cursor,
            rows,
            names: BTreeMap::new(),
        })
    }

    /// Names of streams are reserved for rows that are not settled yet, so they need not be waited
    /// for.
    fn is_saved(&self, checkpoint: &Checkpoint) -> bool {
        let place = |c: &Checkpoint| (c.cursor.clone(), c.rows);
        self.saved.as_ref().map(place) == Some(place(checkpoint))
    }

    fn is_over(&self, follow: bool, now: Instant) -> Option<ImportState> {
        let resting = self.appends == 0 && !self.parking && !self.saving;
        let is_saved = self.checkpoint().is_none_or(|c| self.is_saved(&c));
        if let Some(since) = self.ending {
            let given_up = now >= since + STOP_WITHIN;
            let at_rest = resting && is_saved;
            let state = if self.failed.is_some() {
                ImportState::Failed
            } else {
                ImportState::Stopped
            };
            return (at_rest || given_up).then_some(state);
        }
        let through = self.caught && !follow && !self.fetching && self.lanes.unsettled() == 0;
        (through && resting && is_saved).then_some(ImportState::Done)
    }

    fn settle_one(&mut self, ended: Ended, run: &ImportRun, control: Control) {
        match ended {
            Ended::Page(Ok(page), took) => {
                self.fetching = false;
                self.unreachable = None;
                self.backoff.reset();
                self.page(page, took, run, control);
            }
            Ended::Page(Err(error), _) => {
                self.fetching = false;
                self.source_failed(&error);
            }
            Ended::Append(settled) => self.append(*settled, run),
            Ended::Parked(rows) => {
                self.parking = false;
                self.parked += rows.len() as u64;
                let diverged = |row: &&ParkedRow| row.reason == ParkReason::Diverged;
                self.diverged += rows.iter().filter(diverged).count() as u64;
                metrics::imported(run.name(), "parked", rows.len() as u64);
                for row in &rows {
                    tracing::debug!(
                        source = run.name(),
                        key = row.row.key,
                        detail = row.detail,
                        "parked"
                    );
                }
                self.lanes.parked(&rows);
                if self.parked + self.parked_before > MAX_PARKED {
                    self.failed = Some(format!(
                        "more than {MAX_PARKED} rows are parked: look at the first ones in {}, \
                         correct the source's description and restart",
                        run.deps.journal.parked_in()
                    ));
                }
                if self.caught {
                    self.save_at = Instant::now();
                }
            }
            Ended::Saved(checkpoint, outcome) => {
                self.saving = false;
                self.save_at = Instant::now() + SAVE_EVERY;
                match outcome {
                    Ok(()) => {
                        self.unsaved_names
                            .retain(|name, _| !checkpoint.names.contains_key(name));
                        self.saved = Some(checkpoint);
                    }
                    Err(error) => {
                        tracing::debug!(source = run.name(), %error, "the checkpoint waits");
                        self.unreachable = Some(error.to_string());
                    }
                }
            }
        }
    }

    fn source_failed(&mut self, error: &StoreError) {
        if !error.is_transient() {
            self.failed = Some(error.to_string());
            return;
        }
        if self.unreachable.is_none() {
            tracing::warn!(%error, "the import waits for its source");
        }
        self.unreachable = Some(error.to_string());
        self.read_at = Instant::now() + self.backoff.pause();
    }

    fn page(&mut self, page: Page, took: Duration, run: &ImportRun, control: Control) {
        let wall = run.deps.clock.now();
        let n = page.rows.len();
        self.read += n as u64;
        for row in page.rows {
            let cursor = row.cursor.clone();
            let mapped = self.mapping.map(row, wall);
            self.lanes.offer(cursor, mapped);
        }
        self.next = Some(page.next);
        self.caught = page.end == PageEnd::Caught;
        self.waiting_for_writers = 0;
        let now = Instant::now();
        match page.end {
            PageEnd::More => {}
            PageEnd::Unsettled(writers) => {
                self.waiting_for_writers = writers;
                self.read_at = now + SETTLE_EVERY;
            }
            PageEnd::Caught => {
                let pause = match self.next {
                    Some(Cursor::Pass { .. }) => took * LOOK_PAUSE_FACTOR,
                    _ => Duration::ZERO,
                };
                self.read_at = now + pause.clamp(LOOK_EVERY, LOOK_AT_LEAST_EVERY);
                self.save_at = now;
            }
        }
        if let Some(rate) = control.rate {
            let portion = Duration::from_secs_f64(n as f64 / f64::from(rate.max(1)));
            self.read_at = self.read_at.max(now) + portion;
        }
    }

    fn append(&mut self, settled: Settled, run: &ImportRun) {
        self.appends -= 1;
        let Settled {
            run: appended,
            written,
            existing,
            failed,
        } = settled;
        self.written += written as u64;
        self.existing += existing as u64;
        metrics::imported(run.name(), "written", written as u64);
        metrics::imported(run.name(), "existing", existing as u64);
        self.lanes.finish(appended, written + existing, failed);
        if self.caught && self.lanes.unsettled() == 0 {
            self.save_at = Instant::now();
        }
    }

    fn report(
        &mut self,
        run: &ImportRun,
        control: Control,
        follow: bool,
        over: Option<ImportState>,
    ) {
        let unsettled = self.lanes.unsettled() as u64;
        let done = self.read - unsettled;
        let rate = self.rate.mark(self.begun.elapsed(), done);
        let error = self
            .failed
            .clone()
            .or_else(|| self.trouble.get())
            .or_else(|| self.unreachable.clone());
        let state = over.unwrap_or(match control.order {
            ImportControl::Pause => ImportState::Paused,
            _ if error.is_some() => ImportState::Waiting,
            _ if follow && self.caught && unsettled == 0 => ImportState::Following,
            _ => ImportState::Running,
        });
        let checkpoint = self.saved.as_ref().map(|c| describe(&c.cursor));
        run.progress.send_modify(|status| {
            status.state = state;
            status.done = done;
            status.done_total = self.rows_before + done;
            status.written = self.written;
            status.existing = self.existing;
            status.parked = self.parked_before + self.parked;
            status.parked_in = (status.parked > 0).then(|| run.deps.journal.parked_in());
            status.diverged = self.diverged;
            status.under_way = unsettled;
            status.limit = control.rate;
            status.checkpoint = checkpoint;
            status.waiting_for_writers = self.waiting_for_writers;
            status.error = error;
            status.derive(rate);
            metrics::import_left(run.name(), status.total.saturating_sub(status.done_total));
        });
    }
}

/// A cursor as readable text.
fn describe(cursor: &Cursor) -> String {
    match cursor {
        Cursor::Position(position) => position.to_string(),
        Cursor::Pass { after: None, .. } => "between two passes".to_owned(),
        Cursor::Pass {
            after: Some(key), ..
        } => {
            let stream_type = key.stream_type.as_deref().unwrap_or_default();
            format!("{stream_type}/{}/{}", key.stream_id, key.version)
        }
    }
}
