//! Spans: what was done for a request whose trace is recorded, from HTTP to the projection, and how
//! long each part took. Whoever exports them [`install`]s a queue; without one nothing is recorded and
//! all of this costs the look at a static.
//!
//! The context goes with the work, in messages and with the events themselves, because the parts of
//! one trace run in different actors, at different times and even in different processes. The
//! thread's [`current`] context serves log lines alone.
//!
//! * [`span`]: one span, and those of work that is done for several traces at once

mod span;

pub use self::span::{FinishedSpan, Kind, SharedSpan, Span, Value};

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use metrics::counter;
use oms_core::domain::event::trace_of;
use oms_core::domain::trace::TraceContext;
use oms_core::log::object::CommitObject;
use rand::Rng;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::metrics::SPANS_DROPPED;

/// What the spans of this process are recorded with.
static RECORDER: OnceLock<Recorder> = OnceLock::new();

thread_local! {
    /// What the thread works on at this moment.
    static CURRENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// Records the spans of one process.
#[derive(Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<FinishedSpan>,
    ratio: f64,
    now: fn() -> Timestamp,
    /// Whether the log says already that spans are dropped.
    told: AtomicBool,
}

/// Begins to record, once in a process: of the requests whose callers have not decided it, the share
/// `ratio`. What is recorded waits in the returned queue, which has room for `capacity` spans; what
/// finds it full is dropped and counted. `None` if recording has begun before.
pub fn install(
    ratio: f64,
    capacity: usize,
    now: fn() -> Timestamp,
) -> Option<mpsc::Receiver<FinishedSpan>> {
    let (recorder, queue) = Recorder::new(ratio, capacity, now);
    RECORDER.set(recorder).ok().map(|()| queue)
}

/// Whether spans are recorded in this process.
pub fn is_on() -> bool {
    RECORDER.get().is_some()
}

/// Says that spans are taken again: the next one that is dropped is news.
pub fn recovered() {
    if let Some(recorder) = RECORDER.get() {
        recorder.told.store(false, Ordering::Relaxed);
    }
}

fn recorder() -> Option<&'static Recorder> {
    RECORDER.get()
}

impl Recorder {
    fn new(
        ratio: f64,
        capacity: usize,
        now: fn() -> Timestamp,
    ) -> (Self, mpsc::Receiver<FinishedSpan>) {
        let (queue, waiting) = mpsc::channel(capacity);
        let told = AtomicBool::new(false);
        let recorder = Self {
            queue,
            ratio,
            now,
            told,
        };
        (recorder, waiting)
    }

    /// The context of a request: a child of the caller's, who has decided whether the trace is
    /// recorded, or the first of a new trace.
    fn request(&self, caller: Option<TraceContext>) -> TraceContext {
        match caller {
            Some(caller) => child_of(caller),
            None => {
                let trace = rand::rng().random_range(1..=u128::MAX);
                TraceContext {
                    trace,
                    span: new_span(),
                    sampled: is_sampled(trace, self.ratio),
                }
            }
        }
    }

    fn record(&self, span: FinishedSpan) {
        let Err(lost) = self.queue.try_send(span) else {
            return;
        };
        let reason = match lost {
            TrySendError::Full(_) => "queue_full",
            TrySendError::Closed(_) => "stopping",
        };
        counter!(SPANS_DROPPED, "reason" => reason).increment(1);
        if reason == "queue_full" && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "spans are dropped: more are recorded than the collector takes; nothing else waits"
            );
        }
    }
}

/// Whether a new trace is recorded, by its own id, so that every process decides the same.
fn is_sampled(trace: u128, ratio: f64) -> bool {
    // The low 63 bits, of which every generator of ids makes random ones.
    let low = (trace as u64) >> 1;
    ratio >= 1.0 || (low as f64) < ratio * (1u64 << 63) as f64
}

fn new_span() -> u64 {
    rand::rng().random_range(1..=u64::MAX)
}

fn child_of(parent: TraceContext) -> TraceContext {
    TraceContext {
        span: new_span(),
        ..parent
    }
}

/// The recorded traces whose events are in a commit; empty while nothing is recorded.
pub fn of_commit(object: &CommitObject) -> impl Iterator<Item = TraceContext> {
    let events = if is_on() { object.event_count() } else { 0 };
    (0..events).filter_map(|i| trace_of(&object.line(i)))
}

/// The trace of what this thread does at this moment.
pub fn current() -> Option<TraceContext> {
    CURRENT.get()
}

/// Makes `trace` the [`current`] one until the returned value is dropped.
#[must_use]
pub fn enter(trace: Option<TraceContext>) -> Entered {
    Entered(CURRENT.replace(trace))
}

/// While it lives a trace is the current one; then what was before.
#[derive(Debug)]
pub struct Entered(Option<TraceContext>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Does `work`; whenever it runs, `trace` is the current one.
pub async fn within<T>(trace: Option<TraceContext>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if trace.is_none() {
            return work.as_mut().poll(cx);
        }
        let _entered = enter(trace);
        work.as_mut().poll(cx)
    })
    .await
}

#[cfg(test)]
#[path = "traces_tests.rs"]
mod tests;
