//! Notes when an actor is woken, so that one can see how long it then waits to be run.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use futures_util::task::{ArcWake, AtomicWaker};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Stands between an actor and its task: wakes the task, and notes the first time since the last
/// run.
#[derive(Default)]
pub(super) struct Wakes {
    task: AtomicWaker,
    woken: Mutex<Option<Instant>>,
}

impl Wakes {
    /// Whom to wake.
    pub(super) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// The actor is run: how long ago it was woken, if it was.
    pub(super) fn take(&self, now: Instant) -> Option<Duration> {
        let woken = self.woken.lock().take();
        woken.map(|at| now.saturating_duration_since(at))
    }
}

impl ArcWake for Wakes {
    fn wake_by_ref(wakes: &Arc<Self>) {
        wakes.woken.lock().get_or_insert_with(Instant::now);
        wakes.task.wake();
    }
}
