//! The status of an import.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What an import is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    /// Not started in this process.
    Idle,
    /// Reading its checkpoint.
    Starting,
    /// Copying history.
    Running,
    /// History is copied; waiting for new rows.
    Following,
    /// Paused by an operator.
    Paused,
    /// A store does not answer; retrying.
    Waiting,
    /// Every row is in the log or parked.
    Done,
    /// Stopped by an operator; a later start continues from the checkpoint.
    Stopped,
    /// It cannot continue; `error` says why.
    Failed,
}

impl ImportState {
    /// Whether the run has ended, successfully or not.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Idle | Self::Done | Self::Stopped | Self::Failed)
    }
}

/// The status of an import. Counts of rows cover all runs if their name ends in `total`, otherwise
/// this run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportStatus {
    /// The source's name.
    pub source: String,
    /// What it is doing.
    pub state: ImportState,
    /// Approximate number of rows in the source: the planner's estimate at the start, never less
    /// than `done_total`.
    pub total: u64,
    /// Rows settled by this run and the earlier ones that it continues.
    pub done_total: u64,
    /// Rows settled.
    pub done: u64,
    /// Events written.
    pub written: u64,
    /// Events that the log had already, with the same content.
    pub existing: u64,
    /// Rows parked over all runs.
    pub parked: u64,
    /// Where they are listed, if there are any.
    pub parked_in: Option<String>,
    /// Parked rows that differ from what the log has.
    pub diverged: u64,
    /// Rows read and not settled yet.
    pub under_way: u64,
    /// Rows settled per second, over the last seconds.
    pub rate: f64,
    /// Limit in rows per second; `None`: no limit.
    pub limit: Option<u32>,
    /// Estimated seconds to the end, if known.
    pub eta_seconds: Option<u64>,
    /// Every row up to here is in the log or parked, according to the saved checkpoint.
    pub checkpoint: Option<String>,
    /// Transactions of the source that began before the newest row was seen and may still insert
    /// rows before it; rows after it are not read until they have ended.
    pub waiting_for_writers: u32,
    /// Whether it continues with new rows when history is copied.
    pub follow: bool,
    /// When it was started.
    pub started: Option<Timestamp>,
    /// The current failure.
    pub error: Option<String>,
}

impl ImportStatus {
    /// The status of a source that was not started.
    pub fn idle(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            state: ImportState::Idle,
            total: 0,
            done_total: 0,
            done: 0,
            written: 0,
            existing: 0,
            parked: 0,
            parked_in: None,
            diverged: 0,
            under_way: 0,
            rate: 0.0,
            limit: None,
            eta_seconds: None,
            checkpoint: None,
            waiting_for_writers: 0,
            follow: false,
            started: None,
            error: None,
        }
    }

    /// Computes the fields that depend on counts and rate.
    pub fn derive(&mut self, rate: f64) {
        self.rate = rate;
        self.total = self.total.max(self.done_total + self.under_way);
        let left = self.total.saturating_sub(self.done_total);
        let known = rate > 0.0 && self.state == ImportState::Running;
        self.eta_seconds = known.then(|| (left as f64 / rate).ceil() as u64);
    }
}

/// Measures a rate: a count over a sliding window.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    /// Time since the start, and the count then; oldest first.
    marks: std::collections::VecDeque<(Duration, u64)>,
}

/// The window: long enough to be steady, short enough to show a stall.
const SPAN: Duration = Duration::from_secs(5);

impl Rate {
    /// The rate at `elapsed` since the start, at which `count` was reached.
    pub fn mark(&mut self, elapsed: Duration, count: u64) -> f64 {
        self.marks.push_back((elapsed, count));
        while self.marks.len() > 2
            && self
                .marks
                .get(1)
                .is_some_and(|(at, _)| elapsed.saturating_sub(*at) >= SPAN)
        {
            self.marks.pop_front();
        }
        let Some((from, before)) = self.marks.front() else {
            return 0.0;
        };
        let span = elapsed.saturating_sub(*from).as_secs_f64();
        if span > 0.0 {
            count.saturating_sub(*before) as f64 / span
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_forgets_what_is_long_ago() {
        let mut rate = Rate::default();
        let at = Duration::from_secs;
        assert_eq!(rate.mark(at(0), 0), 0.0);
        assert_eq!(rate.mark(at(1), 100), 100.0);
        for second in 2..20 {
            rate.mark(at(second), 100);
        }
        assert_eq!(rate.mark(at(20), 100), 0.0, "it stalls");
    }

    #[test]
    fn the_time_to_go_follows_from_the_rate() {
        let mut status = ImportStatus::idle("shop");
        (status.total, status.done_total) = (100, 40);
        status.state = ImportState::Running;
        status.derive(30.0);
        assert_eq!(status.eta_seconds, Some(2));
        status.done_total = 120;
        status.derive(0.0);
        assert_eq!((status.total, status.eta_seconds), (120, None));
    }
}
