//! `GET /api/v1/admin/metrics`: the last hour of this process, from memory.

use actix_web::{HttpResponse, web};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::HttpState;
use super::extract::Params;
use super::problem::{self, Problem};
use super::respond;
use crate::metrics::recent::{EVERY, FIGURES, SAMPLES};

/// Which part of the last hour.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecentParams {
    /// Only samples taken later than this: the last of `times` asks for what is new. Later than the
    /// newest sample it asks for all, since the clock was set back then.
    #[param(value_type = Option<String>, format = DateTime)]
    after: Option<String>,
}

/// A figure, over time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecentFigure)]
pub struct FigureView {
    /// Its stable name.
    #[schema(example = "write_p99")]
    name: &'static str,
    /// `per_second`, `seconds` or `count`.
    #[schema(example = "seconds")]
    unit: &'static str,
    /// The metric of `/metrics` from which it is computed.
    #[schema(example = "event_store_write_duration_seconds")]
    metric: &'static str,
    /// One value for each of `times`; null where nothing is known.
    values: Vec<Option<f32>>,
}

/// The samples that this process has kept of its metrics.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecentMetrics)]
pub struct RecentView {
    /// Pause between two samples, in seconds.
    every_seconds: u64,
    /// Samples kept at most.
    kept: usize,
    /// When each sample was taken, the oldest first.
    times: Vec<Timestamp>,
    /// The figures.
    figures: Vec<FigureView>,
}

/// The last hour of this process, from memory: rates, quantiles and depths, one sample every few
/// seconds. For longer times, and for several processes, there is `/metrics` and Prometheus.
#[utoipa::path(get, path = "/api/v1/admin/metrics", operation_id = "getRecentMetrics",
    tag = "admin", params(RecentParams),
    responses((status = 200, description = "The samples", body = RecentView)))]
pub async fn recent(
    state: web::Data<HttpState>,
    Params(params): Params<RecentParams>,
) -> Result<HttpResponse, Problem> {
    let after = match params.after.as_deref().map(str::parse::<Timestamp>) {
        None => i64::MIN,
        Some(Ok(after)) => after.as_millisecond(),
        Some(Err(_)) => {
            let message = "after must be a time as RFC 3339 writes it";
            return Err(Problem::new(problem::INVALID_QUERY, message).subject("after"));
        }
    };
    let samples = state.recent.since(after);
    let times = samples
        .iter()
        .map(|s| Timestamp::from_millisecond(s.at_ms))
        .collect::<Result<_, _>>()
        .map_err(|e| Problem::internal(e.to_string()))?;
    let figures = FIGURES.iter().enumerate().map(|(i, figure)| FigureView {
        name: figure.name,
        unit: figure.unit,
        metric: figure.metric,
        values: samples
            .iter()
            .map(|s| Some(s.values[i]).filter(|v| v.is_finite()))
            .collect(),
    });
    let view = RecentView {
        every_seconds: EVERY.as_secs(),
        kept: SAMPLES,
        times,
        figures: figures.collect(),
    };
    respond::json(HttpResponse::Ok(), &view)
}
