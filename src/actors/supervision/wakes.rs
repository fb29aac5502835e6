//! Records when an actor is woken, to measure how long it waits to be polled.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use futures_util::task::{ArcWake, AtomicWaker};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Waker between an actor and its task: wakes the task and records the first wake since the last
/// poll.
#[derive(Default)]
pub(super) struct Wakes {
    task: AtomicWaker,
    woken: Mutex<Option<Instant>>,
}

impl Wakes {
    pub(super) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// The actor is polled: returns how long ago it was woken, if it was.
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
