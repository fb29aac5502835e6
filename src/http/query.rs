//! `POST …/instances/query`: filters, order and selection over the read model.

use actix_web::{HttpRequest, HttpResponse, web};

use super::HttpState;
use super::extract::{Caller, Question};
use super::path::ClassPath;
use super::problem::Problem;
use super::respond::{self, await_position};
use super::schema;
use crate::store::ports::read_model::InstanceQuery;
use crate::store::ports::read_model::query::QuerySpec;

/// Queries the instances of a class.
#[utoipa::path(post, path = "/api/v1/databases/{db}/classes/{class}/instances/query",
    operation_id = "queryInstances", tag = "instances", params(ClassPath),
    request_body = schema::InstanceQuery,
    responses((status = 200, description = "A page", body = schema::ResourcePage)))]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::openapi;

    /// The read model's words are described by hand; every one of them must be taken.
    #[test]
    fn what_is_described_is_what_is_read() {
        let document = openapi::document();
        let schemas = &document["components"]["schemas"];
        let names = |schema: &str| -> Vec<String> {
            let properties = schemas[schema]["properties"].as_object();
            properties.unwrap().keys().cloned().collect()
        };
        let spec = serde_json::json!({
            "filters": [{"field": "year", "op": "gte", "value": 1990}],
            "sort": ["-year"], "select": ["title"], "limit": 10, "cursor": null,
        });
        let read = |spec: &serde_json::Value| serde_json::from_value::<QuerySpec>(spec.clone());
        read(&spec).unwrap();
        let given: Vec<&String> = spec.as_object().unwrap().keys().collect();
        assert_eq!(names("InstanceQuery").iter().collect::<Vec<_>>(), given);
        assert_eq!(names("Filter"), ["field", "op", "value"]);
        let mut more = spec;
        more["other"] = 1.into();
        assert!(read(&more).is_err());
    }
}
