//! `/api/v1/admin/migration`: where the migration stands, and orders to switch.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{LOCATION, RETRY_AFTER};
use actix_web::{HttpResponse, web};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::HttpState;
use super::extract::{Command, Params};
use super::path::SwitchPath;
use super::problem::{self, Problem};
use super::respond;
use crate::migration::switch::Switch;
use crate::migration::switch_order::SwitchOrder;
use crate::service::migration::{HISTORY_PAGE, MigrationReport, Planned, SwitchAnswer};

/// How long a switch is awaited before it is answered with 202: most edges take less.
const WAIT: Duration = Duration::from_secs(5);

/// The state of the migration, as this process knows it.
#[utoipa::path(get, path = "/api/v1/admin/migration", operation_id = "getMigration", tag = "admin",
    responses((status = 200, description = "Mode, lead, epoch, each partition, the switch under way",
        body = MigrationReport)))]
pub async fn status(state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    respond::json(HttpResponse::Ok(), &state.service.migration())
}

/// How far an order has come when it is answered.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SwitchStatus {
    /// What was asked for is so.
    Done,
    /// Only the gates were asked for.
    Planned,
    /// It goes on.
    Walking,
}

/// The answer to an order to switch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SwitchAnswer)]
pub struct SwitchBody<'a> {
    /// `done`, `planned` (only the gates were asked for) or `walking`.
    status: SwitchStatus,
    /// Whether it could begin now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    may_begin: Option<bool>,
    /// The edges on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    edges: Option<&'a [Planned]>,
    /// The switch that walks, or has walked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    switch: Option<&'a Switch>,
    /// How the migration stands now.
    migration: MigrationReport,
}

/// Switches the mode, or says what stands in the way.
#[utoipa::path(post, path = "/api/v1/admin/migration/mode", operation_id = "switchMode",
    tag = "admin", request_body = SwitchOrder,
    responses(
        (status = 200, description = "It is so, or the dry run's answer", body = SwitchBody),
        (status = 202, description = "It is walked; `Location` tells how far",
            body = SwitchBody),
        (status = 409, content_type = "application/problem+json",
            description = "Gates do not hold (`gates_failed`), another switch is under way \
            (`switch_under_way`), or it was undone (`switch_undone`); nothing is lost",
            body = SwitchProblem)))]
pub async fn switch_mode(
    state: web::Data<HttpState>,
    command: Command<SwitchOrder>,
) -> Result<HttpResponse, Problem> {
    let order = command.body;
    let dry_run = order.dry_run;
    let by = &command.ctx.principal;
    let answer = state.service.switch_mode(order, by, WAIT).await?;
    let body = |status, may_begin, edges, switch| SwitchBody {
        status,
        may_begin,
        edges,
        switch,
        migration: state.service.migration(),
    };
    match &answer {
        SwitchAnswer::Planned { edges, may_begin } => {
            let status = if dry_run {
                SwitchStatus::Planned
            } else {
                SwitchStatus::Done
            };
            let body = body(status, Some(*may_begin), Some(edges.as_slice()), None);
            respond::json(HttpResponse::Ok(), &body)
        }
        SwitchAnswer::Ended(switch) if switch.state.as_str() == "done" => respond::json(
            HttpResponse::Ok(),
            &body(SwitchStatus::Done, None, None, Some(switch)),
        ),
        SwitchAnswer::Walking(switch) => {
            let mut response = HttpResponse::build(StatusCode::ACCEPTED);
            response.insert_header((LOCATION, progress_url(switch)));
            respond::json(
                response,
                &body(SwitchStatus::Walking, None, None, Some(switch)),
            )
        }
        SwitchAnswer::Ended(switch) => refused(
            ended_code(switch),
            switch.error.as_deref(),
            None,
            Some(switch),
        ),
        SwitchAnswer::Refused { switch, edges } => {
            refused("gates_failed", None, Some(edges), Some(switch))
        }
        SwitchAnswer::Busy(switch) => refused("switch_under_way", None, None, switch.as_ref()),
    }
}

fn progress_url(switch: &Switch) -> String {
    format!("/api/v1/admin/migration/switches/{}", switch.id)
}

fn ended_code(switch: &Switch) -> &'static str {
    match switch.state.as_str() {
        "undone" => "switch_undone",
        "refused" => "gates_failed",
        _ => "switch_failed",
    }
}

/// Why an order to switch was not carried out: a problem document with what stands in the way.
#[derive(Debug, Serialize, ToSchema)]
pub struct SwitchProblem<'a> {
    /// `urn:oms:problem:` and the code.
    r#type: String,
    /// What the code means, the same for every occurrence.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// `gates_failed`, `switch_under_way`, `switch_undone` or `switch_failed`; `no_postgres` where
    /// there is nothing to migrate from or to.
    code: &'static str,
    /// What is wrong this time and what would be right.
    detail: String,
    /// The edges on the way, with what their gates say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    edges: Option<&'a [Planned]>,
    /// The switch that was refused, has ended early, or is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    switch: Option<&'a Switch>,
}

fn refused(
    code: &'static str,
    detail: Option<&str>,
    edges: Option<&[Planned]>,
    switch: Option<&Switch>,
) -> Result<HttpResponse, Problem> {
    let (title, what) = match code {
        "gates_failed" => (
            "Gates do not hold",
            "what is asked for is not proved yet; `force` skips gates of confidence",
        ),
        "switch_under_way" => (
            "Another switch is under way",
            "wait for its end, at /api/v1/admin/migration/switches/{id}",
        ),
        "switch_undone" => (
            "The switch was undone",
            "the hand-off took too long and was taken back; nothing is lost",
        ),
        _ => (
            "The switch ended early",
            "edges that were walked stay walked; nothing is lost",
        ),
    };
    let body = SwitchProblem {
        r#type: format!("urn:oms:problem:{code}"),
        title,
        status: 409,
        code,
        detail: detail.unwrap_or(what).to_owned(),
        edges,
        switch,
    };
    let mut bytes = Vec::with_capacity(1_024);
    serde_json::to_writer(&mut bytes, &body).map_err(|e| Problem::internal(e.to_string()))?;
    let mut response = HttpResponse::Conflict();
    if code != "gates_failed" {
        response.insert_header((RETRY_AFTER, "1"));
    }
    Ok(response
        .content_type("application/problem+json")
        .body(bytes))
}

/// How far a switch is, or how it ended.
#[utoipa::path(get, path = "/api/v1/admin/migration/switches/{id}", operation_id = "getSwitch",
    tag = "admin", params(SwitchPath),
    responses((status = 200, description = "The switch", body = Switch)))]
pub async fn switch(
    state: web::Data<HttpState>,
    path: SwitchPath,
) -> Result<HttpResponse, Problem> {
    let switch = state.service.find_switch(path.id).await?;
    respond::json(HttpResponse::Ok(), &switch)
}

/// Ends a switch at its next gate; a step that has begun is walked to its end.
#[utoipa::path(delete, path = "/api/v1/admin/migration/switches/{id}",
    operation_id = "cancelSwitch", tag = "admin", params(SwitchPath),
    responses((status = 202, description = "It will end at its next gate", body = Switch)))]
pub async fn cancel(
    state: web::Data<HttpState>,
    path: SwitchPath,
) -> Result<HttpResponse, Problem> {
    let switch = state.service.cancel_switch(path.id).await?;
    respond::json(HttpResponse::build(StatusCode::ACCEPTED), &switch)
}

/// Which part of the history.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryParams {
    /// Switches on the page.
    #[param(minimum = 1, maximum = 100, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of the history of switches.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SwitchPage)]
pub struct HistoryPage {
    /// The switches, the newest first.
    items: Vec<Switch>,
    /// Ask with this for what follows; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Every switch that was ordered: who, why, when, gates, forced, how long writes waited.
#[utoipa::path(get, path = "/api/v1/admin/migration/history", operation_id = "getMigrationHistory",
    tag = "admin", params(HistoryParams),
    responses((status = 200, description = "A page, the newest first",
        body = HistoryPage)))]
pub async fn history(
    state: web::Data<HttpState>,
    Params(params): Params<HistoryParams>,
) -> Result<HttpResponse, Problem> {
    let limit = params.limit.unwrap_or(HISTORY_PAGE);
    if !(1..=HISTORY_PAGE).contains(&limit) {
        let message = format!("limit must be between 1 and {HISTORY_PAGE}");
        return Err(Problem::new(problem::INVALID_QUERY, message));
    }
    let before: Option<Timestamp> = match params.cursor.as_deref().map(str::parse) {
        None => None,
        Some(Ok(before)) => Some(before),
        Some(Err(_)) => {
            let message = "cursor must be the next_cursor of a page of the history";
            return Err(Problem::new(problem::INVALID_CURSOR, message));
        }
    };
    let items = state.service.switch_history(limit, before).await?;
    let last = items.last().filter(|_| items.len() == limit);
    let next_cursor = last.map(|switch| switch.begun.to_string());
    respond::json(HttpResponse::Ok(), &HistoryPage { items, next_cursor })
}
