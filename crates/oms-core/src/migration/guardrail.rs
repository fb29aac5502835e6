//! The guardrail: while a stage is young, figures of the service are compared with budgets over a
//! sliding window of seconds. Exceeding a budget raises an alert; exceeding it for longer asks for
//! a step one edge back. A state machine without a clock: the caller passes the second with each
//! sample.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The budgets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardrailSettings {
    /// How long a stage is young; after that nothing is judged. An hour of real traffic.
    pub watch: Duration,
    /// The window. A minute: long enough for a percentile, short enough to react.
    pub window: Duration,
    /// Writes in a window at least, before shares and percentiles are judged; fewer are not
    /// significant.
    pub min_writes: u64,
    /// Maximum share of writes that fail for a reason on the service's side.
    pub error_share: f64,
    /// Maximum 99th percentile of writes' latency.
    pub p99: Duration,
    /// Divergent or mismatching reads in a window at most.
    pub divergence: u64,
    /// How long a budget of errors or latency must be exceeded without interruption before the step
    /// back; divergence is acted on at once. Half a window: longer than a short disturbance of a
    /// store.
    pub patience: Duration,
    /// Whether to step back at all, or only to alert.
    pub auto_rollback: bool,
}

impl Default for GuardrailSettings {
    fn default() -> Self {
        Self {
            watch: Duration::from_secs(3600),
            window: Duration::from_secs(60),
            min_writes: 100,
            error_share: 0.01,
            p99: Duration::from_secs(1),
            divergence: 0,
            patience: Duration::from_secs(30),
            auto_rollback: false,
        }
    }
}

/// The kinds of budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Share of writes that failed.
    ErrorShare,
    /// 99th percentile of latency, in seconds.
    P99Seconds,
    /// Divergent reads.
    Divergence,
}

/// An exceeded budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Breach {
    /// The budget.
    pub budget: Budget,
    /// The measured figure.
    pub figure: f64,
    /// Its limit.
    pub limit: f64,
    /// The window, in seconds.
    pub window_s: u64,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.budget {
            Budget::ErrorShare => "share of failed writes",
            Budget::P99Seconds => "99th percentile of write latency in seconds",
            Budget::Divergence => "divergent reads",
        };
        let Self {
            figure,
            limit,
            window_s,
            ..
        } = self;
        write!(
            f,
            "{what}: {figure:.4} over {window_s} s, budget {limit:.4}"
        )
    }
}

/// The guardrail's verdict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judgement {
    /// Within every budget, or not enough samples.
    Ok,
    /// A budget is exceeded: alert an operator.
    Alert(Breach),
    /// A budget was exceeded for too long, or reads diverged: step one edge back. Repeated until
    /// the guardrail is created anew, so that it cannot be missed.
    WalkBack(Breach),
}

/// Ratio between two bounds of the latency histogram: a percentile is at most an eighth too long.
const GROWTH: f64 = 1.125;
/// The lowest bound, in seconds.
const LOWEST: f64 = 0.0001;
/// Number of bounds, up to two minutes: beyond every deadline of a write.
const BOUNDS: usize = 120;

/// The samples of one second.
#[derive(Debug, Clone)]
struct Second {
    second: u64,
    writes: u64,
    failed: u64,
    divergent: u64,
    /// Writes by latency.
    latency: [u32; BOUNDS],
}

impl Second {
    fn new(second: u64) -> Self {
        Self {
            second,
            writes: 0,
            failed: 0,
            divergent: 0,
            latency: [0; BOUNDS],
        }
    }
}

fn bound_of(latency: Duration) -> usize {
    let steps = (latency.as_secs_f64() / LOWEST).max(1.0).log(GROWTH).ceil();
    (steps as usize).min(BOUNDS - 1)
}

fn seconds_of(bound: usize) -> f64 {
    LOWEST * GROWTH.powi(bound as i32)
}

/// The state of a guardrail. Seconds come from any clock that does not go back; a sample for an
/// earlier second counts for the newest one.
#[derive(Debug, Clone)]
pub struct Guardrail {
    settings: GuardrailSettings,
    began: u64,
    seconds: VecDeque<Second>,
    /// Since when budgets have been exceeded without interruption.
    over_since: Option<u64>,
    walked: Option<Breach>,
}

impl Guardrail {
    /// A guardrail for a stage that began in second `now`.
    pub fn new(settings: GuardrailSettings, now: u64) -> Self {
        Self {
            settings,
            began: now,
            seconds: VecDeque::new(),
            over_since: None,
            walked: None,
        }
    }

    /// Whether the stage is still young in second `now`.
    pub fn watches(&self, now: u64) -> bool {
        now.saturating_sub(self.began) < self.settings.watch.as_secs()
    }

    /// Counts a write. `failed`: for a reason on the service's side; a refused command is not a
    /// failure.
    pub fn write(&mut self, now: u64, latency: Duration, failed: bool) {
        let second = self.at(now);
        second.writes += 1;
        second.failed += u64::from(failed);
        let slot = &mut second.latency[bound_of(latency)];
        *slot = slot.saturating_add(1);
    }

    /// Counts reads that differed between the stores, or streams found divergent.
    pub fn divergent(&mut self, now: u64, count: u64) {
        self.at(now).divergent += count;
    }

    fn at(&mut self, now: u64) -> &mut Second {
        let newest = self.seconds.back().map(|s| s.second);
        if newest.is_none_or(|newest| newest < now) {
            self.forget(now);
            self.seconds.push_back(Second::new(now));
        }
        let last = self.seconds.len() - 1;
        &mut self.seconds[last]
    }

    fn forget(&mut self, now: u64) {
        let window = self.settings.window.as_secs().max(1);
        while self
            .seconds
            .front()
            .is_some_and(|s| s.second + window <= now)
        {
            self.seconds.pop_front();
        }
    }

    /// Judges the window that ends with second `now`. To be called about once a second.
    pub fn judge(&mut self, now: u64) -> Judgement {
        if let Some(breach) = self.walked {
            return Judgement::WalkBack(breach);
        }
        self.forget(now);
        if !self.watches(now) {
            return Judgement::Ok;
        }
        let Some(breach) = self.breach() else {
            self.over_since = None;
            return Judgement::Ok;
        };
        let since = *self.over_since.get_or_insert(now);
        let lasting = now.saturating_sub(since) >= self.settings.patience.as_secs();
        let waits = breach.budget != Budget::Divergence && !lasting;
        if waits || !self.settings.auto_rollback {
            return Judgement::Alert(breach);
        }
        self.walked = Some(breach);
        Judgement::WalkBack(breach)
    }

    /// The most severe exceeded budget: divergence before errors before latency.
    fn breach(&self) -> Option<Breach> {
        let sum = |of: fn(&Second) -> u64| self.seconds.iter().map(of).sum::<u64>();
        let over = |budget, figure: f64, limit: f64| {
            (figure > limit).then_some(Breach {
                budget,
                figure,
                limit,
                window_s: self.settings.window.as_secs(),
            })
        };
        let divergent = sum(|s| s.divergent) as f64;
        let divergence = over(
            Budget::Divergence,
            divergent,
            self.settings.divergence as f64,
        );
        let writes = sum(|s| s.writes);
        if divergence.is_some() || writes < self.settings.min_writes.max(1) {
            return divergence;
        }
        let share = sum(|s| s.failed) as f64 / writes as f64;
        over(Budget::ErrorShare, share, self.settings.error_share).or_else(|| {
            let p99 = seconds_of(self.percentile(writes, 99));
            // Latencies are rounded up to a bound, so the limit has to be rounded up too.
            let limit = seconds_of(bound_of(self.settings.p99));
            over(Budget::P99Seconds, p99, limit).map(|breach| Breach {
                limit: self.settings.p99.as_secs_f64(),
                ..breach
            })
        })
    }

    fn percentile(&self, writes: u64, percent: u64) -> usize {
        let wanted = (writes * percent).div_ceil(100);
        let mut seen = 0;
        (0..BOUNDS)
            .find(|bound| {
                let here = self.seconds.iter().map(|s| u64::from(s.latency[*bound]));
                seen += here.sum::<u64>();
                seen >= wanted
            })
            .unwrap_or(BOUNDS - 1)
    }
}

#[cfg(test)]
#[path = "guardrail_tests.rs"]
mod tests;
