//! Which requests go into the audit trail: orders of an administrator, and refused callers.

use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderValue;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage, HttpRequest};
use bytes::Bytes;

use super::auth::Access;
use super::headers::REQUEST_ID;
use super::limits::HttpLimits;
use super::problem::Problem;
use crate::service::audit::{Answered, AuditTrail, MAX_BODY};
use crate::store::ports::audit_table::AuditKind;

/// Status of an order that was let in and never answered.
pub const UNANSWERED: u16 = 0;

/// Notes about a request, kept by the middleware until it is answered: whether it is an
/// administrator's order. A refusal is recognised by its answer.
pub struct Audited {
    trail: Option<Arc<AuditTrail>>,
    limits: Arc<HttpLimits>,
    order: bool,
    route: &'static str,
    principal: Option<Arc<str>>,
    request_id: Option<HeaderValue>,
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
            request_id: None,
            unanswered: None,
        }
    }

    /// Records under which id its answer goes out.
    pub fn known_as(&mut self, request_id: &HeaderValue) {
        if self.order {
            self.request_id = Some(request_id.clone());
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
        let id = self.request_id.as_ref();
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
