//! Sends spans to a collector. Nothing waits for it: what a collector that is away or slow does not
//! take fills a queue of limited size, and what finds that full is dropped and counted.

use std::time::Duration;

use metrics::counter;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, Url};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::otlp;
use crate::clock;
use crate::config::telemetry::TelemetryConfig;
use crate::metrics::{SPANS_DROPPED, SPANS_EXPORTED};
use crate::store::traces::{self, FinishedSpan};

/// Spans that wait at most: some seconds of a busy service, in a few megabytes.
const QUEUE: usize = 8192;

/// Spans of one request: what OpenTelemetry's own exporters send.
const BATCH: usize = 512;

/// How long a span waits for others to go with it.
const DELAY: Duration = Duration::from_millis(500);

/// How long a collector may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Pauses before the same spans are sent again; then they are dropped.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// The export of this process's spans.
pub struct Export {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Begins to record and to export, if an endpoint is configured. `instance` tells this process from
/// others of the same service; `direct`: past the proxies of the environment.
pub fn start(
    config: &TelemetryConfig,
    instance: &str,
    direct: bool,
    io: &Handle,
) -> Result<Option<Export>, String> {
    let Some(url) = config.traces_url() else {
        return Ok(None);
    };
    let url = url?;
    let mut client = Client::builder()
        .timeout(ANSWER)
        .redirect(reqwest::redirect::Policy::none());
    if direct {
        client = client.no_proxy();
    }
    let client = client.build().map_err(|e| e.to_string())?;
    let Some(spans) = traces::install(config.traces_ratio, QUEUE, clock::now) else {
        return Err("traces are set up twice".into());
    };
    tracing::info!(%url, ratio = config.traces_ratio, "traces are sent to {url}");
    let sender = Sender {
        client,
        url,
        resource: otlp::resource(&config.service_name, instance),
        failing: false,
    };
    let (stop, stopped) = oneshot::channel();
    let task = io.spawn(run(spans, sender, stopped));
    Ok(Some(Export { stop, task }))
}

impl Export {
    /// Ends it: nothing more is recorded, and what waits is sent for so long at most.
    pub async fn end(self, patience: Duration) {
        let Self { stop, mut task } = self;
        // Whoever does not listen any more has ended.
        let _ = stop.send(());
        if timeout(patience, &mut task).await.is_err() {
            task.abort();
            tracing::warn!(
                "the last spans of traces are not sent: the collector does not take them"
            );
        }
    }
}

async fn run(
    mut spans: mpsc::Receiver<FinishedSpan>,
    mut sender: Sender,
    mut stop: oneshot::Receiver<()>,
) {
    let mut batch = Vec::new();
    let mut stopping = false;
    loop {
        let full = fill(&mut spans, &mut batch);
        let more = if stopping {
            full.await
        } else {
            let stopped = tokio::select! {
                more = full => Some(more),
                _ = &mut stop => None,
            };
            match stopped {
                Some(more) => more,
                None => {
                    stopping = true;
                    spans.close();
                    continue;
                }
            }
        };
        if !batch.is_empty() {
            sender.send(std::mem::take(&mut batch)).await;
        }
        if !more {
            return;
        }
    }
}

/// Waits for a span, and then a moment for others. What it has put into `batch` stays there when it is
/// dropped. False when nothing more will come.
async fn fill(spans: &mut mpsc::Receiver<FinishedSpan>, batch: &mut Vec<FinishedSpan>) -> bool {
    if batch.is_empty() && spans.recv_many(batch, BATCH).await == 0 {
        return false;
    }
    let until = Instant::now() + DELAY;
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        match timeout_at(until, spans.recv_many(batch, room)).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    true
}

struct Sender {
    client: Client,
    url: Url,
    resource: Resource,
    /// Whether the log says already that the collector does not take spans.
    failing: bool,
}

/// Why spans were not taken.
struct Failure {
    reason: &'static str,
    message: String,
    /// Whether another attempt may do better.
    again: bool,
}

impl Sender {
    /// Sends one batch, more than once if need be.
    async fn send(&mut self, batch: Vec<FinishedSpan>) {
        let count = batch.len() as u64;
        let body = bytes::Bytes::from(otlp::request(&self.resource, batch).encode_to_vec());
        let mut pauses = PAUSES.iter();
        let failure = loop {
            match self.post(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    counter!(SPANS_EXPORTED).increment(count - rejected);
                    counter!(SPANS_DROPPED, "reason" => "refused").increment(rejected);
                    self.recovered();
                    return;
                }
                Err(failure) => match pauses.next() {
                    Some(pause) if failure.again => sleep(*pause).await,
                    _ => break failure,
                },
            }
        };
        counter!(SPANS_DROPPED, "reason" => failure.reason).increment(count);
        if !self.failing {
            self.failing = true;
            let (url, error) = (&self.url, failure.message);
            tracing::warn!(%url, error,
                "the collector does not take traces; they are dropped, and nothing else waits");
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!(url = %self.url, "the collector takes traces again");
        }
        traces::recovered();
    }

    /// Posts a request; returns how many of its spans the collector refused.
    async fn post(&self, body: bytes::Bytes) -> Result<u64, Failure> {
        let unreachable = |e: reqwest::Error| Failure {
            reason: "unreachable",
            message: chain(&e),
            again: true,
        };
        let request = self.client.post(self.url.clone()).body(body);
        let request = request.header(CONTENT_TYPE, "application/x-protobuf");
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(Failure {
                reason: "refused",
                message: format!("it answers {status}"),
                // The statuses at which OTLP asks for another attempt.
                again: [
                    StatusCode::TOO_MANY_REQUESTS,
                    StatusCode::BAD_GATEWAY,
                    StatusCode::SERVICE_UNAVAILABLE,
                    StatusCode::GATEWAY_TIMEOUT,
                ]
                .contains(&status),
            });
        }
        let body = answer.bytes().await.map_err(unreachable)?;
        // Some answer with an empty JSON object: then nothing was refused.
        let answer = ExportTraceServiceResponse::decode(body).unwrap_or_default();
        let rejected = answer.partial_success.map_or(0, |p| p.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or(0))
    }
}

/// An error with its causes, which `reqwest` keeps to itself.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
