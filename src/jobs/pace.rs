//! Rate limit, measured rate and remaining time of a job.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The rate is measured over the last seconds, so that it follows a limit or a slow store.
const WINDOW: Duration = Duration::from_secs(10);

/// Interval between two samples of the window.
const STEP: Duration = Duration::from_millis(500);

/// Counts events over time. Pauses must not be counted: make a new one after each.
#[derive(Debug)]
pub struct Pace {
    limit: Option<f64>,
    started: Instant,
    events: u64,
    work: u64,
    points: VecDeque<(Instant, u64, u64)>,
}

impl Pace {
    /// At most `limit` events per second.
    pub fn new(limit: Option<f64>) -> Self {
        let now = Instant::now();
        Self {
            limit: limit.filter(|l| *l > 0.0),
            started: now,
            events: 0,
            work: 0,
            points: VecDeque::from([(now, 0, 0)]),
        }
    }

    /// Counts `events`, which are `work` units of the total. Returns how long to pause for the
    /// limit.
    pub fn advance(&mut self, events: u64, work: u64) -> Duration {
        self.events += events;
        self.work += work;
        let now = Instant::now();
        if self.points.back().is_none_or(|p| now - p.0 >= STEP) {
            self.points.push_back((now, self.events, self.work));
            while self.points.len() > 2 && now - self.points[0].0 > WINDOW {
                self.points.pop_front();
            }
        }
        let Some(limit) = self.limit else {
            return Duration::ZERO;
        };
        let due = Duration::try_from_secs_f64(self.events as f64 / limit).unwrap_or(Duration::MAX);
        due.saturating_sub(now - self.started)
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Events per second within the window.
    pub fn rate(&self) -> f64 {
        let (seconds, events, _) = self.window();
        events / seconds
    }

    /// Seconds that `rest` units of work will take at the current rate.
    pub fn eta(&self, rest: u64) -> Option<f64> {
        let (seconds, _, work) = self.window();
        (work > 0.0).then(|| rest as f64 * seconds / work)
    }

    fn window(&self) -> (f64, f64, f64) {
        let (since, events, work) = self.points.front().copied().unwrap_or((self.started, 0, 0));
        let seconds = since.elapsed().as_secs_f64().max(0.001);
        let (events, work) = (self.events - events, self.work - work);
        (seconds, events as f64, work as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_throttled_job_keeps_to_its_rate_and_knows_when_it_ends() {
        let mut pace = Pace::new(Some(100.0));
        for _ in 0..20 {
            let pause = pace.advance(50, 1);
            tokio::time::sleep(pause).await;
        }
        let seconds = pace.elapsed().as_secs_f64();
        assert!((9.9..10.1).contains(&seconds), "{seconds}");
        assert!((95.0..105.0).contains(&pace.rate()), "{}", pace.rate());
        let eta = pace.eta(10).unwrap();
        assert!((4.5..5.5).contains(&eta), "{eta}");
        assert_eq!(Pace::new(None).advance(1_000_000, 1), Duration::ZERO);
    }
}
