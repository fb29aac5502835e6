//! `GET /api/v1/me`, who is asking; `GET /api/v1/admin/service`, what this process is.

use actix_web::{HttpResponse, web};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::HttpState;
use super::extract::Caller;
use super::problem::Problem;
use super::respond;

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// The principal, as it is recorded in events and orders.
    #[schema(example = "anonymous")]
    name: String,
    /// Which of `read`, `write`, `admin` it has; none implies another.
    #[schema(example = json!(["read", "admin"]))]
    roles: Vec<&'static str>,
    /// Whether the service requires tokens; without them every caller may do everything.
    tokens: bool,
    /// From when on the caller's token is refused; absent if it does not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires: Option<Timestamp>,
}

/// The caller's name and roles; any known token may ask.
#[utoipa::path(get, path = "/api/v1/me", operation_id = "getMe", tag = "auth",
    responses((status = 200, description = "Name and roles", body = Me)))]
pub async fn me(state: web::Data<HttpState>, caller: Caller) -> Result<HttpResponse, Problem> {
    let auth = &state.limits.auth;
    let me = Me {
        name: caller.principal().to_string(),
        roles: caller.identity().roles.names(),
        tokens: auth.needs_token(),
        expires: caller.identity().expires,
    };
    respond::json(HttpResponse::Ok(), &me)
}

/// What this process is, without secrets. Built by `boot`.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ServiceInfo)]
pub struct About {
    /// Version of the program.
    pub version: &'static str,
    /// This process's name among the relays.
    pub node: String,
    /// Its roles: `api`, `relay`, `projection`.
    pub roles: Vec<&'static str>,
    /// Whether the API may kill actors.
    pub chaos: bool,
    /// Partitions of the log.
    pub partitions: u16,
    /// The bucket of the log.
    pub bucket: String,
    /// Endpoint of the bucket; null for AWS.
    #[schema(required)]
    pub s3_endpoint: Option<String>,
    /// Other event stores that may be imported from: `migration.sources` of the configuration.
    pub sources: Vec<String>,
}

/// This process: its version, its roles, the address of its bucket.
#[utoipa::path(get, path = "/api/v1/admin/service", operation_id = "getService", tag = "admin",
    responses((status = 200, description = "The process", body = About)))]
pub async fn service(state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    respond::json(HttpResponse::Ok(), &state.about)
}
