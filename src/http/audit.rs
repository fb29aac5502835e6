//! The audit trail: which requests are recorded, and `/api/v1/admin/audit`.

use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::HttpState;
use super::auth::Access;
use super::databases::page_limit;
use super::extract::{Caller, Params};
use super::headers::{REQUEST_ID, client_request_id};
use super::limits::HttpLimits;
use super::problem::{self, Problem};
use super::respond;
use crate::service::audit::{Answered, AuditFilter, AuditTrail, MAX_BODY};
use crate::store::ports::audit_table::{AuditEntry, AuditKind};

/// Notes about a request, kept by the middleware until it is answered: whether it is an
/// administrator's order. A refusal is recognised by its answer.
pub struct Audited {
    trail: Option<Arc<AuditTrail>>,
    limits: Arc<HttpLimits>,
    order: bool,
    route: &'static str,
    principal: Option<Arc<str>>,
    /// An order that was let in and is not answered yet.
    unanswered: Option<HttpRequest>,
}

/// Request extension: the body has to be kept for the audit.
struct KeepBody;

/// Request extension: the beginning of the body.
struct KeptBody(Bytes);

/// Keeps the beginning of the body of an order.
pub fn keep_body(req: &HttpRequest, body: &Bytes) {
    let mut extensions = req.extensions_mut();
    if extensions.contains::<KeepBody>() {
        // One byte more than is recorded, to detect that it was cut. Copied, because the whole may
        // be large.
        let beginning = &body[..body.len().min(MAX_BODY + 1)];
        extensions.insert(KeptBody(Bytes::copy_from_slice(beginning)));
    }
}

impl Audited {
    /// Notes for a request to `route`, which asks for `access`.
    pub fn new(
        limits: &Arc<HttpLimits>,
        req: &ServiceRequest,
        access: Access,
        route: &'static str,
    ) -> Self {
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(req.method());
        let order = access == Access::Admin && !reads;
        if order {
            req.extensions_mut().insert(KeepBody);
        }
        Self {
            trail: limits.audit.clone(),
            limits: limits.clone(),
            order,
            route,
            principal: None,
            unanswered: None,
        }
    }

    /// Records that the caller has the role.
    pub fn let_in(&mut self, principal: &Arc<str>, request: &HttpRequest) {
        self.principal = Some(principal.clone());
        self.unanswered = self.order.then(|| request.clone());
    }

    /// Records the request if it is an order or was refused.
    pub fn answered(mut self, response: &ServiceResponse<BoxBody>) {
        self.unanswered = None;
        let Some(trail) = &self.trail else {
            return;
        };
        let status = response.status();
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
        let ordered = self.order && self.principal.is_some();
        if !(ordered || refused) {
            return;
        }
        let request = response.request();
        let principal = match &self.principal {
            Some(principal) => Some(principal.clone()),
            None => self.limits.auth.recognise(request.headers()),
        };
        let extensions = request.extensions();
        let body = extensions.get::<KeptBody>().map(|kept| &*kept.0);
        let problem = response.response().error();
        let request_id = response.headers().get(REQUEST_ID);
        trail.record(&Answered {
            kind: if ordered {
                AuditKind::Command
            } else {
                AuditKind::Refusal
            },
            principal: principal.as_deref(),
            address: request.peer_addr().map(|address| address.ip().to_string()),
            method: request.method().as_str(),
            path: request.path(),
            route: self.route,
            body,
            status: status.as_u16(),
            code: problem.and_then(|e| Some(e.as_error::<Problem>()?.code())),
            request_id: request_id
                .and_then(|id| id.to_str().ok())
                .unwrap_or_default(),
        });
    }
}

/// A caller whose connection breaks takes the handler with it, not what it has begun.
impl Drop for Audited {
    fn drop(&mut self) {
        let (Some(trail), Some(request)) = (&self.trail, self.unanswered.take()) else {
            return;
        };
        let extensions = request.extensions();
        let id = client_request_id(request.headers());
        trail.record(&Answered {
            kind: AuditKind::Command,
            principal: self.principal.as_deref(),
            address: request.peer_addr().map(|address| address.ip().to_string()),
            method: request.method().as_str(),
            path: request.path(),
            route: self.route,
            body: extensions.get::<KeptBody>().map(|kept| &*kept.0),
            status: UNANSWERED,
            code: Some("unanswered"),
            request_id: id.and_then(|id| id.to_str().ok()).unwrap_or_default(),
        });
    }
}

/// Status of an order that was let in and never answered.
const UNANSWERED: u16 = 0;

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
