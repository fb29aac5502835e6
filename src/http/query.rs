//! `POST …/instances/query`: filters, order and selection over the read model.

use actix_web::{HttpRequest, HttpResponse, web};

use super::extract::{Caller, Question};
use super::path::ClassPath;
use super::problem::Problem;
use super::respond::{self, await_position};
use super::{HttpState, json};
use crate::domain::document::Document;
use crate::service::view::ResourcePage;
use crate::store::ports::read_model::InstanceQuery;
use crate::store::ports::read_model::query::QuerySpec;

/// Queries the instances of a class.
#[utoipa::path(post, path = "/api/v1/databases/{db}/classes/{class}/instances/query",
    operation_id = "queryInstances", tag = "instances", params(ClassPath),
    request_body = QuerySpec,
    responses((status = 200, description = "A page", body = ResourcePage)))]
pub async fn query(
    state: web::Data<HttpState>,
    req: HttpRequest,
    caller: Caller,
    path: ClassPath,
    Question(document): Question<Document>,
) -> Result<HttpResponse, Problem> {
    let text = document.text();
    // Held until the answer is made: what is short as text may be large once it is parsed.
    let _room = caller.within(state.service.room_to_ask(text.len())).await?;
    let spec: QuerySpec = json::parse_object(text.as_bytes())?;
    let query = InstanceQuery::parse(spec)?;
    await_position(&req, &caller, &state.service).await?;
    let read = state.service.instances(&path.db, &path.class, &query);
    respond::page(&caller.within(read).await?)
}
