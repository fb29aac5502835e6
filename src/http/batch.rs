//! `POST …/instances/batch`: many operations in one request, each on its own. A body that breaks
//! the schema is refused as a whole and nothing is done; otherwise every operation has its result:
//! 200 when all succeeded, 207 when at least one did not (also when none did).

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::HttpState;
use super::extract::Command;
use super::headers::{COMMIT_POSITION, IDEMPOTENT_REPLAYED, last_of_each_partition};
use super::instances::check_metadata;
use super::path::ClassPath;
use super::problem::{self, Problem, ProblemBody};
use super::respond;
use crate::domain::document::Document;
use crate::domain::ids::{CommandId, InstanceId, Position, Version};
use crate::service::batch::BatchOperation;
use crate::service::context::ExpectedVersion;
use crate::service::instance_commands::NewInstance;
use crate::service::view::BatchItem;

/// Operations in a batch at most.
pub const MAX_OPERATIONS: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Create an instance.
    Create,
    /// Merge-patch an instance.
    Update,
    /// Delete an instance.
    Delete,
}

/// One operation. A flat type instead of one variant per `op`: an enum with an internal tag would
/// make serde buffer everything twice.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    op: Op,
    /// Which instance; needed but for `create`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    id: Option<InstanceId>,
    /// `create`: its properties. `update`: the patch.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    data: Option<Document>,
    /// `update`, `delete`: only if this is its version.
    #[serde(default)]
    if_version: Option<u64>,
    /// `create`: metadata to record with the event: an object.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
}

/// A batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// 1 to 1,000 of them. They may be done in any order, so each instance should occur once.
    #[schema(min_items = 1, max_items = 1000)]
    operations: Vec<Operation>,
}

/// The outcome of one operation.
#[derive(Debug, Serialize, ToSchema)]
pub struct ItemAnswer {
    /// The status it would have had as a request of its own.
    pub status: u16,
    /// The instance, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// Its command.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub command_id: Option<CommandId>,
    /// Its version after the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub version: Option<Version>,
    /// Position of its last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub position: Option<Position>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<ProblemBody>,
}

/// The outcome of a batch: one item for each operation, in order.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAnswer {
    /// The results.
    pub items: Vec<ItemAnswer>,
    /// Positions of the last events, one per partition: a query that sends them all as
    /// `X-Min-Position` sees the whole batch. Also in `X-Commit-Position`.
    #[schema(example = json!(["0/1045/2", "1/998/0"]))]
    pub positions: Vec<Position>,
}

fn fault(field: String, code: &'static str, message: &str) -> Problem {
    Problem::new(problem::VALIDATION_FAILED, format!("{field}: {message}"))
        .field(field, code, message)
}

fn operation(i: usize, given: Operation) -> Result<BatchOperation, Problem> {
    let at = |name: &str| format!("operations[{i}].{name}");
    let required = |name: &str| fault(at(name), "required", "it is needed for this operation");
    let unexpected = |name: &str| {
        let message = "it means nothing for this operation";
        Err(fault(at(name), "unknown_field", message))
    };
    let expected = given.if_version.map_or(ExpectedVersion::Any, |version| {
        ExpectedVersion::Exactly(Version(version))
    });
    if given.op == Op::Create && given.if_version.is_some() {
        return unexpected("if_version");
    }
    if given.op != Op::Create && given.metadata.is_some() {
        return unexpected("metadata");
    }
    match given.op {
        Op::Create => Ok(BatchOperation::Create(NewInstance {
            id: given.id,
            data: given.data.ok_or_else(|| required("data"))?,
            metadata: check_metadata(given.metadata, || at("metadata"))?,
        })),
        Op::Update => Ok(BatchOperation::Update {
            id: given.id.ok_or_else(|| required("id"))?,
            patch: given.data.ok_or_else(|| required("data"))?,
            expected,
        }),
        Op::Delete if given.data.is_some() => unexpected("data"),
        Op::Delete => Ok(BatchOperation::Delete {
            id: given.id.ok_or_else(|| required("id"))?,
            expected,
        }),
    }
}

fn operations(batch: Batch) -> Result<Vec<BatchOperation>, Problem> {
    let count = batch.operations.len();
    if !(1..=MAX_OPERATIONS).contains(&count) {
        let message = format!("there must be 1 to {MAX_OPERATIONS}, not {count}");
        return Err(fault("operations".into(), "count", &message));
    }
    let given = batch.operations.into_iter().enumerate();
    given.map(|(i, given)| operation(i, given)).collect()
}

/// Logs causes that the caller does not see: each bug and each damage, but a failing dependency
/// once for the whole batch instead of a thousand times.
fn tell_log(causes: &[(u16, String)], correlation_id: &str) {
    let (bugs, unserved): (Vec<_>, Vec<_>) = causes.iter().partition(|(status, _)| *status == 500);
    for (_, cause) in bugs {
        tracing::error!(
            correlation_id,
            cause,
            "an operation of a batch failed: {cause}"
        );
    }
    if let Some((_, cause)) = unserved.first() {
        let count = unserved.len();
        tracing::warn!(
            correlation_id,
            count,
            cause,
            "{count} operations of a batch could not be served, the first because: {cause}"
        );
    }
}

fn answer(results: Vec<BatchItem>, correlation_id: &str) -> Result<HttpResponse, Problem> {
    let replayed = results
        .iter()
        .all(|r| r.outcome.as_ref().is_ok_and(|w| w.replayed));
    let mut all_done = true;
    let mut causes = Vec::new();
    let items = results.into_iter().map(|result| match result.outcome {
        Ok(written) => ItemAnswer {
            status: if written.created { 201 } else { 200 },
            id: Some(written.id),
            command_id: Some(written.command_id),
            version: Some(written.version),
            position: written.position,
            error: None,
        },
        Err(error) => {
            all_done = false;
            let problem = Problem::from(error);
            if let Some(cause) = problem.cause() {
                causes.push((problem.body().status, cause.to_owned()));
            }
            let error = problem.into_body();
            ItemAnswer {
                status: error.status,
                id: result.id,
                command_id: error.command_id,
                version: None,
                position: None,
                error: Some(error),
            }
        }
    });
    let items: Vec<ItemAnswer> = items.collect();
    let positions = last_of_each_partition(items.iter().filter_map(|i| i.position).collect());
    tell_log(&causes, correlation_id);
    let mut response = HttpResponse::build(if all_done {
        StatusCode::OK
    } else {
        StatusCode::MULTI_STATUS
    });
    if replayed {
        response.insert_header((IDEMPOTENT_REPLAYED, HeaderValue::from_static("true")));
    }
    if !positions.is_empty() {
        response.insert_header((COMMIT_POSITION, respond::commit_positions(&positions)?));
    }
    respond::json(response, &BatchAnswer { items, positions })
}

/// Runs many operations on the instances of a class, each on its own.
#[utoipa::path(post, path = "/api/v1/databases/{db}/classes/{class}/instances/batch",
    operation_id = "batchInstances", tag = "instances", params(ClassPath), request_body = Batch,
    responses(
        (status = 200, description = "All succeeded", body = BatchAnswer),
        (status = 207, description = "At least one failed", body = BatchAnswer)))]
pub async fn batch(
    state: web::Data<HttpState>,
    path: ClassPath,
    command: Command<Batch>,
) -> Result<HttpResponse, Problem> {
    command.precondition.for_creation()?;
    let operations = operations(command.body)?;
    let results = state
        .service
        .batch(&command.ctx, path.db, path.class, operations)
        .await?;
    answer(results, &command.ctx.correlation_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Epoch;
    use crate::domain::refusal::Refusal;
    use crate::http::json;
    use crate::migration::stage::Stage;
    use crate::service::view::Written;
    use actix_web::body::to_bytes;
    use serde_json::Value;

    fn read(text: &str) -> Result<Vec<BatchOperation>, (String, &'static str)> {
        json::parse_object::<Batch>(text.as_bytes())
            .and_then(operations)
            .map_err(|problem| {
                let violation = problem.into_body().violations.remove(0);
                (violation.field, violation.code)
            })
    }

    #[test]
    fn each_operation_needs_its_parts_and_takes_no_others() {
        let one = |operation: &str| read(&format!("{{\"operations\":[{operation}]}}"));
        assert!(matches!(
            one(r#"{"op":"create","data":{}}"#).unwrap()[0],
            BatchOperation::Create(_)
        ));
        assert!(matches!(
            one(r#"{"op":"delete","id":"a","if_version":3}"#).unwrap()[0],
            BatchOperation::Delete {
                expected: ExpectedVersion::Exactly(Version(3)),
                ..
            }
        ));
        let table = [
            (r#"{"op":"create"}"#, "data", "required"),
            (r#"{"op":"update","data":{}}"#, "id", "required"),
            (r#"{"op":"update","id":"a"}"#, "data", "required"),
            (r#"{"op":"delete"}"#, "id", "required"),
            (
                r#"{"op":"delete","id":"a","data":{}}"#,
                "data",
                "unknown_field",
            ),
            (
                r#"{"op":"create","data":{},"if_version":1}"#,
                "if_version",
                "unknown_field",
            ),
            (
                r#"{"op":"delete","id":"a","metadata":{}}"#,
                "metadata",
                "unknown_field",
            ),
            (
                r#"{"op":"create","data":{},"metadata":1}"#,
                "metadata",
                "type",
            ),
            (r#"{"op":"create","data":[]}"#, "data", "type"),
            (r#"{"op":"drop"}"#, "op", "unknown_value"),
            (r#"{"op":"create","data":{},"x":1}"#, "x", "unknown_field"),
        ];
        for (operation, field, code) in table {
            let expected = (format!("operations[0].{field}"), code);
            assert_eq!(one(operation).unwrap_err(), expected, "{operation}");
        }
    }

    #[test]
    fn batches_are_bounded() {
        let of = |n: usize| {
            let all = vec![r#"{"op":"delete","id":"a"}"#; n].join(",");
            read(&format!("{{\"operations\":[{all}]}}"))
        };
        assert_eq!(of(0).unwrap_err().0, "operations");
        assert_eq!(of(MAX_OPERATIONS).unwrap().len(), MAX_OPERATIONS);
        assert_eq!(of(MAX_OPERATIONS + 1).unwrap_err().1, "count");
    }

    fn done(created: bool) -> BatchItem {
        BatchItem {
            id: Some("a".into()),
            outcome: Ok(Written {
                id: "a".into(),
                command_id: CommandId(uuid::Uuid::from_u128(7)),
                version: Version(1),
                position: None,
                stage: Stage::s3_only(Epoch(1)),
                mirrored: false,
                data: None,
                created,
                replayed: false,
            }),
        }
    }

    #[actix_web::test]
    async fn one_failure_makes_it_207_and_tells_which() {
        let failed = BatchItem {
            id: Some("b".into()),
            outcome: Err(Refusal::not_found("instance_not_found", "m").into()),
        };
        assert_eq!(
            answer(vec![done(true), done(false)], "story")
                .unwrap()
                .status(),
            200
        );
        let response = answer(vec![done(true), failed], "story").unwrap();
        assert_eq!(response.status(), 207);
        let body = to_bytes(response.into_body()).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["items"][0]["status"], 201);
        assert_eq!(body["items"][1]["status"], 404);
        assert_eq!(body["items"][1]["id"], "b");
        assert_eq!(body["items"][1]["error"]["code"], "instance_not_found");
    }

    #[actix_web::test]
    async fn a_batch_says_what_a_query_must_have_seen() {
        let at = |text: &str| {
            let mut item = done(true);
            if let Ok(written) = &mut item.outcome {
                written.position = Some(text.parse().unwrap());
            }
            item
        };
        let failed = BatchItem {
            id: None,
            outcome: Err(Refusal::not_found("instance_not_found", "m").into()),
        };
        let items = vec![at("1/7/0"), at("0/3/9"), failed, at("1/7/2"), done(false)];
        let response = answer(items, "story").unwrap();
        let header = response.headers().get(COMMIT_POSITION).unwrap();
        assert_eq!(header, "0/3/9, 1/7/2");
        let body = to_bytes(response.into_body()).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["positions"], serde_json::json!(["0/3/9", "1/7/2"]));
        let response = answer(vec![done(true)], "story").unwrap();
        assert!(!response.headers().contains_key(COMMIT_POSITION));
    }
}
