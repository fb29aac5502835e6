//! `/api/v1/admin/migration/{backfill,verify,repair,archive}`: the jobs of the migration.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::HttpState;
use super::extract::{Caller, Command};
use super::path::JobPath;
use super::problem::{self, Problem};
use super::respond;
use crate::migration::job::{Job, JobKind};
use crate::service::jobs::JobAction;

/// What to do with a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobAction)]
pub enum Action {
    /// Start one.
    #[default]
    Start,
    /// Stop the one under way at a checkpoint.
    Pause,
    /// Let it go on from there.
    Resume,
    /// Stop it for good.
    Cancel,
}

/// What an order says of jobs is no parameter of one.
fn left_out<T>(_: &T) -> bool {
    true
}

macro_rules! order {
    ($(#[$doc:meta])* $name:ident { $( $(#[$field_doc:meta])* $field:ident: $type:ty, )* }) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize, Serialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Default `start`. The others take `job` and nothing else.
            #[serde(default, skip_serializing_if = "left_out")]
            action: Action,
            /// The job to pause, resume or cancel; without it the last one.
            #[serde(default, skip_serializing_if = "left_out")]
            job: Option<Uuid>,
            $(
                $(#[$field_doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                $field: Option<$type>,
            )*
        }

        impl JobRequest for $name {
            fn action(&self) -> (Action, Option<Uuid>) {
                (self.action, self.job)
            }
        }
    };
}

/// The fields that every request has.
trait JobRequest: Serialize {
    fn action(&self) -> (Action, Option<Uuid>);
}

order! {
    /// Copies history into the log.
    BackfillOrder {
        /// At most so many events per second.
        #[schema(minimum = 1, example = 5000)]
        rate: f64,
        /// Another program's event store to import from: one of `migration.sources` of the
        /// configuration. Without it the history is PostgreSQL's own log.
        source: String,
        /// Of a source: go on with what is written there, until stopped.
        follow: bool,
        /// Of a source: read everything again; what is in the log is recognised.
        restart: bool,
        /// Of PostgreSQL's own log: count, copy nothing.
        dry_run: bool,
    }
}

order! {
    /// Compares the two places of the log.
    VerifyOrder {
        /// Go on from where the last verification ended, instead of from offset 0.
        incremental: bool,
        /// Only these partitions.
        partitions: Vec<u16>,
        /// At most so many events per second.
        #[schema(minimum = 1, example = 5000)]
        rate: f64,
    }
}

order! {
    /// Repairs what a verification found.
    RepairOrder {
        /// The verification whose report is repaired; without it the last one that is done.
        verification: Uuid,
        /// Run a new verification first.
        fresh: bool,
        /// Only these partitions.
        partitions: Vec<u16>,
        /// Report what would be done, and do nothing.
        dry_run: bool,
        /// Also quarantine objects beyond the end of the log that could follow it. Only if it is
        /// certain that none is the last copy of an acknowledged write.
        quarantine_beyond_end: bool,
        /// Objects of the log that leads that may be replaced, filled in or removed, each as
        /// `PARTITION/OFFSET:HASH`, or `NAME:HASH` for what is no object of the log: the beginning of the
        /// SHA-256 of what is there (at least 8 digits), or `absent`. Nothing else there is touched; the
        /// report's `needed` says what a repair would need.
        #[schema(example = json!(["0/5:1f0c8a5e9b7d4e2a"]))]
        replace_in_leader: Vec<String>,
    }
}

order! {
    /// Exports PostgreSQL's retired events to Parquet, then empties their tables.
    ArchiveOrder {
        /// Check whether it may be done, and measure the files; write and empty nothing.
        dry_run: bool,
        /// Export, and leave the tables as they are.
        keep_rows: bool,
    }
}

async fn take<T: JobRequest>(
    state: &HttpState,
    kind: JobKind,
    command: Command<T>,
) -> Result<HttpResponse, Problem> {
    let (action, id) = command.body.action();
    let parameters =
        serde_json::to_value(&command.body).map_err(|e| Problem::internal(e.to_string()))?;
    let asked = parameters.as_object().is_some_and(|p| !p.is_empty());
    let action = match action {
        Action::Start if id.is_some() => {
            let detail = "`job` names a job to pause, resume or cancel; a new one gets its own id";
            return Err(Problem::new(problem::VALIDATION_FAILED, detail).field(
                "job",
                "unexpected",
                detail,
            ));
        }
        Action::Start => None,
        _ if asked => {
            let detail = "to pause, resume or cancel takes `job` and nothing else: a job keeps \
                          what it was started with";
            return Err(Problem::new(problem::VALIDATION_FAILED, detail).field(
                "action",
                "unexpected",
                detail,
            ));
        }
        Action::Pause => Some(JobAction::Pause),
        Action::Resume => Some(JobAction::Resume),
        Action::Cancel => Some(JobAction::Cancel),
    };
    let by = &command.ctx.principal;
    let job = match action {
        None => state.service.start_job(kind, parameters, by).await?,
        Some(action) => {
            tracing::info!(%kind, principal = by, "{by} orders {kind}: {action:?}");
            state.service.order_job(kind, id, action).await?
        }
    };
    respond::json(HttpResponse::build(StatusCode::ACCEPTED), &job)
}

async fn show(
    state: &HttpState,
    caller: Caller,
    kind: JobKind,
    id: Option<Uuid>,
) -> Result<HttpResponse, Problem> {
    let job: Job = caller.within(state.service.job(kind, id)).await?;
    respond::json(HttpResponse::Ok(), &job)
}

/// Starts, pauses, resumes or cancels a backfill.
#[utoipa::path(post, path = "/api/v1/admin/migration/backfill", operation_id = "orderBackfill",
    tag = "admin", request_body = BackfillOrder,
    responses((status = 202, description = "The job as it is now", body = Job)))]
pub async fn backfill(
    state: web::Data<HttpState>,
    command: Command<BackfillOrder>,
) -> Result<HttpResponse, Problem> {
    take(&state, JobKind::Backfill, command).await
}

/// The last backfill.
#[utoipa::path(get, path = "/api/v1/admin/migration/backfill", operation_id = "getLastBackfill",
    tag = "admin", responses((status = 200, description = "The job", body = Job)))]
pub async fn last_backfill(
    state: web::Data<HttpState>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    show(&state, caller, JobKind::Backfill, None).await
}

/// A backfill.
#[utoipa::path(get, path = "/api/v1/admin/migration/backfill/{job}", operation_id = "getBackfill",
    tag = "admin", params(JobPath),
    responses((status = 200, description = "The job", body = Job)))]
pub async fn get_backfill(
    state: web::Data<HttpState>,
    caller: Caller,
    path: JobPath,
) -> Result<HttpResponse, Problem> {
    show(&state, caller, JobKind::Backfill, Some(path.job)).await
}

/// Starts, pauses, resumes or cancels a verification: are PostgreSQL and S3 the same log?
#[utoipa::path(post, path = "/api/v1/admin/migration/verify", operation_id = "orderVerify",
    tag = "admin", request_body = VerifyOrder,
    responses((status = 202, description = "The job as it is now", body = Job)))]
pub async fn verify(
    state: web::Data<HttpState>,
    command: Command<VerifyOrder>,
) -> Result<HttpResponse, Problem> {
    take(&state, JobKind::Verify, command).await
}

/// The last verification.
#[utoipa::path(get, path = "/api/v1/admin/migration/verify", operation_id = "getLastVerify",
    tag = "admin", responses((status = 200, description = "The job", body = Job)))]
pub async fn last_verify(
    state: web::Data<HttpState>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    show(&state, caller, JobKind::Verify, None).await
}

/// A verification.
#[utoipa::path(get, path = "/api/v1/admin/migration/verify/{job}", operation_id = "getVerify",
    tag = "admin", params(JobPath),
    responses((status = 200, description = "The job", body = Job)))]
pub async fn get_verify(
    state: web::Data<HttpState>,
    caller: Caller,
    path: JobPath,
) -> Result<HttpResponse, Problem> {
    show(&state, caller, JobKind::Verify, Some(path.job)).await
}

/// Starts, pauses, resumes or cancels a repair of what a verification found.
#[utoipa::path(post, path = "/api/v1/admin/migration/repair", operation_id = "orderRepair",
    tag = "admin", request_body = RepairOrder,
    responses((status = 202, description = "The job as it is now", body = Job)))]
pub async fn repair(
    state: web::Data<HttpState>,
    command: Command<RepairOrder>,
) -> Result<HttpResponse, Problem> {
    take(&state, JobKind::Repair, command).await
}

/// The last repair.
#[utoipa::path(get, path = "/api/v1/admin/migration/repair", operation_id = "getLastRepair",
    tag = "admin", responses((status = 200, description = "The job", body = Job)))]
pub async fn last_repair(
    state: web::Data<HttpState>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    show(&state, caller, JobKind::Repair, None).await
}

/// A repair.
#[utoipa::path(get, path = "/api/v1/admin/migration/repair/{job}", operation_id = "getRepair",
    tag = "admin", params(JobPath),
    responses((status = 200, description = "The job", body = Job)))]
pub async fn get_repair(
    state: web::Data<HttpState>,
    caller: Caller,
    path: JobPath,
) -> Result<HttpResponse, Problem> {
    show(&state, caller, JobKind::Repair, Some(path.job)).await
}

/// Starts, pauses, resumes or cancels an archive; 409 `not_retired` while PostgreSQL's events have
/// not retired for long enough.
#[utoipa::path(post, path = "/api/v1/admin/migration/archive", operation_id = "orderArchive",
    tag = "admin", request_body = ArchiveOrder,
    responses((status = 202, description = "The job as it is now", body = Job)))]
pub async fn archive(
    state: web::Data<HttpState>,
    command: Command<ArchiveOrder>,
) -> Result<HttpResponse, Problem> {
    take(&state, JobKind::Archive, command).await
}

/// The last archive.
#[utoipa::path(get, path = "/api/v1/admin/migration/archive", operation_id = "getLastArchive",
    tag = "admin", responses((status = 200, description = "The job", body = Job)))]
pub async fn last_archive(
    state: web::Data<HttpState>,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    show(&state, caller, JobKind::Archive, None).await
}

/// An archive.
#[utoipa::path(get, path = "/api/v1/admin/migration/archive/{job}", operation_id = "getArchive",
    tag = "admin", params(JobPath),
    responses((status = 200, description = "The job", body = Job)))]
pub async fn get_archive(
    state: web::Data<HttpState>,
    caller: Caller,
    path: JobPath,
) -> Result<HttpResponse, Problem> {
    show(&state, caller, JobKind::Archive, Some(path.job)).await
}
