//! `/health`, `/health/live`, `/health/ready`, `/metrics`.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::HttpState;
use super::problem::Problem;
use super::respond;
use super::schema;

/// A probe's answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Probe {
    /// `live`, `ready` or `not_ready`.
    #[schema(value_type = String, example = "ready")]
    status: &'static str,
}

fn status_of(serving: bool) -> StatusCode {
    if serving {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// How the service and its dependencies are.
#[utoipa::path(get, path = "/health", operation_id = "getHealth", tag = "health",
    responses(
        (status = 200, description = "It serves", body = schema::Health),
        (status = 503, description = "It does not", body = schema::Health)))]
pub async fn health(state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let report = state.service.health();
    let status = status_of(report.status != "unavailable");
    respond::json(HttpResponse::build(status), &report)
}

/// Whether the process is alive: it is when it answers.
#[utoipa::path(get, path = "/health/live", operation_id = "getLive", tag = "health",
    responses((status = 200, description = "It is", body = Probe)))]
pub async fn live() -> Result<HttpResponse, Problem> {
    respond::json(HttpResponse::Ok(), &Probe { status: "live" })
}

/// Whether requests should be sent here.
#[utoipa::path(get, path = "/health/ready", operation_id = "getReady", tag = "health",
    responses(
        (status = 200, description = "They should", body = Probe),
        (status = 503, description = "They should not", body = Probe)))]
pub async fn ready(state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let ready = state.service.is_ready();
    let probe = Probe {
        status: if ready { "ready" } else { "not_ready" },
    };
    respond::json(HttpResponse::build(status_of(ready)), &probe)
}

/// Every metric, for Prometheus.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "health",
    responses((status = 200, description = "Prometheus text format", body = String,
        content_type = "text/plain")))]
pub async fn metrics(state: web::Data<HttpState>) -> HttpResponse {
    const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, TEXT))
        .body(state.metrics.render())
}
