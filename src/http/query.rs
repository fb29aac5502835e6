//! `POST …/instances/query`: filters, order and selection over the read model.

use actix_web::{HttpRequest, HttpResponse, web};

use super::HttpState;
use super::extract::{Caller, Question};
use super::path::ClassPath;
use super::problem::Problem;
use super::respond::{self, await_position};
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
    Question(spec): Question<QuerySpec>,
) -> Result<HttpResponse, Problem> {
    let query = InstanceQuery::parse(spec)?;
    await_position(&req, &caller, &state.service).await?;
    let read = state.service.instances(&path.db, &path.class, &query);
    respond::page(&caller.within(read).await?)
}
