//! `GET /api/v1/events`, the feed of everything, as pages or live; and the history of a resource.

use std::time::Duration;

use actix_web::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use actix_web::http::{ConnectionType, Method, Version};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use futures_util::stream::empty;
use serde::Deserialize;
use utoipa::IntoParams;

use super::HttpState;
use super::extract::{Caller, Params};
use super::headers::LAST_EVENT_ID;
use super::limits::StreamRefused;
use super::paging::page_limit;
use super::paging::stream_cursor;
use super::problem::{self, Problem};
use super::respond;
use super::sse::Live;
use crate::domain::ids::{EventType, StreamName};
use crate::metrics;
use crate::service::error::RETRY_AFTER;
use crate::service::feed::FeedBounds;
use crate::service::queries::Direction;
use crate::service::view::EventPage;

/// Media type of a live stream.
const EVENT_STREAM: &str = "text/event-stream";
/// Media type of a page.
const JSON: &str = "application/json";
/// The value of `after` that means the end of the feed.
const LATEST: &str = "latest";
/// How many commits before the end of a partition a feed may begin, at most.
const MAX_BACK: u64 = 1_000;
/// Event types in a filter at most: each is compared with each event.
const MAX_TYPES: usize = 50;

/// Which part of a history.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryParams {
    /// Events on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Answers with a page of a resource's events, oldest first.
pub async fn history(
    state: &HttpState,
    caller: &Caller,
    stream: StreamName,
    page: &HistoryParams,
) -> Result<HttpResponse, Problem> {
    let from = stream_cursor(page.cursor.as_deref())?;
    let limit = page_limit(page.limit)?;
    let read = state
        .service
        .stream(&stream, from, limit, Direction::Forward);
    respond::page(&caller.within(read).await?)
}

/// Which part of the feed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FeedParams {
    /// `next_cursor` of the page before, or the `id` of a live event; the beginning without it.
    /// `latest`: what is committed from now on. One of another log, or beyond the end of this one, is
    /// refused: `cursor_of_another_log`.
    after: Option<String>,
    /// With `after=latest`: begin so many commits of each partition earlier.
    #[param(minimum = 0, maximum = 1000, default = 0)]
    back: Option<u64>,
    /// Events on the page; of a live stream: events sent at once.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Event types to give, separated by commas; all without it. With it a page may be empty before
    /// the end, where much had to be read for it: the end is where `next_cursor` is `after`.
    #[param(example = "InstanceCreated,InstanceUpdated")]
    types: Option<String>,
}

fn event_types(text: Option<&str>) -> Result<Vec<String>, Problem> {
    let names = text.unwrap_or_default().split(',').map(str::trim);
    let types: Vec<String> = names.filter(|t| !t.is_empty()).map(str::to_owned).collect();
    let invalid = |message: String| {
        Problem::new(problem::INVALID_QUERY, format!("types: {message}"))
            .field("types", "invalid", message)
    };
    if types.len() > MAX_TYPES {
        return Err(invalid(format!("at most {MAX_TYPES}")));
    }
    for event_type in &types {
        EventType::new(event_type).map_err(|e| invalid(format!("{event_type:?}: {e}")))?;
    }
    Ok(types)
}

/// The feed of all events. With `Accept: text/event-stream` it stays live: server-sent events whose
/// `id` is a cursor, whose `event` is the event's type and whose `data` is the event;
/// `Last-Event-ID` resumes.
#[utoipa::path(get, path = "/api/v1/events", operation_id = "readFeed", tag = "events",
    params(FeedParams,
        ("Last-Event-ID" = Option<String>, Header, description = "Resumes a live stream")),
    responses((status = 200, description = "A page of events, or a live stream", content(
        (EventPage = "application/json"),
        (String = "text/event-stream")))))]
pub async fn feed(
    state: web::Data<HttpState>,
    req: HttpRequest,
    caller: Caller,
    Params(params): Params<FeedParams>,
) -> Result<HttpResponse, Problem> {
    let types = event_types(params.types.as_deref())?;
    let limit = page_limit(params.limit)?;
    let after = beginning(&state, &params)?;
    if !wants_stream(req.headers()) {
        let bounds = FeedBounds::page(limit, caller.patience(Duration::MAX));
        let read = state.service.feed(after.as_deref(), bounds, &types);
        return respond::json(HttpResponse::Ok(), &caller.within(read).await?.page);
    }
    let after = last_event_id(req.headers())?.or(after);
    if req.method() == Method::HEAD {
        // Checks the cursor that a GET would begin with, without opening a stream.
        let check = state.service.check_feed_cursor(after.as_deref());
        caller.within(check).await?;
        return Ok(live_answer().streaming(empty::<Result<Bytes, Problem>>()));
    }
    let places = caller.limits.open_stream(caller.principal());
    let live = Live::new(
        state.service.clone(),
        &caller,
        places.map_err(|refused| no_place(refused, &caller))?,
        after,
        limit,
        types,
    );
    // The first page is read before the answer begins, so that a wrong cursor or a failing store is
    // answered as a problem.
    let live = live.open(&caller).await?;
    let mut answer = live_answer().streaming(live.into_stream());
    if req.version() < Version::HTTP_11 {
        // HTTP/1.0 has no chunks: the end of the connection ends the body (RFC 9112, 6.1).
        answer.head_mut().no_chunking(true);
        answer.head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(answer)
}

/// The cursor at which a request begins.
fn beginning(state: &HttpState, params: &FeedParams) -> Result<Option<String>, Problem> {
    let back = params.back.unwrap_or(0);
    match params.after.as_deref() {
        Some(LATEST) if back <= MAX_BACK => Ok(Some(state.service.feed_cursor_before_end(back)?)),
        after if back == 0 => Ok(after.map(str::to_owned)),
        _ => {
            let message = format!("back goes with after=latest, and is {MAX_BACK} at most");
            Err(Problem::new(problem::INVALID_QUERY, message).subject("back"))
        }
    }
}

fn live_answer() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, EVENT_STREAM))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"));
    response
}

fn no_place(refused: StreamRefused, caller: &Caller) -> Problem {
    let (limit, problem) = match refused {
        StreamRefused::TooMany => {
            let detail = "too many live streams are open; read pages instead";
            (
                "live_streams",
                Problem::new(problem::TOO_MANY_STREAMS, detail),
            )
        }
        StreamRefused::Share => {
            let share = caller.limits.settings.max_streams_per_principal;
            let detail = format!("this token has the {share} live streams that it may have");
            (
                "live_streams_of_token",
                Problem::new(problem::RATE_LIMITED, detail),
            )
        }
    };
    metrics::admission_rejected(limit);
    problem.subject(limit).retry_after(RETRY_AFTER)
}

/// Whether the caller would rather have a live stream than a page. Generated clients name every
/// media type that is described for the answer; they get a page.
fn wants_stream(headers: &HeaderMap) -> bool {
    let weight = |media: &str| {
        let values = headers.get_all(ACCEPT).filter_map(|v| v.to_str().ok());
        let weights = values.flat_map(|v| v.split(',')).filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next()?.eq_ignore_ascii_case(media);
            let q = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
            named.then(|| q.and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0))
        });
        weights.fold(0.0_f32, f32::max)
    };
    weight(EVENT_STREAM) > weight(JSON)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(&LAST_EVENT_ID) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok("") => Ok(None),
        Ok(id) => Ok(Some(id.to_owned())),
        Err(_) => Err(Problem::new(
            problem::INVALID_CURSOR,
            "Last-Event-ID is not the id of an event of this feed",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn who_accepts_an_event_stream_gets_one() {
        let wants = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            wants_stream(&headers)
        };
        assert!(wants("text/event-stream"));
        assert!(wants("application/json;q=0.1, Text/Event-Stream; q=1"));
        assert!(wants("text/event-stream, */*"));
        assert!(!wants(
            "application/json, text/event-stream, application/problem+json"
        ));
        assert!(!wants("text/event-stream;q=0"));
        assert!(!wants("*/*"));
        assert!(!wants("application/json"));
    }

    #[test]
    fn types_are_checked() {
        assert_eq!(event_types(Some("A, B,")).unwrap(), ["A", "B"]);
        assert!(event_types(None).unwrap().is_empty());
        assert_eq!(
            event_types(Some("a b")).unwrap_err().code(),
            "invalid_query"
        );
        let many = vec!["A"; MAX_TYPES + 1].join(",");
        assert_eq!(
            event_types(Some(&many)).unwrap_err().code(),
            "invalid_query"
        );
    }
}
