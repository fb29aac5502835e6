//! `/health`, `/health/live`, `/health/ready`, `/metrics`.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::HttpState;
use super::problem::Problem;
use super::respond;
use crate::domain::ids::PartitionId;
use crate::service::operations::{Dependencies, HealthReport, HealthState};

/// What a probe finds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeState {
    /// The process lives.
    Live,
    /// Requests should be sent here.
    Ready,
    /// They should not.
    NotReady,
}

/// A probe's answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Probe {
    /// `live`, or `ready` or `not_ready`.
    status: ProbeState,
    /// Partitions that are not open yet, or whose leader is not known; absent without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<PartitionId>,
}

fn status_of(serving: bool) -> StatusCode {
    if serving {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// Tells the log why the last calls failed; the answer does not.
fn log_causes(dependencies: &Dependencies) {
    let all = [
        ("s3", &dependencies.s3),
        ("postgres", &dependencies.postgres),
        ("kafka", &dependencies.kafka),
    ];
    for (dependency, status) in all {
        if let Some(cause) = &status.error {
            tracing::debug!(dependency, cause, "{dependency} is down: {cause}");
        }
    }
}

/// The health of the service and its dependencies.
#[utoipa::path(get, path = "/health", operation_id = "getHealth", tag = "health",
    responses(
        (status = 200, description = "It serves", body = HealthReport),
        (status = 503, description = "It does not", body = HealthReport)))]
pub async fn health(state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let report = state.service.health();
    log_causes(&report.dependencies);
    let status = status_of(report.status != HealthState::Unavailable);
    respond::json(HttpResponse::build(status), &report)
}

/// Whether the process is alive: it is when it answers.
#[utoipa::path(get, path = "/health/live", operation_id = "getLive", tag = "health",
    responses((status = 200, description = "It is", body = Probe)))]
pub async fn live() -> Result<HttpResponse, Problem> {
    let probe = Probe {
        status: ProbeState::Live,
        partitions: Vec::new(),
    };
    respond::json(HttpResponse::Ok(), &probe)
}

/// Whether requests should be sent here.
#[utoipa::path(get, path = "/health/ready", operation_id = "getReady", tag = "health",
    responses(
        (status = 200, description = "They should", body = Probe),
        (status = 503, description = "They should not", body = Probe)))]
pub async fn ready(state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let partitions = state.service.not_ready();
    let ready = partitions.is_empty();
    let probe = Probe {
        status: if ready {
            ProbeState::Ready
        } else {
            ProbeState::NotReady
        },
        partitions,
    };
    respond::json(HttpResponse::build(status_of(ready)), &probe)
}

/// Every metric, for Prometheus.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "health",
    responses((status = 200, description = "Prometheus text format", body = String,
        content_type = "text/plain")))]
pub async fn metrics(state: web::Data<HttpState>) -> HttpResponse {
    const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    state.limits.measure();
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, TEXT))
        .body(state.metrics.render())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::health::{DependencyState, DependencyStatus};

    #[test]
    fn the_public_document_does_not_quote_dependencies() {
        let down = || DependencyStatus {
            state: DependencyState::Down,
            latency_ms: 0.0,
            since: "2026-01-02T03:04:05Z".parse().unwrap(),
            error: Some("http://10.0.0.7:9000 refused".into()),
        };
        let dependencies = Dependencies {
            s3: down(),
            postgres: down(),
            kafka: down(),
        };
        let shown = serde_json::to_string(&dependencies).unwrap();
        assert!(shown.contains("down"));
        assert!(!shown.contains("10.0.0.7"), "{shown}");
    }
}
