//! `/api/v1/databases/{db}/classes`

use actix_web::{HttpRequest, HttpResponse, web};

use super::HttpState;
use super::databases::PageParams;
use super::events::{self, HistoryParams};
use super::extract::{BareCommand, Caller, Command, Params};
use super::json;
use super::paging::page_limit;
use super::path::{ClassPath, DatabasePath};
use super::problem::{self, Problem};
use super::respond::{self, WriteAnswer, await_position};
use crate::domain::class::ClassDefinition;
use crate::domain::document::Document;
use crate::domain::ids::{DatabaseName, StreamName};
use crate::service::permits::Held;
use crate::service::view::{EventPage, Resource, ResourcePage};
use crate::store::ports::read_model::ListQuery;

/// Creates a class.
#[utoipa::path(post, path = "/api/v1/databases/{db}/classes", operation_id = "createClass",
    tag = "classes", params(DatabasePath), request_body = ClassDefinition,
    responses((status = 201, description = "Created", body = WriteAnswer)))]
pub async fn create(
    state: web::Data<HttpState>,
    path: DatabasePath,
    command: Command<Document>,
) -> Result<HttpResponse, Problem> {
    command.precondition.for_creation()?;
    let location = location(&path.db);
    let (definition, _held) = read_definition(&state, &command).await?;
    let written = state
        .service
        .create_class(&command.ctx, path.db, definition)
        .await?;
    respond::written(&written, location)
}

/// Lists the classes of a database by id.
#[utoipa::path(get, path = "/api/v1/databases/{db}/classes", operation_id = "listClasses",
    tag = "classes", params(DatabasePath, PageParams),
    responses((status = 200, description = "A page", body = ResourcePage)))]
pub async fn list(
    state: web::Data<HttpState>,
    req: HttpRequest,
    caller: Caller,
    path: DatabasePath,
    Params(page): Params<PageParams>,
) -> Result<HttpResponse, Problem> {
    let limit = Some(page_limit(page.limit)? as i64);
    let query = ListQuery::classes(&path.db, limit, page.cursor.as_deref())?;
    await_position(&req, &caller, &state.service).await?;
    let read = state.service.classes(&path.db, &query);
    respond::page(&caller.within(read).await?)
}

/// One class.
#[utoipa::path(get, path = "/api/v1/databases/{db}/classes/{class}", operation_id = "getClass",
    tag = "classes", params(ClassPath),
    responses(
        (status = 200, description = "The class", body = Resource),
        (status = 304, description = "It is the one of `If-None-Match`")))]
pub async fn get(
    state: web::Data<HttpState>,
    req: HttpRequest,
    caller: Caller,
    path: ClassPath,
) -> Result<HttpResponse, Problem> {
    let read = state.service.class(&path.db, &path.class);
    respond::resource(req.headers(), &caller.within(read).await?)
}

/// Replaces a class's definition.
#[utoipa::path(put, path = "/api/v1/databases/{db}/classes/{class}", operation_id = "replaceClass",
    tag = "classes", params(ClassPath), request_body = ClassDefinition,
    responses((status = 200, description = "Replaced", body = WriteAnswer)))]
pub async fn replace(
    state: web::Data<HttpState>,
    path: ClassPath,
    command: Command<Document>,
) -> Result<HttpResponse, Problem> {
    let expected = command.precondition.for_change()?;
    let location = location(&path.db);
    let (definition, _held) = read_definition(&state, &command).await?;
    if definition.id != path.class {
        let message = "the id in the body must be the one in the path";
        return Err(Problem::new(problem::VALIDATION_FAILED, message).field(
            "id",
            "id_mismatch",
            message,
        ));
    }
    let written = state
        .service
        .replace_class(&command.ctx, path.db, definition, expected)
        .await?;
    respond::written(&written, location)
}

/// Deletes a class and, with it, its instances.
#[utoipa::path(delete, path = "/api/v1/databases/{db}/classes/{class}",
    operation_id = "deleteClass", tag = "classes", params(ClassPath),
    responses((status = 200, description = "Deleted", body = WriteAnswer)))]
pub async fn delete(
    state: web::Data<HttpState>,
    path: ClassPath,
    command: BareCommand,
) -> Result<HttpResponse, Problem> {
    let expected = command.precondition.for_change()?;
    let location = location(&path.db);
    let written = state
        .service
        .delete_class(&command.ctx, path.db, path.class, expected)
        .await?;
    respond::written(&written, location)
}

/// A class's events, with who, when and why.
#[utoipa::path(get, path = "/api/v1/databases/{db}/classes/{class}/history",
    operation_id = "getClassHistory", tag = "classes", params(ClassPath, HistoryParams),
    responses((status = 200, description = "A page of events", body = EventPage)))]
pub async fn history(
    state: web::Data<HttpState>,
    caller: Caller,
    path: ClassPath,
    Params(page): Params<HistoryParams>,
) -> Result<HttpResponse, Problem> {
    let stream = StreamName::class(&path.db, &path.class);
    events::history(&state, &caller, stream, &page).await
}

/// Parses a definition after reserving the memory that it takes.
async fn read_definition<'a>(
    state: &'a HttpState,
    command: &Command<Document>,
) -> Result<(ClassDefinition, Held<'a>), Problem> {
    let text = command.body.text();
    let room = state.service.room_to_parse(&command.ctx, text.len());
    let held = room.await?;
    Ok((json::parse_object(text.as_bytes())?, held))
}

fn location(db: &DatabaseName) -> impl FnOnce(&str) -> String + use<> {
    let classes = format!("/api/v1/databases/{db}/classes/");
    move |class| classes + class
}
