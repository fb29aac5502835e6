//! `GET /api/v1/commands/{command_id}`: what became of a command.

use actix_web::{HttpResponse, web};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::HttpState;
use super::extract::Caller;
use super::path::CommandPath;
use super::problem::Problem;
use super::respond;
use crate::domain::ids::{CommandId, Position, Version};

/// The outcome of a command.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommandAnswer {
    /// The command.
    #[schema(value_type = String, format = "uuid")]
    pub command_id: CommandId,
    /// `committed`: commands that were refused or never arrived leave nothing behind.
    #[schema(value_type = String, example = "committed")]
    pub status: &'static str,
    /// Version of the stream after it.
    #[schema(value_type = u64)]
    pub version: Version,
    /// Position of its first event.
    #[schema(value_type = String, example = "3/1045/2")]
    pub position: Position,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Number of its events.
    pub events: u32,
}

/// The outcome of a command; 404 when no event of it is known.
#[utoipa::path(get, path = "/api/v1/commands/{command_id}", operation_id = "getCommand",
    tag = "events", params(CommandPath),
    responses((status = 200, description = "It was committed", body = CommandAnswer)))]
pub async fn get(
    state: web::Data<HttpState>,
    caller: Caller,
    path: CommandPath,
) -> Result<HttpResponse, Problem> {
    let status = caller
        .within(state.service.command(path.command_id))
        .await?;
    let answer = CommandAnswer {
        command_id: status.command_id,
        status: "committed",
        version: status.version,
        position: status.position,
        at: status.at,
        events: status.events,
    };
    respond::json(HttpResponse::Ok(), &answer)
}
