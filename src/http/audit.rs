//! `/api/v1/admin/audit`. What is recorded there: [`super::audited`].

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::HttpState;
use super::audited::UNANSWERED;
use super::extract::{Caller, Params};
use super::paging::page_limit;
use super::problem::{self, Problem};
use super::respond;
use crate::service::audit::AuditFilter;
use crate::store::ports::audit_table::{AuditEntry, AuditKind};

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditParams {
    /// Entries on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only what this principal did.
    principal: Option<String>,
    /// Only `command` or only `refusal`.
    #[param(pattern = "^(command|refusal)$")]
    kind: Option<String>,
}

/// What came of a request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// Nothing was done.
    Refused,
    /// It may have been begun.
    Failed,
    /// Its caller left before the answer; it may have been begun.
    Unanswered,
}

/// An entry of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct Entry {
    /// Names it.
    id: Uuid,
    /// When the request was answered.
    time: jiff::Timestamp,
    /// The process that answered.
    node: String,
    /// `command`: an order of an administrator; `refusal`: a 401 or 403.
    kind: AuditKind,
    /// Who; null where nobody was recognised.
    #[schema(required)]
    principal: Option<String>,
    /// Where from.
    #[schema(required)]
    address: Option<String>,
    /// Method and path.
    #[schema(example = "POST /api/v1/admin/migration/mode")]
    action: String,
    /// The order itself, its beginning where it is long.
    #[schema(required)]
    body: Option<String>,
    /// `done`, `refused` (nothing was done), `failed` (it may have been begun) or `unanswered` (its caller
    /// left before the answer; it may have been begun).
    outcome: AuditOutcome,
    /// Status of the answer; 0 where there was none.
    status: u16,
    /// Code of the problem, where the answer was one.
    #[schema(required)]
    code: Option<String>,
    /// As in the answer's `X-Request-Id`.
    request_id: String,
    /// Number of requests: refusals of a kind within a minute are counted together.
    times: u64,
}

impl From<AuditEntry> for Entry {
    fn from(entry: AuditEntry) -> Self {
        let outcome = match entry.status {
            UNANSWERED => AuditOutcome::Unanswered,
            1..400 => AuditOutcome::Done,
            400..500 => AuditOutcome::Refused,
            _ => AuditOutcome::Failed,
        };
        Self {
            id: entry.id,
            time: entry.time,
            node: entry.node,
            kind: entry.kind,
            principal: entry.principal,
            address: entry.address,
            action: entry.action,
            body: entry.body,
            outcome,
            status: entry.status,
            code: entry.code,
            request_id: entry.request_id,
            times: entry.times,
        }
    }
}

/// A page of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// The entries, the newest first.
    items: Vec<Entry>,
    /// Ask with this for what is older; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Administrators' requests and refused callers, newest first.
#[utoipa::path(get, path = "/api/v1/admin/audit", operation_id = "listAudit", tag = "admin",
    params(AuditParams), responses((status = 200, description = "A page", body = AuditPage)))]
pub async fn list(
    state: web::Data<HttpState>,
    caller: Caller,
    Params(params): Params<AuditParams>,
) -> Result<HttpResponse, Problem> {
    let limit = page_limit(params.limit)?;
    let before = match params.cursor.as_deref().map(str::parse) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => {
            let message = "cursor must be the next_cursor of a page of the audit trail";
            return Err(Problem::new(problem::INVALID_CURSOR, message));
        }
    };
    let kind = match params.kind.as_deref().map(AuditKind::from_word) {
        None => None,
        Some(Some(kind)) => Some(kind),
        Some(None) => {
            let message = "kind must be command or refusal";
            return Err(Problem::new(problem::INVALID_QUERY, message).subject("kind"));
        }
    };
    let filter = AuditFilter {
        before,
        principal: params.principal,
        kind,
    };
    let entries = caller.within(state.service.audit(filter, limit)).await?;
    let items: Vec<Entry> = entries.into_iter().map(Entry::from).collect();
    let last = items.last().filter(|_| items.len() == limit);
    let next_cursor = last.map(|entry| entry.id.to_string());
    respond::json(HttpResponse::Ok(), &AuditPage { items, next_cursor })
}
