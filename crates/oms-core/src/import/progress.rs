//! How far an import is.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What an import is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    /// It was never started in this process.
    Idle,
    /// It is beginning: it reads where it stopped.
    Starting,
    /// It copies history.
    Running,
    /// It has copied history and waits for what is new.
    Following,
    /// It was told to pause.
    Paused,
    /// Something does not answer; it tries again.
    Waiting,
    /// Everything there was is in the log or parked.
    Done,
    /// It was told to stop; it goes on from there when it is started again.
    Stopped,
    /// It cannot go on; `error` says why.
    Failed,
}

impl ImportState {
    /// Whether it has come to an end, one way or the other.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Idle | Self::Done | Self::Stopped | Self::Failed)
    }
}

/// An import as it is seen. Counts of rows are of all time where the name says `total`, of this
/// run otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportStatus {
    /// The source's name.
    pub source: String,
    /// What it is doing.
    pub state: ImportState,
    /// Rows of the source, about: counted at the start by the planner, never less than `done_total`.
    pub total: u64,
    /// Rows settled by this run and the ones before that it went on from.
    pub done_total: u64,
    /// Rows settled.
    pub done: u64,
    /// Events written.
    pub written: u64,
    /// Events that were in the log already, and are the same there.
    pub existing: u64,
    /// Rows parked, of all time.
    pub parked: u64,
    /// Where they are listed, while there are any.
    pub parked_in: Option<String>,
    /// Of those, rows that differ from what the log has.
    pub diverged: u64,
    /// Rows read and not settled yet.
    pub under_way: u64,
    /// Rows settled in a second, lately.
    pub rate: f64,
    /// Most rows a second; `None` without limit.
    pub limit: Option<u32>,
    /// Seconds to go at this rate, where that can be told.
    pub eta_seconds: Option<u64>,
    /// Everything up to here is in the log or parked, as kept in the checkpoint.
    pub checkpoint: Option<String>,
    /// Transactions of the source that began before the newest row was seen and may still add
    /// rows before it; nothing is read beyond until they have ended.
    pub waiting_for_writers: u32,
    /// Whether it goes on when history is copied.
    pub follow: bool,
    /// When it was started.
    pub started: Option<Timestamp>,
    /// What does not work.
    pub error: Option<String>,
}

impl ImportStatus {
    /// Of a source that was not started.
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

    /// Fills in what follows from counts and rate.
    pub fn derive(&mut self, rate: f64) {
        self.rate = rate;
        self.total = self.total.max(self.done_total + self.under_way);
        let left = self.total.saturating_sub(self.done_total);
        let known = rate > 0.0 && self.state == ImportState::Running;
        self.eta_seconds = known.then(|| (left as f64 / rate).ceil() as u64);
    }
}

/// How fast something goes, of late: a count over a sliding span.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    /// Time since the start, and the count then; oldest first.
    marks: std::collections::VecDeque<(Duration, u64)>,
}

/// The span over which a rate is taken: long enough to be calm, short enough to show a stall.
const SPAN: Duration = Duration::from_secs(5);

impl Rate {
    /// The rate at `elapsed` since the start, when `count` is reached.
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
