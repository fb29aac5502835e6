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

/// What may have become of a command that is known.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CommandState {
    /// Its events are in the log.
    Committed,
}

/// The outcome of a command.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommandAnswer {
    /// The command.
    pub command_id: CommandId,
    /// `committed`: commands that were refused or never arrived leave nothing behind.
    pub status: CommandState,
    /// Version of the stream after it.
    pub version: Version,
    /// Position of its first event.
    pub position: Position,
    /// When it was recorded.
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
        status: CommandState::Committed,
        version: status.version,
        position: status.position,
        at: status.at,
        events: status.events,
    };
    respond::json(HttpResponse::Ok(), &answer)
}
