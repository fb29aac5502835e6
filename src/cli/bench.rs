//! `oms bench`: load from outside, as a client causes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde::Serialize;
use serde_json::json;

use super::exit::Exit;
use super::output::{Output, table};
use super::remote::{Api, ApiError, Remote};
use crate::clock::new_uuid;
use crate::metrics::{COMMITS, WRITES};

/// Put a running service under load
#[derive(Debug, clap::Subcommand)]
pub enum Bench {
    Append(Append),
}

/// Append events, each writer to its own stream, one request at a time
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes real events: use a service made for it.

Examples:
  oms bench append
  oms --json bench append --writers 1 --seconds 30 --bytes 256")]
pub struct Append {
    #[command(flatten)]
    remote: Remote,
    /// Writers at once
    #[arg(long, default_value_t = 64, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    writers: u32,
    /// How long to measure
    #[arg(long, default_value_t = 10, value_name = "S",
        value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How long to run before measuring
    #[arg(long, default_value_t = 1, value_name = "S",
        value_parser = clap::value_parser!(u64).range(0..=60))]
    warmup: u64,
    /// Bytes of an event's data
    #[arg(long, default_value_t = 1024, value_name = "B",
        value_parser = clap::value_parser!(u32).range(32..=65_536))]
    bytes: u32,
}

/// Bytes of an event's data around its filler: `{"n":"…","x":"…"}` with a number of 16 digits.
const AROUND_FILLER: usize = 31;

/// Pause after an answer of unavailability without a Retry-After.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize)]
struct Report {
    writers: u32,
    bytes: u32,
    seconds: f64,
    commits: usize,
    commits_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Requests answered 429 or 503, or not at all.
    unavailable: u64,
    /// From the service's metrics, over all its writers; absent when nothing was written.
    events_per_put: Option<f64>,
}

/// Shared by all writers.
struct Shared {
    api: Api,
    measuring: AtomicBool,
    stop: AtomicBool,
    unavailable: AtomicU64,
}

impl Bench {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        match self {
            Self::Append(append) => append.run(output).await,
        }
    }
}

impl Append {
    async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let api = self.remote.connect()?;
        // Fails early and clearly when the service is not there.
        api.get("/health/live").await?;
        let shared = Arc::new(Shared {
            api,
            measuring: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            unavailable: AtomicU64::new(0),
        });
        let run = new_uuid().simple().to_string();
        let filler = "x".repeat((self.bytes as usize).saturating_sub(AROUND_FILLER));
        let writers: Vec<_> = (0..self.writers)
            .map(|writer| {
                let path = format!("/api/v1/streams/bench/{run}-{writer}/events");
                tokio::spawn(write(shared.clone(), path, filler.clone()))
            })
            .collect();
        output.note(&format!("{} writers, stream bench/{run}-…", self.writers));
        tokio::time::sleep(Duration::from_secs(self.warmup)).await;
        let before = Counters::read(&shared.api).await?;
        let begun = Instant::now();
        shared.measuring.store(true, Ordering::Release);
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        shared.measuring.store(false, Ordering::Release);
        let elapsed = begun.elapsed();
        let after = Counters::read(&shared.api).await?;
        shared.stop.store(true, Ordering::Release);
        let mut latencies: Vec<Duration> = Vec::new();
        for writer in join_all(writers).await {
            latencies.extend(writer??);
        }
        latencies.sort_unstable();
        let report = Report {
            writers: self.writers,
            bytes: self.bytes,
            seconds: elapsed.as_secs_f64(),
            commits: latencies.len(),
            commits_per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
            p50_ms: percentile(&latencies, 0.50),
            p99_ms: percentile(&latencies, 0.99),
            max_ms: percentile(&latencies, 1.0),
            unavailable: shared.unavailable.load(Ordering::Relaxed),
            events_per_put: after.events_per_put_since(&before),
        };
        output.result(&report, || describe(&report))?;
        Ok(match report.commits {
            0 => Exit::Unavailable,
            _ => Exit::Done,
        })
    }
}

/// One writer, until it is stopped; returns the latencies of the writes acknowledged while
/// measuring.
async fn write(
    shared: Arc<Shared>,
    path: String,
    filler: String,
) -> Result<Vec<Duration>, ApiError> {
    let mut latencies = Vec::new();
    let mut number = 0u64;
    while !shared.stop.load(Ordering::Acquire) {
        number += 1;
        let data = json!({ "n": format!("{number:016}"), "x": filler });
        let body = json!({ "events": [{ "type": "BenchAppended", "data": data }] });
        let began = Instant::now();
        let measured = shared.measuring.load(Ordering::Acquire);
        let request = shared.api.request(Method::POST, &path).json(&body);
        match shared.api.send(request).await {
            Ok(_) => {
                if measured && shared.measuring.load(Ordering::Acquire) {
                    latencies.push(began.elapsed());
                }
            }
            Err(ApiError::Unavailable { retry_after, .. }) => {
                shared.unavailable.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(retry_after.unwrap_or(PAUSE)).await;
            }
            Err(ApiError::Unreachable { .. }) => {
                shared.unavailable.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                shared.stop.store(true, Ordering::Release);
                return Err(error);
            }
        }
    }
    Ok(latencies)
}

/// The two counters whose ratio is the number of events per PUT.
struct Counters {
    events: f64,
    puts: f64,
}

impl Counters {
    async fn read(api: &Api) -> Result<Self, ApiError> {
        let metrics = api.text("/metrics").await?;
        Ok(Self {
            events: sum(&metrics, WRITES),
            puts: sum(&metrics, COMMITS),
        })
    }

    fn events_per_put_since(&self, before: &Self) -> Option<f64> {
        let puts = self.puts - before.puts;
        (puts > 0.0).then(|| (self.events - before.events) / puts)
    }
}

/// The sum of a metric over all its labels, from Prometheus' text format.
pub fn sum(metrics: &str, name: &str) -> f64 {
    let of_name = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    of_name.sum()
}

/// The smallest value, in milliseconds, that at least this share of the sorted values do not exceed;
/// 0 of none.
pub fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let at = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted[at.min(last)].as_secs_f64() * 1000.0
}

fn describe(report: &Report) -> String {
    let per_put = report
        .events_per_put
        .map_or_else(|| "-".to_owned(), |n| format!("{n:.1}"));
    table(
        [
            "commits/s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "events per PUT",
            "commits",
            "unavailable",
        ],
        [[
            format!("{:.0}", report.commits_per_second),
            format!("{:.2}", report.p50_ms),
            format!("{:.2}", report.p99_ms),
            format!("{:.2}", report.max_ms),
            per_put,
            report.commits.to_string(),
            report.unavailable.to_string(),
        ]],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_over_its_namesakes() {
        let text = "\
# HELP a_total help
a_total{x=\"1\",y=\"}\"} 2
a_total{x=\"2\"} 3.5
a_total_more 100
a_total 1 1700000000
b_total 7
";
        assert_eq!(sum(text, "a_total"), 6.5);
        assert_eq!(sum(text, "absent"), 0.0);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let ms: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&ms, 0.50), 50.0);
        assert_eq!(percentile(&ms, 0.99), 99.0);
        assert_eq!(percentile(&ms, 1.0), 100.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
