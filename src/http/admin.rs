//! `/api/v1/admin`: what operators see and do.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::HttpState;
use super::extract::{Caller, Command, Params};
use super::paging::page_limit;
use super::path::{DeadLetterPath, ProjectionPath};
use super::problem::{self, Problem};
use super::respond;
use crate::actors::supervision::tree::{KillHow, NodeView};
use crate::clock::{SystemClock, clock_shift};
use crate::domain::time::Clock;
use crate::store::failpoint::{Action, Point};
use crate::store::ports::delivery::{DeadLetter, DeliveryStatus};
use crate::store::ports::read_model::ProjectionStatus;

/// The supervision tree.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActorTree {
    /// All actors are below it.
    root: NodeView,
}

/// The supervision tree: every actor, its state, its restarts, its last failure.
#[utoipa::path(get, path = "/api/v1/admin/actors", operation_id = "getActors", tag = "admin",
    responses((status = 200, description = "The tree", body = ActorTree)))]
pub async fn actors(state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let root = state.service.actors();
    respond::json(HttpResponse::Ok(), &ActorTree { root })
}

/// Which actor to kill, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Its path in the supervision tree.
    #[schema(example = "event_store/2")]
    path: String,
    /// `panic`: as if it had panicked; `stop`: as if it had stopped by itself; `hang`: it is not
    /// run for a while; `abort`: its task is aborted and its mailbox lost; `arbiter`: its thread
    /// ends, and with it all actors on that thread.
    how: KillHow,
}

/// That an order was taken.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Acceptance {
    /// It was.
    Accepted,
}

/// The request was accepted and has begun.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// `accepted`.
    status: Acceptance,
}

fn accepted() -> Result<HttpResponse, Problem> {
    let body = Accepted {
        status: Acceptance::Accepted,
    };
    respond::json(HttpResponse::build(StatusCode::ACCEPTED), &body)
}

/// Which fail point to arm, and with what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Failpoint {
    /// `dependency.operation.before` or `dependency.operation.after`.
    #[schema(example = "s3.put_if_absent.after")]
    name: String,
    /// `error`: a failure is returned; `panic`: the caller panics; `delay`: some time passes;
    /// `happened_but_failed`: after a call, a failure of unknown outcome is returned.
    action: Action,
    /// How often; 0 disarms.
    #[serde(default = "once")]
    #[schema(default = 1)]
    times: u32,
    /// For `delay`: milliseconds, up to a minute.
    #[serde(default)]
    #[schema(default = 0)]
    delay_ms: u64,
}

fn once() -> u32 {
    1
}

/// Arms a fail point: there is one before and one after every call to S3, PostgreSQL and Kafka; 403
/// unless `chaos.enabled`.
#[utoipa::path(post, path = "/api/v1/admin/actors/failpoints", operation_id = "armFailpoint",
    tag = "admin", request_body = Failpoint,
    responses((status = 202, description = "It is armed", body = Accepted)))]
pub async fn arm_failpoint(
    state: web::Data<HttpState>,
    command: Command<Failpoint>,
) -> Result<HttpResponse, Problem> {
    let Failpoint {
        name,
        action,
        times,
        delay_ms,
    } = command.body;
    let delay = Duration::from_millis(delay_ms);
    state.service.arm_failpoint(&name, action, times, delay)?;
    accepted()
}

/// The fail points.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failpoints {
    /// By name: what is armed, how often the point was reached and how often it happened.
    points: BTreeMap<String, Point>,
}

/// The fail points that were reached since the start, or that are armed.
#[utoipa::path(get, path = "/api/v1/admin/actors/failpoints", operation_id = "listFailpoints",
    tag = "admin", responses((status = 200, description = "All of them", body = Failpoints)))]
pub async fn failpoints(state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    let points = state.service.failpoints();
    respond::json(HttpResponse::Ok(), &Failpoints { points })
}

/// The shift of the clock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockShift {
    /// Seconds to add to the machine's time; 0 ends the shift. At most a year in either direction.
    #[schema(minimum = -31622400, maximum = 31622400, example = 86400)]
    offset_seconds: i64,
}

/// The shifted clock.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShiftedClock {
    /// Seconds that are added to the machine's time.
    offset_seconds: i64,
    /// The time by the shifted clock.
    now: Timestamp,
}

/// Shifts the clock of this process from the machine's; 403 unless `chaos.enabled`. Durations,
/// PostgreSQL's clock and the time with which requests to S3 are signed are not shifted.
#[utoipa::path(put, path = "/api/v1/admin/chaos/clock", operation_id = "shiftClock", tag = "admin",
    request_body = ClockShift,
    responses((status = 200, description = "What it tells now", body = ShiftedClock)))]
pub async fn shift_clock(
    state: web::Data<HttpState>,
    command: Command<ClockShift>,
) -> Result<HttpResponse, Problem> {
    state.service.shift_clock(command.body.offset_seconds)?;
    let shifted = ShiftedClock {
        offset_seconds: clock_shift(),
        now: SystemClock.now(),
    };
    respond::json(HttpResponse::Ok(), &shifted)
}

/// Kills an actor, to see it come back; 403 unless `chaos.enabled`.
#[utoipa::path(post, path = "/api/v1/admin/actors/kill", operation_id = "killActor", tag = "admin",
    request_body = Kill,
    responses((status = 202, description = "The order is given", body = Accepted)))]
pub async fn kill(
    state: web::Data<HttpState>,
    command: Command<Kill>,
) -> Result<HttpResponse, Problem> {
    let Kill { path, how } = command.body;
    tracing::warn!(
        actor = path,
        principal = command.ctx.principal,
        "{} orders {path} to be killed: {how:?}",
        command.ctx.principal
    );
    state.service.kill_actor(&path, how)?;
    accepted()
}

/// How far delivery is: outbox depth, age, watermarks.
#[utoipa::path(get, path = "/api/v1/admin/outbox", operation_id = "getOutbox", tag = "admin",
    responses((status = 200, description = "Depth, age, watermarks", body = DeliveryStatus)))]
pub async fn outbox(state: web::Data<HttpState>, caller: Caller) -> Result<HttpResponse, Problem> {
    let status = caller.within(state.service.delivery()).await?;
    respond::json(HttpResponse::Ok(), &status)
}

/// Which dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeadParams {
    /// Letters on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterPage {
    /// The letters, oldest first.
    items: Vec<DeadLetter>,
    /// Cursor of the next page; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Rows of the outbox that the broker refused for good, oldest first.
#[utoipa::path(get, path = "/api/v1/admin/outbox/dead", operation_id = "listDeadLetters",
    tag = "admin", params(DeadParams),
    responses((status = 200, description = "A page", body = DeadLetterPage)))]
pub async fn dead_letters(
    state: web::Data<HttpState>,
    caller: Caller,
    Params(params): Params<DeadParams>,
) -> Result<HttpResponse, Problem> {
    let limit = page_limit(params.limit)?;
    let after = match params.cursor.as_deref().map(str::parse) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => {
            let message = "cursor must be the next_cursor of a page of dead letters";
            return Err(Problem::new(problem::INVALID_CURSOR, message));
        }
    };
    let read = state.service.dead_letters(limit, after);
    let items = caller.within(read).await?;
    let last = items.last().filter(|_| items.len() == limit);
    let next_cursor = last.map(|letter| letter.id.to_string());
    respond::json(HttpResponse::Ok(), &DeadLetterPage { items, next_cursor })
}

/// Puts a dead letter back into the outbox.
#[utoipa::path(post, path = "/api/v1/admin/outbox/dead/{id}/requeue",
    operation_id = "requeueDeadLetter", tag = "admin", params(DeadLetterPath),
    responses((status = 202, description = "It will be published again", body = Accepted)))]
pub async fn requeue(
    state: web::Data<HttpState>,
    path: DeadLetterPath,
) -> Result<HttpResponse, Problem> {
    state.service.requeue_dead_letter(path.id).await?;
    accepted()
}

/// Removes a dead letter for good.
#[utoipa::path(post, path = "/api/v1/admin/outbox/dead/{id}/discard",
    operation_id = "discardDeadLetter", tag = "admin", params(DeadLetterPath),
    responses((status = 202, description = "It is gone", body = Accepted)))]
pub async fn discard(
    state: web::Data<HttpState>,
    path: DeadLetterPath,
) -> Result<HttpResponse, Problem> {
    state.service.discard_dead_letter(path.id).await?;
    accepted()
}

/// The projections.
#[derive(Debug, Serialize, ToSchema)]
pub struct Projections {
    /// Each with how far it is.
    items: Vec<ProjectionStatus>,
    /// Always null: there are few.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// The projections and how far each is.
#[utoipa::path(get, path = "/api/v1/admin/projections", operation_id = "listProjections",
    tag = "admin",
    responses((status = 200, description = "All of them", body = Projections)))]
pub async fn projections(
    state: web::Data<HttpState>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let items = caller.within(state.service.projections()).await?;
    let next_cursor = None;
    respond::json(HttpResponse::Ok(), &Projections { items, next_cursor })
}

/// Rebuilds a projection beside the live one, then swaps them.
#[utoipa::path(post, path = "/api/v1/admin/projections/{name}/rebuild",
    operation_id = "rebuildProjection", tag = "admin", params(ProjectionPath),
    responses((status = 202, description = "It has begun", body = Accepted)))]
pub async fn rebuild(
    state: web::Data<HttpState>,
    path: ProjectionPath,
) -> Result<HttpResponse, Problem> {
    state.service.rebuild_projection(&path.name).await?;
    accepted()
}
