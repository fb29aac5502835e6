//! `POST …/instances/query`: filters, order and selection over the read model.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::HttpState;
use super::databases::page_limit;
use super::extract::{Caller, Question};
use super::path::ClassPath;
use super::problem::Problem;
use super::respond::{self, await_position};
use super::schema;
use crate::store::read_model::InstanceQuery;

/// One condition.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// A property, or a path of names joined by `.`.
    #[schema(example = "year")]
    field: String,
    /// `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `in`, `contains`, `starts_with` or `exists`.
    #[schema(example = "gte")]
    op: String,
    /// What to compare with: a list for `in`, a boolean for `exists`.
    #[serde(default)]
    #[schema(value_type = Object)]
    value: Value,
}

/// What to look for; every part may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryBody {
    /// All of these must hold.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Properties to sort by; `-` before one sorts it descending.
    #[serde(default)]
    #[schema(example = json!(["-year", "title"]))]
    pub sort: Vec<String>,
    /// Properties to give back; all when empty.
    #[serde(default)]
    pub select: Vec<String>,
    /// Items on the page, 1 to 1,000.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// The one place where the API's words become the read model's.
pub fn instance_query(body: QueryBody) -> Result<InstanceQuery, Problem> {
    page_limit(body.limit)?;
    Ok(InstanceQuery::default())
}

/// Queries the instances of a class.
#[utoipa::path(post, path = "/api/v1/databases/{db}/classes/{class}/instances/query",
    operation_id = "queryInstances", tag = "instances", params(ClassPath),
    request_body = QueryBody,
    responses((status = 200, description = "A page", body = schema::ResourcePage)))]
pub async fn query(
    state: web::Data<HttpState>,
    req: HttpRequest,
    caller: Caller,
    path: ClassPath,
    Question(body): Question<QueryBody>,
) -> Result<HttpResponse, Problem> {
    let query = instance_query(body)?;
    await_position(&req, &caller, &state.service).await?;
    let read = state.service.instances(&path.db, &path.class, &query);
    respond::page(&caller.within(read).await?)
}
