//! `/api/v1/streams/{type}/{id}/events`: the log as other event-sourced programs use it.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::HttpState;
use super::extract::{Caller, Command, Params};
use super::instances::check_metadata;
use super::paging::{page_limit, stream_cursor};
use super::path::{StreamPath, is_reserved, segment};
use super::problem::{self, Problem};
use super::respond::{self, WriteAnswer};
use crate::domain::event::NewEvent;
use crate::domain::ids::{EventType, Version};
use crate::domain::refusal::Refusal;
use crate::service::queries::Direction;
use crate::service::view::EventPage;

/// Most events of one append: they become one commit, all or none.
pub const MAX_EVENTS: usize = 1_000;

/// An event to append.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewEvent)]
pub struct AppendEvent {
    /// `[A-Za-z][A-Za-z0-9_.:-]{0,99}`.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "OrderPlaced")]
    event_type: EventType,
    /// Its content: any JSON, kept as given.
    #[schema(value_type = Value)]
    data: Box<RawValue>,
    /// Metadata of this event: an object.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
    /// Version of the schema of `data`, for the readers of the event.
    #[serde(default = "first_schema")]
    #[schema(default = 1)]
    schema_version: u32,
}

fn first_schema() -> u32 {
    1
}

/// Events to append, all or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Append {
    /// 1 to 1,000 of them.
    #[schema(min_items = 1, max_items = 1000)]
    events: Vec<AppendEvent>,
}

fn new_events(append: Append) -> Result<Vec<NewEvent>, Problem> {
    let count = append.events.len();
    if !(1..=MAX_EVENTS).contains(&count) {
        let message = format!("there must be 1 to {MAX_EVENTS} events, not {count}");
        return Err(Problem::new(problem::VALIDATION_FAILED, message.clone())
            .field("events", "count", message));
    }
    let events = append.events.into_iter().enumerate().map(|(i, event)| {
        Ok(NewEvent {
            event_type: event.event_type,
            schema_version: event.schema_version,
            data: event.data,
            metadata: check_metadata(event.metadata, || format!("events[{i}].metadata"))?,
        })
    });
    events.collect()
}

/// Appends events to a stream, all or none. `If-Match: "<version>"` makes it conditional on the
/// stream's version, `If-None-Match: *` on there being none.
#[utoipa::path(post, path = "/api/v1/streams/{type}/{id}/events", operation_id = "appendEvents",
    tag = "streams", params(StreamPath), request_body = Append,
    responses((status = 201, description = "Appended", body = WriteAnswer)))]
pub async fn append(
    state: web::Data<HttpState>,
    path: StreamPath,
    command: Command<Append>,
) -> Result<HttpResponse, Problem> {
    if is_reserved(&path.r#type) {
        let message = format!(
            "streams of type {:?} belong to the ontology: change its resources instead",
            path.r#type
        );
        return Err(Refusal::invalid("reserved_stream_type", message).into());
    }
    let expected = command.precondition.for_append()?;
    let events = new_events(command.body)?;
    let written = state
        .service
        .append_events(&command.ctx, path.stream, events, expected)
        .await?;
    respond::written(&written, |_| {
        format!(
            "/api/v1/streams/{}/{}/events",
            path.r#type,
            segment(&path.id)
        )
    })
}

/// Which part of a stream.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadParams {
    /// The first version to give; by default the stream's first, or its last when read backward.
    from_version: Option<u64>,
    /// `next_cursor` of the page before; excludes `from_version`.
    cursor: Option<String>,
    /// Events on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `forward` (the default) or `backward`.
    #[param(inline, example = "forward")]
    direction: Option<Way>,
}

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From the first event on.
    Forward,
    /// From the last event back.
    Backward,
}

impl From<Option<Way>> for Direction {
    fn from(way: Option<Way>) -> Self {
        match way {
            None | Some(Way::Forward) => Direction::Forward,
            Some(Way::Backward) => Direction::Backward,
        }
    }
}

/// Reads a stream, of the ontology's too.
#[utoipa::path(get, path = "/api/v1/streams/{type}/{id}/events", operation_id = "readStream",
    tag = "streams", params(StreamPath, ReadParams),
    responses((status = 200, description = "A page of events", body = EventPage)))]
pub async fn read(
    state: web::Data<HttpState>,
    caller: Caller,
    path: StreamPath,
    Params(params): Params<ReadParams>,
) -> Result<HttpResponse, Problem> {
    if params.from_version.is_some() && params.cursor.is_some() {
        let message = "from_version and cursor exclude each other";
        return Err(Problem::new(problem::INVALID_QUERY, message));
    }
    // Declared as clients have it: 64 bits with a sign.
    if params
        .from_version
        .is_some_and(|v| i64::try_from(v).is_err())
    {
        let message = format!("from_version is {} at most", i64::MAX);
        return Err(Problem::new(problem::INVALID_QUERY, message).subject("from_version"));
    }
    let from = stream_cursor(params.cursor.as_deref())?.or(params.from_version.map(Version));
    let limit = page_limit(params.limit)?;
    let read = state
        .service
        .stream(&path.stream, from, limit, params.direction.into());
    respond::page(&caller.within(read).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::json;

    fn read_body(text: &str) -> Result<Vec<NewEvent>, Problem> {
        json::parse_object::<Append>(text.as_bytes()).and_then(new_events)
    }

    #[test]
    fn events_are_taken_as_given() {
        let events = read_body(
            r#"{"events":[{"type":"A","data":[1.50, null]},
                {"type":"B","data":{},"metadata":{"k":1},"schema_version":3}]}"#,
        )
        .unwrap();
        assert_eq!(events[0].data.get(), "[1.50, null]");
        assert_eq!(events[0].schema_version, 1);
        assert_eq!(events[1].schema_version, 3);
        assert_eq!(events[1].metadata.as_ref().unwrap().get(), "{\"k\":1}");
    }

    #[test]
    fn bad_events_are_refused_by_their_place() {
        let field = |text: &str| {
            read_body(text).unwrap_err().body().violations[0]
                .field
                .clone()
        };
        assert_eq!(field(r#"{"events":[]}"#), "events");
        assert_eq!(
            field(r#"{"events":[{"type":"A","data":1},{"type":"1","data":1}]}"#),
            "events[1].type"
        );
        assert_eq!(field(r#"{"events":[{"type":"A"}]}"#), "events[0].data");
        assert_eq!(
            field(r#"{"events":[{"type":"A","data":1,"metadata":[]}]}"#),
            "events[0].metadata"
        );
        assert_eq!(
            field(r#"{"events":[{"type":"A","data":1,"id":"x"}]}"#),
            "events[0].id"
        );
    }

    #[test]
    fn cursors_of_streams_are_versions() {
        assert_eq!(stream_cursor(Some("7")).unwrap(), Some(Version(7)));
        assert_eq!(stream_cursor(None).unwrap(), None);
        assert_eq!(
            stream_cursor(Some("x")).unwrap_err().code(),
            "invalid_cursor"
        );
    }
}
