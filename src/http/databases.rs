//! `/api/v1/databases`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::HttpState;
use super::events::{self, HistoryParams};
use super::extract::{BareCommand, Caller, Command, Params};
use super::paging::page_limit;
use super::path::DatabasePath;
use super::problem::Problem;
use super::respond::{self, WriteAnswer, await_position};
use crate::domain::ids::{DatabaseName, StreamName};
use crate::service::view::{EventPage, Resource, ResourcePage};
use crate::store::ports::read_model::ListQuery;

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// Items on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A new database.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDatabase {
    /// `[a-z][a-z0-9_-]{2,49}`.
    #[schema(value_type = String, pattern = "^[a-z][a-z0-9_-]{2,49}$", example = "films")]
    name: DatabaseName,
    /// For people.
    #[serde(default)]
    description: Option<String>,
}

/// Creates a database.
#[utoipa::path(post, path = "/api/v1/databases", operation_id = "createDatabase", tag = "databases",
    request_body = CreateDatabase,
    responses((status = 201, description = "Created", body = WriteAnswer)))]
pub async fn create(
    state: web::Data<HttpState>,
    command: Command<CreateDatabase>,
) -> Result<HttpResponse, Problem> {
    command.precondition.for_creation()?;
    let CreateDatabase { name, description } = command.body;
    let written = state
        .service
        .create_database(&command.ctx, name, description)
        .await?;
    respond::written(&written, location)
}

/// Lists the databases by name.
#[utoipa::path(get, path = "/api/v1/databases", operation_id = "listDatabases", tag = "databases",
    params(PageParams),
    responses((status = 200, description = "A page", body = ResourcePage)))]
pub async fn list(
    state: web::Data<HttpState>,
    req: HttpRequest,
    caller: Caller,
    Params(page): Params<PageParams>,
) -> Result<HttpResponse, Problem> {
    let limit = Some(page_limit(page.limit)? as i64);
    let query = ListQuery::databases(limit, page.cursor.as_deref())?;
    await_position(&req, &caller, &state.service).await?;
    let read = state.service.databases(&query);
    respond::page(&caller.within(read).await?)
}

/// One database.
#[utoipa::path(get, path = "/api/v1/databases/{db}", operation_id = "getDatabase", tag = "databases",
    params(DatabasePath),
    responses(
        (status = 200, description = "The database", body = Resource),
        (status = 304, description = "It is the one of `If-None-Match`")))]
pub async fn get(
    state: web::Data<HttpState>,
    req: HttpRequest,
    caller: Caller,
    path: DatabasePath,
) -> Result<HttpResponse, Problem> {
    let answer = caller.within(state.service.database(&path.db)).await?;
    respond::resource(req.headers(), &answer)
}

/// Deletes a database and, with it, everything in it.
#[utoipa::path(delete, path = "/api/v1/databases/{db}", operation_id = "deleteDatabase",
    tag = "databases", params(DatabasePath),
    responses((status = 200, description = "Deleted", body = WriteAnswer)))]
pub async fn delete(
    state: web::Data<HttpState>,
    path: DatabasePath,
    command: BareCommand,
) -> Result<HttpResponse, Problem> {
    let expected = command.precondition.for_change()?;
    let written = state
        .service
        .delete_database(&command.ctx, path.db, expected)
        .await?;
    respond::written(&written, location)
}

/// A database's events, with who, when and why.
#[utoipa::path(get, path = "/api/v1/databases/{db}/history", operation_id = "getDatabaseHistory",
    tag = "databases", params(DatabasePath, HistoryParams),
    responses((status = 200, description = "A page of events", body = EventPage)))]
pub async fn history(
    state: web::Data<HttpState>,
    caller: Caller,
    path: DatabasePath,
    Params(page): Params<HistoryParams>,
) -> Result<HttpResponse, Problem> {
    events::history(&state, &caller, StreamName::database(&path.db), &page).await
}

fn location(name: &str) -> String {
    format!("/api/v1/databases/{name}")
}
