//! `GET /api/v1/log/{partition}/{offset}`: a commit object as it lies in both places of the log.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::HttpState;
use super::extract::Caller;
use super::path::CommitPath;
use super::problem::Problem;
use super::respond;
use crate::service::places::StoredObject;

/// A commit object as stored, with where to fetch it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoredCommit)]
pub struct Fetched<'a> {
    #[serde(flatten)]
    object: &'a StoredObject,
    /// Endpoint of the bucket; null for AWS.
    #[schema(required)]
    s3_endpoint: Option<&'a str>,
}

/// A commit object as stored in both stores of the log; 404 when neither has it.
#[utoipa::path(get, path = "/api/v1/log/{partition}/{offset}", operation_id = "getCommit",
    tag = "events", params(CommitPath),
    responses((status = 200, description = "The object", body = Fetched)))]
pub async fn commit(
    state: web::Data<HttpState>,
    caller: Caller,
    path: CommitPath,
) -> Result<HttpResponse, Problem> {
    let read = state.service.stored_object(path.partition, path.offset);
    // Its room is held until it is answered.
    let (object, _place) = caller.within(read).await?;
    let fetched = Fetched {
        object: &object,
        s3_endpoint: state.about.s3_endpoint.as_deref(),
    };
    respond::json(HttpResponse::Ok(), &fetched)
}
