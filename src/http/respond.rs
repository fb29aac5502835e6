//! Answers that resources share: a write's receipt, a resource, a page.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LOCATION};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::extract::Caller;
use super::headers::{
    COMMIT_POSITION, IDEMPOTENT_REPLAYED, READ_LAG, READ_SOURCE, has_version, min_positions,
};
use super::problem::{self, Problem};
use crate::domain::ids::{CommandId, Position, Version};
use crate::log::lead::Lead;
use crate::migration::stage::Mode;
use crate::service::Service;
use crate::service::queries::Answer;
use crate::service::view::{Page, Resource, Written};

/// Longest wait for the read model to reach `X-Min-Position`: after that the caller had better
/// retry than occupy a request's place.
pub const MAX_POSITION_WAIT: Duration = Duration::from_secs(5);

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The receipt of a write.
#[derive(Debug, Serialize, ToSchema)]
pub struct WriteAnswer<'a> {
    /// Database name, class id, instance id or stream name.
    pub id: &'a str,
    /// The command, for `/api/v1/commands/{command_id}`.
    pub command_id: CommandId,
    /// Version after the command; also the `ETag`.
    pub version: Version,
    /// Position of its last event, `partition/offset/index`; null when the command changed nothing.
    #[schema(required)]
    pub position: Option<Position>,
    /// The migration mode it was committed in.
    pub mode: Mode,
    /// The store whose write made it true.
    pub lead: Lead,
    /// The stores that hold it already.
    pub stored_in: &'static [Lead],
    /// The resource after the command; absent after deletions and plain appends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub data: Option<&'a RawValue>,
}

impl<'a> WriteAnswer<'a> {
    fn of(written: &'a Written) -> Self {
        Self {
            id: &written.id,
            command_id: written.command_id,
            version: written.version,
            position: written.position,
            mode: written.stage.mode,
            lead: written.stage.leadership.lead,
            stored_in: written.stage.stored_in(written.mirrored),
            data: written.data.as_deref(),
        }
    }
}

pub fn json(
    mut response: HttpResponseBuilder,
    body: &impl Serialize,
) -> Result<HttpResponse, Problem> {
    let mut bytes = Vec::with_capacity(1_024);
    serde_json::to_writer(&mut bytes, body).map_err(|e| Problem::internal(e.to_string()))?;
    Ok(response.insert_header((CONTENT_TYPE, JSON)).body(bytes))
}

/// A header whose text is ASCII of our own.
fn header(text: String) -> Result<HeaderValue, Problem> {
    HeaderValue::try_from(text).map_err(|e| Problem::internal(e.to_string()))
}

fn etag(version: Version) -> Result<HeaderValue, Problem> {
    header(format!("\"{version}\""))
}

/// Answers a write: 201 with `Location` (made by `location` from the id) if it created the
/// resource, else 200.
pub fn written(
    written: &Written,
    location: impl FnOnce(&str) -> String,
) -> Result<HttpResponse, Problem> {
    let mut response = if written.created {
        let mut response = HttpResponse::Created();
        response.insert_header((LOCATION, header(location(&written.id))?));
        response
    } else {
        HttpResponse::Ok()
    };
    response.insert_header((ETAG, etag(written.version)?));
    if let Some(position) = written.position {
        response.insert_header((COMMIT_POSITION, header(position.to_string())?));
    }
    if written.replayed {
        response.insert_header((IDEMPOTENT_REPLAYED, HeaderValue::from_static("true")));
    }
    json(response, &WriteAnswer::of(written))
}

fn read_headers<T>(response: &mut HttpResponseBuilder, answer: &Answer<T>) -> Result<(), Problem> {
    response.insert_header((READ_SOURCE, HeaderValue::from_static(answer.source)));
    if let Some(lag) = answer.lag_commits {
        response.insert_header((READ_LAG, HeaderValue::from(lag)));
    }
    Ok(())
}

/// `X-Commit-Position` of a request with several commits, in the form that `X-Min-Position`
/// accepts.
pub fn commit_positions(positions: &[Position]) -> Result<HeaderValue, Problem> {
    let texts: Vec<String> = positions.iter().map(ToString::to_string).collect();
    header(texts.join(", "))
}

/// Answers with one resource, or 304 if `If-None-Match` says that the caller has it.
pub fn resource(headers: &HeaderMap, answer: &Answer<Resource>) -> Result<HttpResponse, Problem> {
    let version = answer.value.version;
    let unchanged = has_version(headers, version);
    let mut response = HttpResponse::build(if unchanged {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    });
    response.insert_header((ETAG, etag(version)?));
    read_headers(&mut response, answer)?;
    if unchanged {
        return Ok(response.finish());
    }
    json(response, &answer.value)
}

pub fn page<T: Serialize>(answer: &Answer<Page<T>>) -> Result<HttpResponse, Problem> {
    let mut response = HttpResponse::Ok();
    read_headers(&mut response, answer)?;
    json(response, &answer.value)
}

/// Holds a read of the read model back until that has taken in `X-Min-Position`; 503 when it has
/// not within [`MAX_POSITION_WAIT`], 400 where the log has no such position: then waiting is in vain.
pub async fn await_position(
    req: &HttpRequest,
    caller: &Caller,
    service: &Service,
) -> Result<(), Problem> {
    let positions = min_positions(req.headers(), service.partitions())?;
    if positions.is_empty() {
        return Ok(());
    }
    if let Some((position, end)) = caller.within(service.first_beyond_log(&positions)).await? {
        let detail = format!(
            "X-Min-Position: {position} is not in this log, whose partition {} ends before offset {end}: it \
             was never given out, or by another log",
            position.partition
        );
        return Err(Problem::new(problem::INVALID_HEADER, detail));
    }
    let patience = caller.patience(MAX_POSITION_WAIT);
    Ok(service.wait_for_positions(&positions, patience).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Epoch;
    use crate::migration::stage::Stage;
    use actix_web::body::to_bytes;
    use actix_web::http::header::IF_NONE_MATCH;

    fn receipt() -> Written {
        Written {
            id: "a b".into(),
            command_id: CommandId(uuid::Uuid::from_u128(7)),
            version: Version(3),
            position: Some("1/2/3".parse().unwrap()),
            stage: Stage::s3_only(Epoch(1)),
            mirrored: false,
            data: Some(RawValue::from_string(r#"{"n":1.50}"#.into()).unwrap()),
            created: true,
            replayed: false,
        }
    }

    #[actix_web::test]
    async fn a_write_is_answered_with_its_receipt() {
        let response = written(&receipt(), |id| {
            format!("/x/{}", super::super::path::segment(id))
        })
        .unwrap();
        assert_eq!(response.status(), 201);
        let headers = response.headers();
        assert_eq!(headers.get(LOCATION).unwrap(), "/x/a%20b");
        assert_eq!(headers.get(ETAG).unwrap(), "\"3\"");
        assert_eq!(headers.get(COMMIT_POSITION).unwrap(), "1/2/3");
        assert!(!headers.contains_key(IDEMPOTENT_REPLAYED));
        let body = to_bytes(response.into_body()).await.unwrap();
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            concat!(
                r#"{"id":"a b","command_id":"00000000-0000-0000-0000-000000000007","version":3,"#,
                r#""position":"1/2/3","mode":"s3_only","lead":"s3","stored_in":["s3"],"#,
                r#""data":{"n":1.50}}"#
            )
        );
    }

    #[actix_web::test]
    async fn a_change_is_200_and_a_recorded_answer_says_so() {
        let change = Written {
            created: false,
            replayed: true,
            position: None,
            data: None,
            ..receipt()
        };
        let response = written(&change, |_| unreachable!()).unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get(IDEMPOTENT_REPLAYED).unwrap(), "true");
        assert!(!response.headers().contains_key(COMMIT_POSITION));
        assert!(!response.headers().contains_key(LOCATION));
        let body = to_bytes(response.into_body()).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(body["position"].is_null() && body.get("data").is_none());
    }

    #[actix_web::test]
    async fn a_resource_says_where_it_was_read_and_is_not_sent_twice() {
        let answer = Answer {
            value: Resource {
                id: "a".into(),
                version: Version(3),
                data: RawValue::from_string("{}".into()).unwrap(),
                created_at: "2026-01-02T03:04:05Z".parse().unwrap(),
                updated_at: "2026-01-02T03:04:06Z".parse().unwrap(),
            },
            source: "read_model",
            lag_commits: Some(2),
        };
        let mut headers = HeaderMap::new();
        let response = resource(&headers, &answer).unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get(READ_SOURCE).unwrap(), "read_model");
        assert_eq!(response.headers().get(READ_LAG).unwrap(), "2");
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"3\""));
        let response = resource(&headers, &answer).unwrap();
        assert_eq!(response.status(), 304);
        assert_eq!(response.headers().get(ETAG).unwrap(), "\"3\"");
        assert!(to_bytes(response.into_body()).await.unwrap().is_empty());
    }
}
