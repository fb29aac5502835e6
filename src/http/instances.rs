//! `/api/v1/databases/{db}/classes/{class}/instances`

use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::HttpState;
use super::events::{self, HistoryParams};
use super::extract::{BareCommand, Caller, Command, Params};
use super::headers::min_positions;
use super::paging::page_limit;
use super::path::{ClassPath, InstancePath, segment};
use super::problem::{self, Problem};
use super::respond::{self, WriteAnswer, await_position};
use crate::domain::document::Document;
use crate::domain::ids::{ClassId, DatabaseName, InstanceId, StreamName, Version};
use crate::service::instance_commands::NewInstance;
use crate::service::queries::{Consistency, PointInTime};
use crate::service::view::{EventPage, Resource, ResourcePage};
use crate::store::ports::read_model::InstanceQuery;

/// A new instance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInstance {
    /// 1 to 200 bytes without control characters or `/`; made up when it is not given.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    id: Option<InstanceId>,
    /// Its properties, as its class defines them.
    #[schema(value_type = Object)]
    data: Document,
    /// Metadata to record with the event: an object.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
}

/// Checks that a caller's metadata are an object; `field` is their place in the body.
pub fn check_metadata(
    metadata: Option<Box<RawValue>>,
    field: impl FnOnce() -> String,
) -> Result<Option<Box<RawValue>>, Problem> {
    match &metadata {
        Some(raw) if !raw.get().starts_with('{') => {
            let (field, message) = (field(), "it must be an object");
            Err(
                Problem::new(problem::VALIDATION_FAILED, format!("{field}: {message}"))
                    .field(field, "type", message),
            )
        }
        _ => Ok(metadata),
    }
}

/// Creates an instance, validated against its class.
#[utoipa::path(post, path = "/api/v1/databases/{db}/classes/{class}/instances",
    operation_id = "createInstance", tag = "instances", params(ClassPath),
    request_body = CreateInstance,
    responses((status = 201, description = "Created", body = WriteAnswer)))]
pub async fn create(
    state: web::Data<HttpState>,
    path: ClassPath,
    command: Command<CreateInstance>,
) -> Result<HttpResponse, Problem> {
    command.precondition.for_creation()?;
    let new = NewInstance {
        id: command.body.id,
        data: command.body.data,
        metadata: check_metadata(command.body.metadata, || "metadata".into())?,
    };
    let location = location(&path.db, &path.class);
    let written = state
        .service
        .create_instance(&command.ctx, path.db, path.class, new)
        .await?;
    respond::written(&written, location)
}

/// Which instances, in which order.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Items on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Properties to sort by, separated by commas; `-` before one sorts it descending.
    #[param(example = "-year,title")]
    sort: Option<String>,
}

/// Lists the instances of a class, from the read model.
#[utoipa::path(get, path = "/api/v1/databases/{db}/classes/{class}/instances",
    operation_id = "listInstances", tag = "instances", params(ClassPath, ListParams),
    responses((status = 200, description = "A page", body = ResourcePage)))]
pub async fn list(
    state: web::Data<HttpState>,
    req: HttpRequest,
    caller: Caller,
    path: ClassPath,
    Params(params): Params<ListParams>,
) -> Result<HttpResponse, Problem> {
    let limit = Some(page_limit(params.limit)? as i64);
    let query = InstanceQuery::list(params.sort.as_deref(), limit, params.cursor)?;
    await_position(&req, &caller, &state.service).await?;
    let read = state.service.instances(&path.db, &path.class, &query);
    respond::page(&caller.within(read).await?)
}

/// Which state of the instance.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GetParams {
    /// The state right after this version; excludes `at`.
    at_version: Option<u64>,
    /// The state as it was known at this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    at: Option<String>,
    /// `strong` (the default) asks the aggregate and sees every acknowledged write; `read_model`
    /// may lag behind.
    #[param(inline, example = "strong")]
    consistency: Option<Freshness>,
}

/// Where the current state is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// The aggregate.
    Strong,
    /// The read model.
    ReadModel,
}

/// The state that a reader asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Now(Consistency),
    Past(PointInTime),
}

fn wanted(params: &GetParams) -> Result<Wanted, Problem> {
    let invalid = |field: &'static str, message: String| {
        Problem::new(problem::INVALID_QUERY, format!("{field}: {message}"))
            .field(field, "invalid", message)
    };
    match (params.at_version, &params.at, params.consistency) {
        (None, None, None | Some(Freshness::Strong)) => Ok(Wanted::Now(Consistency::Strong)),
        (None, None, Some(Freshness::ReadModel)) => Ok(Wanted::Now(Consistency::ReadModel)),
        (_, _, Some(_)) => Err(invalid(
            "consistency",
            "the past is read from the events and never lags".into(),
        )),
        (Some(_), Some(_), None) => Err(invalid("at", "excludes at_version".into())),
        (Some(0), None, None) => Err(invalid("at_version", "versions begin at 1".into())),
        (Some(version), None, None) => Ok(Wanted::Past(PointInTime::Version(Version(version)))),
        (None, Some(at), None) => match at.parse::<Timestamp>() {
            Ok(at) => Ok(Wanted::Past(PointInTime::Time(at))),
            Err(error) => Err(invalid("at", error.to_string())),
        },
    }
}

/// One instance, as it stands or as it was.
#[utoipa::path(get, path = "/api/v1/databases/{db}/classes/{class}/instances/{id}",
    operation_id = "getInstance", tag = "instances", params(InstancePath, GetParams),
    responses(
        (status = 200, description = "The instance", body = Resource),
        (status = 304, description = "It is the one of `If-None-Match`")))]
pub async fn get(
    state: web::Data<HttpState>,
    req: HttpRequest,
    caller: Caller,
    path: InstancePath,
    Params(params): Params<GetParams>,
) -> Result<HttpResponse, Problem> {
    let InstancePath { db, class, id } = &path;
    let service = &state.service;
    let answer = match wanted(&params)? {
        Wanted::Past(when) => {
            caller
                .within(service.instance_at(db, class, id, when))
                .await?
        }
        Wanted::Now(consistency) => {
            if consistency == Consistency::ReadModel {
                await_position(&req, &caller, service).await?;
            } else {
                // Only its form is checked: a strong read has seen every position.
                min_positions(req.headers(), service.partitions())?;
            }
            caller
                .within(service.instance(db, class, id, consistency))
                .await?
        }
    };
    respond::resource(req.headers(), &answer)
}

/// Merge-patches an instance (RFC 7396): the body is the patch of its `data`; null removes a
/// property.
#[utoipa::path(patch, path = "/api/v1/databases/{db}/classes/{class}/instances/{id}",
    operation_id = "patchInstance", tag = "instances", params(InstancePath),
    request_body(content = Object, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "Changed", body = WriteAnswer)))]
pub async fn patch(
    state: web::Data<HttpState>,
    path: InstancePath,
    command: Command<Document>,
) -> Result<HttpResponse, Problem> {
    let expected = command.precondition.for_change()?;
    let location = location(&path.db, &path.class);
    let InstancePath { db, class, id } = path;
    let written = state
        .service
        .patch_instance(&command.ctx, db, class, id, command.body, expected)
        .await?;
    respond::written(&written, location)
}

/// Deletes an instance.
#[utoipa::path(delete, path = "/api/v1/databases/{db}/classes/{class}/instances/{id}",
    operation_id = "deleteInstance", tag = "instances", params(InstancePath),
    responses((status = 200, description = "Deleted", body = WriteAnswer)))]
pub async fn delete(
    state: web::Data<HttpState>,
    path: InstancePath,
    command: BareCommand,
) -> Result<HttpResponse, Problem> {
    let expected = command.precondition.for_change()?;
    let location = location(&path.db, &path.class);
    let InstancePath { db, class, id } = path;
    let written = state
        .service
        .delete_instance(&command.ctx, db, class, id, expected)
        .await?;
    respond::written(&written, location)
}

/// An instance's events, with who, when and why.
#[utoipa::path(get, path = "/api/v1/databases/{db}/classes/{class}/instances/{id}/history",
    operation_id = "getInstanceHistory", tag = "instances", params(InstancePath, HistoryParams),
    responses((status = 200, description = "A page of events", body = EventPage)))]
pub async fn history(
    state: web::Data<HttpState>,
    caller: Caller,
    path: InstancePath,
    Params(page): Params<HistoryParams>,
) -> Result<HttpResponse, Problem> {
    let stream = StreamName::instance(&path.db, &path.class, &path.id);
    events::history(&state, &caller, stream, &page).await
}

fn location(db: &DatabaseName, class: &ClassId) -> impl FnOnce(&str) -> String + use<> {
    let instances = format!(
        "/api/v1/databases/{db}/classes/{}/instances/",
        segment(class.as_str())
    );
    move |id| format!("{instances}{}", segment(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Result<Wanted, &'static str> {
        let params = web::Query::<GetParams>::from_query(text).unwrap();
        wanted(&params).map_err(|p| p.code())
    }

    #[test]
    fn a_reader_asks_for_now_or_for_one_moment() {
        assert_eq!(ask(""), Ok(Wanted::Now(Consistency::Strong)));
        assert_eq!(
            ask("consistency=read_model"),
            Ok(Wanted::Now(Consistency::ReadModel))
        );
        assert_eq!(
            ask("at_version=3"),
            Ok(Wanted::Past(PointInTime::Version(Version(3))))
        );
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(
            ask("at=2026-01-02T04:04:05%2B01:00"),
            Ok(Wanted::Past(PointInTime::Time(at)))
        );
        for bad in [
            "at_version=0",
            "at=yesterday",
            "at=2026-01-02T03:04:05",
            "at_version=1&at=2026-01-02T03:04:05Z",
            "at_version=1&consistency=strong",
        ] {
            assert_eq!(ask(bad), Err("invalid_query"), "{bad}");
        }
    }

    #[test]
    fn remarks_must_be_an_object() {
        let raw = |text: &str| Some(RawValue::from_string(text.into()).unwrap());
        assert!(check_metadata(raw("{\"a\":1}"), || "m".into()).is_ok());
        assert!(check_metadata(None, || "m".into()).is_ok());
        for bad in ["1", "[]", "\"{\""] {
            let problem = check_metadata(raw(bad), || "events[0].metadata".into()).unwrap_err();
            assert_eq!(problem.body().violations[0].field, "events[0].metadata");
        }
    }
}
