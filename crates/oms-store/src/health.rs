//! The health of a dependency, derived from the calls made to it; makes none of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

/// Whether a dependency works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DependencyState {
    /// No call was made yet.
    Unknown,
    /// The last call succeeded.
    Up,
    /// The last call failed.
    Down,
}

/// A dependency's state after the last call.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Dependency))]
pub struct DependencyStatus {
    /// Whether it works.
    pub state: DependencyState,
    /// Smoothed time of a successful call, in milliseconds.
    pub latency_ms: f64,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Why the last call failed. For the log: everybody may ask how a dependency is, and its own
    /// words hold addresses and names that are nobody's business.
    #[serde(skip)]
    pub error: Option<String>,
}

/// Length of an interval in which calls are counted together.
const STRETCH: Duration = Duration::from_secs(10);

/// Intervals that are kept: half an hour, more than any caller asks for.
const STRETCHES: usize = 180;

/// Calls of one interval.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    begun: Instant,
    succeeded: u64,
    failed: u64,
}

#[derive(Debug)]
struct Seen {
    status: DependencyStatus,
    down_at: Option<Instant>,
    stretches: VecDeque<Stretch>,
}

impl Seen {
    fn count(&mut self, succeeded: u64, failed: u64) {
        let now = Instant::now();
        match self.stretches.back_mut() {
            Some(last) if now - last.begun < STRETCH => {
                last.succeeded += succeeded;
                last.failed += failed;
            }
            _ => {
                if self.stretches.len() == STRETCHES {
                    self.stretches.pop_front();
                }
                self.stretches.push_back(Stretch {
                    begun: now,
                    succeeded,
                    failed,
                });
            }
        }
    }
}

/// The health of one dependency, updated by its callers.
#[derive(Debug)]
pub struct Health {
    seen: Mutex<Seen>,
    clock: fn() -> Timestamp,
}

impl Health {
    /// Nothing is known yet; `clock` gives the times of changes.
    pub fn new(clock: fn() -> Timestamp) -> Self {
        let status = DependencyStatus {
            state: DependencyState::Unknown,
            latency_ms: 0.0,
            since: clock(),
            error: None,
        };
        Self {
            seen: Mutex::new(Seen {
                status,
                down_at: None,
                stretches: VecDeque::new(),
            }),
            clock,
        }
    }

    /// Records a call that succeeded after `elapsed`.
    pub fn succeeded(&self, elapsed: Duration) {
        let mut seen = self.seen.lock();
        seen.count(1, 0);
        let sample = elapsed.as_secs_f64() * 1e3;
        let smooth = &mut seen.status.latency_ms;
        *smooth = if *smooth == 0.0 {
            sample
        } else {
            *smooth * 0.9 + sample * 0.1
        };
        if seen.status.state != DependencyState::Up {
            seen.status.state = DependencyState::Up;
            seen.status.since = (self.clock)();
            seen.status.error = None;
            seen.down_at = None;
        }
    }

    /// Records a call that failed because of the dependency, not because of the request.
    pub fn failed(&self, error: &dyn std::fmt::Display) {
        let mut seen = self.seen.lock();
        seen.count(0, 1);
        if seen.status.state != DependencyState::Down {
            seen.status.state = DependencyState::Down;
            seen.status.since = (self.clock)();
            seen.down_at = Some(Instant::now());
        }
        seen.status.error = Some(error.to_string());
    }

    /// The state after the last call.
    pub fn status(&self) -> DependencyStatus {
        self.seen.lock().status.clone()
    }

    /// Share of the calls in the last `window` that succeeded, accurate to ten seconds of the
    /// window; `None` without calls.
    pub fn success_share(&self, window: Duration) -> Option<f64> {
        let seen = self.seen.lock();
        let recent = seen
            .stretches
            .iter()
            .filter(|s| s.begun.elapsed() <= window);
        let (ok, all) = recent.fold((0, 0), |(ok, all), s| {
            (ok + s.succeeded, all + s.succeeded + s.failed)
        });
        (all > 0).then(|| ok as f64 / all as f64)
    }

    /// How long it has been down; `None` if it is not.
    pub fn down_for(&self) -> Option<Duration> {
        self.seen.lock().down_at.map(|at| at.elapsed())
    }
}
