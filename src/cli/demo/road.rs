//! The migration during loading: from events in PostgreSQL to events in S3, back, and again to S3.
//! Each step is an operator's request; it is repeated when the service was killed meanwhile.

use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cli::output::{Output, field};
use crate::cli::remote::{Api, ApiError};
use crate::migration::stage::StageKind;
use crate::migration::switch_order::SwitchOrder;

/// Pause between two checks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long one step may take on a busy machine, including kill and restart.
const STEP_WITHIN: Duration = Duration::from_secs(120);

const MODE: &str = "/api/v1/admin/migration/mode";

/// The road as the demo walks it: the stage to reach, and whether gates of confidence are skipped, which
/// ask for hours that a demo does not have.
const ROAD: [(StageKind, bool); 5] = [
    (StageKind::DualWritePostgres, false),
    // Here stand the backfill and the verification; without them S3 would not be let lead.
    (StageKind::DualWriteS3, false),
    (StageKind::S3Only, true),
    (StageKind::Legacy, true),
    (StageKind::S3Only, true),
];

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct Walked {
    /// The stage it reached.
    pub to: String,
    /// How it ended.
    pub state: String,
    /// For how long the writes of a partition waited at most, in milliseconds; only where the lead
    /// moved.
    pub pause_ms: Option<f64>,
    /// Seconds from the request to its end.
    pub seconds: f64,
}

/// The result of the migration.
#[derive(Debug, Default, Serialize)]
pub struct Road {
    pub steps: Vec<Walked>,
    /// Events that the verification compared.
    pub verified_events: u64,
    /// Divergences that it found.
    pub divergences: u64,
}

/// Walks all steps; `current` is the service, whose address changes with a restart.
pub async fn walk(current: &watch::Receiver<Api>, output: Output) -> anyhow::Result<Road> {
    let mut road = Road::default();
    for (i, (goal, force)) in ROAD.into_iter().enumerate() {
        let begun = Instant::now();
        let switch = switch(current, goal, force).await?;
        let walked = walked(&switch, begun.elapsed());
        output.note(&format!(
            "{}: {}{}",
            walked.to,
            walked.state,
            match walked.pause_ms {
                Some(ms) => format!(", writes waited {ms:.0} ms at most"),
                None => String::new(),
            }
        ));
        road.steps.push(walked);
        if i == 0 {
            job(current, "backfill").await?;
            let report = job(current, "verify").await?["report"].clone();
            road.verified_events = report["events"].as_u64().unwrap_or_default();
            let found = report["divergences"].as_array();
            road.divergences = found.map_or(0, |all| all.len() as u64);
            output.note(&format!(
                "verified: {} events compared in both stores, {} divergences",
                road.verified_events, road.divergences
            ));
        }
    }
    Ok(road)
}

fn walked(switch: &Value, took: Duration) -> Walked {
    let edges = switch["edges"].as_array().into_iter().flatten();
    let pauses = edges.flat_map(|edge| edge["pause_ms"].as_object().into_iter().flatten());
    Walked {
        to: field(switch, "goal"),
        state: field(switch, "state"),
        pause_ms: pauses.filter_map(|(_, ms)| ms.as_f64()).reduce(f64::max),
        seconds: took.as_secs_f64(),
    }
}

/// Whether the request may succeed later: the service is starting, or busy with a switch.
fn passes(status: StatusCode, code: &str) -> bool {
    status.is_server_error() || code == "switch_under_way"
}

async fn switch(
    current: &watch::Receiver<Api>,
    goal: StageKind,
    force: bool,
) -> anyhow::Result<Value> {
    let begun = Instant::now();
    let order = SwitchOrder {
        force,
        ..SwitchOrder::to(goal, "demo")
    };
    loop {
        anyhow::ensure!(begun.elapsed() < STEP_WITHIN, "{goal} was not reached");
        let api = current.borrow().clone();
        let request = api.request(Method::POST, MODE).json(&order);
        let answer = match api.exchange(request).await {
            Ok(answer) => answer,
            Err(ApiError::Unreachable { .. }) => {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            Err(other) => return Err(other.into()),
        };
        let text: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        match answer.status {
            StatusCode::OK | StatusCode::ACCEPTED => {
                let Some(id) = text["switch"]["id"].as_str() else {
                    // The mode is reached already: a walk that was ordered before a kill has ended
                    // since.
                    return Ok(last(&api).await?.unwrap_or(text));
                };
                return ended(current, id).await;
            }
            status if passes(status, text["code"].as_str().unwrap_or_default()) => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            status => anyhow::bail!("{goal}: {status} {text}"),
        }
    }
}

async fn last(api: &Api) -> Result<Option<Value>, ApiError> {
    let page = api.get("/api/v1/admin/migration/history?limit=1").await?;
    Ok(page["items"].get(0).cloned())
}

async fn ended(current: &watch::Receiver<Api>, id: &str) -> anyhow::Result<Value> {
    let path = format!("/api/v1/admin/migration/switches/{id}");
    until(current, &path, |switch| !switch["ended"].is_null()).await
}

/// Runs a job to its end.
async fn job(current: &watch::Receiver<Api>, kind: &str) -> anyhow::Result<Value> {
    let path = format!("/api/v1/admin/migration/{kind}");
    let begun = Instant::now();
    loop {
        anyhow::ensure!(begun.elapsed() < STEP_WITHIN, "{kind} could not be started");
        let api = current.borrow().clone();
        match api.post(&path, &json!({})).await {
            Ok(_) => break,
            Err(ApiError::Unreachable { .. } | ApiError::Unavailable { .. }) => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(ApiError::Refused { code, .. }) if code == "job_running" => break,
            Err(other) => return Err(other).context(format!("{kind} was not started")),
        }
    }
    let over = |job: &Value| matches!(job["state"].as_str(), Some("done" | "failed" | "cancelled"));
    let job = until(current, &path, over).await?;
    anyhow::ensure!(job["state"] == "done", "{kind} ended as {job}");
    Ok(job)
}

async fn until(
    current: &watch::Receiver<Api>,
    path: &str,
    holds: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let begun = Instant::now();
    loop {
        anyhow::ensure!(
            begun.elapsed() < STEP_WITHIN,
            "{path} does not come to an end"
        );
        let api = current.borrow().clone();
        match api.get(path).await {
            Ok(found) if holds(&found) => return Ok(found),
            Ok(_) | Err(ApiError::Unreachable { .. } | ApiError::Unavailable { .. }) => {}
            Err(other) => return Err(other.into()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
