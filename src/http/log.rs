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
#[derive(Debug, Serialize)]
struct Fetched<'a> {
    #[serde(flatten)]
    object: &'a StoredObject,
    s3_endpoint: Option<&'a str>,
}

/// What one store of the log holds at an offset.
#[derive(ToSchema)]
#[schema(as = CommitPlace)]
#[allow(dead_code, reason = "described, never built")]
pub struct PlaceShape {
    /// `s3` or `postgres`.
    store: String,
    /// `here`, `absent` or `unknown`: the store could not be read, or holds something unreadable.
    state: String,
    /// SHA-256 of the object, in hex.
    sha256: Option<String>,
    /// Why it is unknown.
    error: Option<String>,
}

/// A commit object as stored.
#[derive(ToSchema)]
#[schema(as = StoredCommit)]
#[allow(dead_code, reason = "described, never built")]
pub struct CommitShape {
    partition: u16,
    offset: u64,
    /// The bucket of the log.
    bucket: String,
    /// Its key in the bucket, whether or not it is there yet: see `places`.
    #[schema(example = "events/0000/00000000000000000002.ndjson")]
    key: String,
    /// S3 and PostgreSQL, each read for this request.
    places: Vec<PlaceShape>,
    bytes: u64,
    /// Each line as it is stored: the header, then the events (or, at a hand-off, who leads).
    lines: Vec<String>,
    /// Endpoint of the bucket; null for AWS.
    s3_endpoint: Option<String>,
}

/// A commit object as stored in both stores of the log; 404 when neither has it.
#[utoipa::path(get, path = "/api/v1/log/{partition}/{offset}", operation_id = "getCommit",
    tag = "events", params(CommitPath),
    responses((status = 200, description = "The object", body = CommitShape)))]
pub async fn commit(
    state: web::Data<HttpState>,
    caller: Caller,
    path: CommitPath,
) -> Result<HttpResponse, Problem> {
    let read = state.service.stored_object(path.partition, path.offset);
    let object = caller.within(read).await?;
    let fetched = Fetched {
        object: &object,
        s3_endpoint: state.about.s3_endpoint.as_deref(),
    };
    respond::json(HttpResponse::Ok(), &fetched)
}
