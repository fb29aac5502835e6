//! The last hour of this process's metrics, in memory, for use without Prometheus.
//!
//! Every few seconds the exporter's text is parsed and a fixed number of figures is stored, in a
//! ring of fixed length: [`SAMPLES`] times [`FIGURES`] numbers of four bytes, at most.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{
    ADMISSION_REJECTS, COMMITS, DEAD_LETTERS, DEPENDENCY_FAILED, DEPENDENCY_SECONDS, ESCALATIONS,
    Exporter, HTTP_REQUESTS, HTTP_SECONDS, LIVE_AGGREGATES, MAILBOX_WAIT, MOVING, OUTBOX_DEPTH,
    OUTBOX_OLDEST, PROJECTION_LAG, PROJECTION_POISON, PUBLISH_FAILED, PUBLISHED, READS,
    RELAY_SECONDS, RESTARTS, UNMIRRORED, WRITE_SECONDS, WRITES,
};

/// Pause between two samples: as often as the gauges are measured.
pub const EVERY: Duration = Duration::from_secs(5);
/// Samples kept: one hour.
pub const SAMPLES: usize = 720;

/// How a figure is computed from the metrics.
#[derive(Debug, Clone, Copy)]
enum From {
    /// Growth of a counter per second, over all its labels.
    Rate(&'static str),
    /// [`From::Rate`] of the lines with a label that begins like this.
    RateOf(&'static str, &'static str),
    /// The sum over all labels; absent if unknown.
    Sum(&'static str),
    /// The maximum over all labels.
    Max(&'static str),
    /// A quantile of a histogram's values since the last sample; absent without any.
    Quantile(&'static str, f64),
    /// [`From::Quantile`] of the lines with a label that begins like this.
    QuantileOf(&'static str, &'static str, f64),
}

/// A figure that is kept.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Its stable name.
    pub name: &'static str,
    /// `per_second`, `seconds` or `count`.
    pub unit: &'static str,
    /// The metric from which it is computed.
    pub metric: &'static str,
    from: From,
}

const fn figure(name: &'static str, unit: &'static str, from: From) -> Figure {
    let metric = match from {
        From::Rate(m)
        | From::RateOf(m, _)
        | From::Sum(m)
        | From::Max(m)
        | From::Quantile(m, _)
        | From::QuantileOf(m, _, _) => m,
    };
    Figure {
        name,
        unit,
        metric,
        from,
    }
}

/// All figures, in the order of [`Sample::values`].
pub const FIGURES: &[Figure] = &[
    figure("writes", "per_second", From::Rate(WRITES)),
    figure("commits", "per_second", From::Rate(COMMITS)),
    figure("reads", "per_second", From::Rate(READS)),
    figure("requests", "per_second", From::Rate(HTTP_REQUESTS)),
    figure(
        "server_errors",
        "per_second",
        From::RateOf(HTTP_REQUESTS, "status_class=\"5"),
    ),
    figure("rejects", "per_second", From::Rate(ADMISSION_REJECTS)),
    figure("write_p50", "seconds", From::Quantile(WRITE_SECONDS, 0.5)),
    figure("write_p99", "seconds", From::Quantile(WRITE_SECONDS, 0.99)),
    figure("request_p99", "seconds", From::Quantile(HTTP_SECONDS, 0.99)),
    figure("s3_p99", "seconds", dependency_p99("dependency=\"s3\"")),
    figure(
        "postgres_p99",
        "seconds",
        dependency_p99("dependency=\"postgres\""),
    ),
    figure(
        "kafka_p99",
        "seconds",
        dependency_p99("dependency=\"kafka\""),
    ),
    figure(
        "s3_failures",
        "per_second",
        From::RateOf(DEPENDENCY_FAILED, "dependency=\"s3\""),
    ),
    figure(
        "postgres_failures",
        "per_second",
        From::RateOf(DEPENDENCY_FAILED, "dependency=\"postgres\""),
    ),
    figure(
        "kafka_failures",
        "per_second",
        From::RateOf(DEPENDENCY_FAILED, "dependency=\"kafka\""),
    ),
    figure("published", "per_second", From::Rate(PUBLISHED)),
    figure("publish_failures", "per_second", From::Rate(PUBLISH_FAILED)),
    figure("relay_p99", "seconds", From::Quantile(RELAY_SECONDS, 0.99)),
    figure("outbox_depth", "count", From::Sum(OUTBOX_DEPTH)),
    figure("outbox_oldest", "seconds", From::Max(OUTBOX_OLDEST)),
    figure("dead_letters", "count", From::Sum(DEAD_LETTERS)),
    figure("projection_lag", "count", From::Sum(PROJECTION_LAG)),
    figure("projection_parked", "count", From::Sum(PROJECTION_POISON)),
    figure("unmirrored", "count", From::Sum(UNMIRRORED)),
    figure("handoffs_under_way", "count", From::Sum(MOVING)),
    figure("live_aggregates", "count", From::Sum(LIVE_AGGREGATES)),
    figure("mailbox_p99", "seconds", From::Quantile(MAILBOX_WAIT, 0.99)),
    figure("restarts", "count", From::Sum(RESTARTS)),
    figure("escalations", "count", From::Sum(ESCALATIONS)),
];

const fn dependency_p99(label: &'static str) -> From {
    From::QuantileOf(DEPENDENCY_SECONDS, label, 0.99)
}

/// All figures at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// One number for each of [`FIGURES`]; NaN if unknown.
    pub values: [f32; FIGURES.len()],
}

/// The input of a figure at one time.
#[derive(Debug, Clone, PartialEq)]
enum Raw {
    /// `None` if there is no such line.
    Number(Option<f64>),
    /// Bounds, with the number of values at or below each.
    Buckets(Vec<(f64, f64)>),
}

#[derive(Debug, Default)]
struct State {
    before: Option<(Instant, Vec<Raw>)>,
    ring: VecDeque<Sample>,
}

/// The ring of samples.
#[derive(Debug, Default)]
pub struct Recent(Mutex<State>);

impl Recent {
    /// Takes a sample of the current metrics.
    pub fn sample(&self, exporter: &Exporter, at_ms: i64) {
        self.take(&exporter.render(), at_ms, Instant::now());
    }

    /// `at_ms` is the clock's time, which may jump; `looked` measures the interval.
    fn take(&self, text: &str, at_ms: i64, looked: Instant) {
        let now = read(text);
        let mut state = self.0.lock();
        // After the clock was set back, samples with later times would hide those that follow.
        while state.ring.back().is_some_and(|s| s.at_ms >= at_ms) {
            state.ring.pop_back();
        }
        if let Some((last, before)) = state.before.take() {
            let seconds = looked.duration_since(last).as_secs_f64();
            let mut values = [f32::NAN; FIGURES.len()];
            for (i, figure) in FIGURES.iter().enumerate() {
                values[i] = value(figure.from, &before[i], &now[i], seconds) as f32;
            }
            if state.ring.len() == SAMPLES {
                state.ring.pop_front();
            }
            state.ring.push_back(Sample { at_ms, values });
        }
        state.before = Some((looked, now));
    }

    /// The samples after this time, oldest first; all of them if the newest is earlier, because the
    /// clock was set back.
    pub fn since(&self, after_ms: i64) -> Vec<Sample> {
        let state = self.0.lock();
        let leapt = state.ring.back().is_some_and(|s| s.at_ms < after_ms);
        let after_ms = if leapt { i64::MIN } else { after_ms };
        let kept = state.ring.iter();
        kept.filter(|s| s.at_ms > after_ms).cloned().collect()
    }
}

fn value(from: From, before: &Raw, now: &Raw, seconds: f64) -> f64 {
    match (from, before, now) {
        (From::Rate(_) | From::RateOf(..), Raw::Number(before), Raw::Number(Some(now))) => {
            let grown = now - before.unwrap_or(0.0);
            if seconds > 0.0 && grown >= 0.0 {
                grown / seconds
            } else {
                f64::NAN
            }
        }
        (From::Sum(_) | From::Max(_), _, Raw::Number(Some(now))) => *now,
        (
            From::Quantile(_, q) | From::QuantileOf(_, _, q),
            Raw::Buckets(before),
            Raw::Buckets(now),
        ) => quantile(q, before, now),
        _ => f64::NAN,
    }
}

/// The quantile of the values between two samples, by linear interpolation within a bucket.
fn quantile(q: f64, before: &[(f64, f64)], now: &[(f64, f64)]) -> f64 {
    let was = |bound: f64| {
        let same = before.iter().find(|(b, _)| *b == bound);
        same.map_or(0.0, |(_, count)| *count)
    };
    let came: Vec<(f64, f64)> = now.iter().map(|&(b, n)| (b, n - was(b))).collect();
    let total = came.last().map_or(0.0, |(_, n)| *n);
    if total <= 0.0 {
        return f64::NAN;
    }
    let rank = q * total;
    let (mut below, mut floor) = (0.0, 0.0);
    for (bound, count) in came {
        if count >= rank {
            return match bound.is_finite() && count > below {
                true => floor + (bound - floor) * (rank - below) / (count - below),
                false => floor,
            };
        }
        (below, floor) = (count, bound);
    }
    floor
}

/// Parses the inputs from our own output in Prometheus' text format.
fn read(text: &str) -> Vec<Raw> {
    let mut raw: Vec<Raw> = FIGURES
        .iter()
        .map(|f| match f.from {
            From::Quantile(..) | From::QuantileOf(..) => Raw::Buckets(Vec::new()),
            _ => Raw::Number(None),
        })
        .collect();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let Some((series, number)) = line.rsplit_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse::<f64>() else {
            continue;
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        for (figure, raw) in FIGURES.iter().zip(&mut raw) {
            if let Some(rest) = name.strip_prefix(figure.metric) {
                add(figure.from, rest, labels, number, raw);
            }
        }
    }
    for raw in &mut raw {
        if let Raw::Buckets(buckets) = raw {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
    }
    raw
}

/// `rest` is what follows the metric's name in the name of the line.
fn add(from: From, rest: &str, labels: &str, number: f64, raw: &mut Raw) {
    let wanted = match from {
        From::RateOf(_, label) | From::QuantileOf(_, label, _) => labels.contains(label),
        _ => true,
    };
    if !wanted {
        return;
    }
    match (raw, from) {
        (Raw::Number(sum), From::Max(_)) if rest.is_empty() => {
            *sum = Some(sum.map_or(number, |s| s.max(number)));
        }
        (Raw::Number(sum), _) if rest.is_empty() => *sum = Some(sum.unwrap_or(0.0) + number),
        (Raw::Buckets(buckets), _) if rest == "_bucket" => {
            let Some(bound) = le(labels) else {
                return;
            };
            match buckets.iter_mut().find(|(b, _)| *b == bound) {
                Some((_, count)) => *count += number,
                None => buckets.push((bound, number)),
            }
        }
        _ => {}
    }
}

fn le(labels: &str) -> Option<f64> {
    let (_, rest) = labels.split_once("le=\"")?;
    let (bound, _) = rest.split_once('"')?;
    match bound {
        "+Inf" => Some(f64::INFINITY),
        bound => bound.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure_of(sample: &Sample, name: &str) -> f32 {
        let at = FIGURES.iter().position(|f| f.name == name).expect("known");
        sample.values[at]
    }

    const FIRST: &str = "\
# HELP event_store_writes_total x
event_store_writes_total{aggregate_type=\"class\",event_type=\"ClassCreated\"} 10
oms_http_requests_total{method=\"GET\",route=\"/x\",status_class=\"2xx\"} 5
event_store_write_duration_seconds_bucket{aggregate_type=\"class\",le=\"0.01\"} 4
event_store_write_duration_seconds_bucket{aggregate_type=\"class\",le=\"0.1\"} 4
event_store_write_duration_seconds_bucket{aggregate_type=\"class\",le=\"+Inf\"} 4
";
    const SECOND: &str = "\
event_store_writes_total{aggregate_type=\"class\",event_type=\"ClassCreated\"} 20
event_store_writes_total{aggregate_type=\"instance\",event_type=\"InstanceCreated\"} 15
oms_http_requests_total{method=\"GET\",route=\"/x\",status_class=\"2xx\"} 5
oms_http_requests_total{method=\"GET\",route=\"/x\",status_class=\"5xx\"} 10
oms_outbox_depth 7
oms_unmirrored_commits{partition=\"0\"} 2
oms_unmirrored_commits{partition=\"1\"} 3
event_store_write_duration_seconds_bucket{aggregate_type=\"class\",le=\"0.01\"} 4
event_store_write_duration_seconds_bucket{aggregate_type=\"class\",le=\"0.1\"} 104
event_store_write_duration_seconds_bucket{aggregate_type=\"class\",le=\"+Inf\"} 104
";

    #[test]
    fn figures_follow_from_what_is_exported() {
        let recent = Recent::default();
        let first = Instant::now();
        recent.take(FIRST, 0, first);
        assert!(recent.since(-1).is_empty(), "one look tells no rate");
        recent.take(SECOND, 5_000, first + EVERY);
        let samples = recent.since(-1);
        let sample = &samples[0];
        assert_eq!(figure_of(sample, "writes"), 5.0);
        assert_eq!(figure_of(sample, "requests"), 2.0);
        assert_eq!(figure_of(sample, "server_errors"), 2.0);
        assert_eq!(figure_of(sample, "outbox_depth"), 7.0);
        assert_eq!(figure_of(sample, "unmirrored"), 5.0);
        assert!((figure_of(sample, "write_p50") - 0.055).abs() < 1e-6);
        let unknown = figure_of(sample, "dead_letters");
        assert!(unknown.is_nan(), "what is not exported is not known");
    }

    #[test]
    fn law_13_the_ring_has_an_end() {
        let recent = Recent::default();
        let first = Instant::now();
        for i in 0..(SAMPLES as u32 + 10) {
            recent.take(SECOND, i64::from(i) * 5_000, first + EVERY * i);
        }
        let samples = recent.since(-1);
        assert_eq!(samples.len(), SAMPLES);
        assert_eq!(samples[SAMPLES - 1].at_ms, (SAMPLES as i64 + 9) * 5_000);
        assert_eq!(recent.since(samples[SAMPLES - 3].at_ms).len(), 2);
        let quiet = figure_of(&samples[1], "write_p99");
        assert!(
            quiet.is_nan(),
            "where nothing was written nothing took long"
        );
    }

    #[test]
    fn a_leap_of_the_clock_changes_no_rate_and_hides_nothing() {
        let recent = Recent::default();
        let first = Instant::now();
        recent.take(FIRST, 0, first);
        recent.take(SECOND, 5_000, first + EVERY);
        // An hour on: what was counted took five seconds all the same.
        let hour = 3_600_000;
        recent.take(FIRST, hour, first + EVERY * 2);
        recent.take(SECOND, hour + 5_000, first + EVERY * 3);
        let samples = recent.since(5_000);
        assert_eq!(figure_of(&samples[1], "writes"), 5.0);
        // The clock is set back: a reader of the last sample still gets those that follow.
        recent.take(SECOND, 10_000, first + EVERY * 4);
        let since = |at| -> Vec<i64> { recent.since(at).iter().map(|s| s.at_ms).collect() };
        assert_eq!(since(hour + 5_000), [5_000, 10_000]);
        assert_eq!(since(5_000), [10_000]);
        assert!(since(10_000).is_empty());
    }

    #[test]
    fn every_figure_is_of_a_declared_metric_of_its_kind() {
        for figure in FIGURES {
            let declared = super::super::ALL.iter().find(|m| m.name == figure.metric);
            let kind = declared.expect(figure.metric).kind;
            let fits = match figure.from {
                From::Rate(_) | From::RateOf(..) => kind == super::super::Kind::Counter,
                From::Sum(_) | From::Max(_) => kind != super::super::Kind::Histogram,
                From::Quantile(..) | From::QuantileOf(..) => kind == super::super::Kind::Histogram,
            };
            assert!(fits, "{}", figure.name);
            let names = FIGURES.iter().filter(|f| f.name == figure.name);
            assert_eq!(names.count(), 1, "{}", figure.name);
        }
    }
}
