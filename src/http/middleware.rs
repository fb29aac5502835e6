//! Applied to every request of a resource, in this order: request id, admission, token and role
//! (without tokens: whether the request comes from this machine), then the handler; then headers,
//! metrics, log. A panic in a handler becomes a 500 and does not close the connection. The
//! admission permit is held until the answer is written.

use std::cell::RefCell;
use std::future::{Ready, ready};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{Error, HttpMessage, HttpResponse};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use metrics::{Counter, Histogram};
use tokio::time::Instant;

use super::audited::Audited;
use super::auth::Access;
use super::connection::{Call, Connection, Held, MAX_HEAD_BYTES, Version};
use super::cors::Page;
use super::extract::Caller;
use super::headers::{REQUEST_ID, TRACERESPONSE, client_request_id, trace_context};
use super::limits::{HttpLimits, Permit};
use super::outgoing::{Bodyless, Outgoing};
use super::problem::{self, Problem};
use super::same_site;
use crate::metrics as oms_metrics;
use crate::service::error::RETRY_AFTER;
use crate::store::traces::{self, Span};

/// The middleware of one resource.
pub struct RequestPipeline {
    limits: Arc<HttpLimits>,
    pattern: &'static str,
    access: Rc<[(Method, Access)]>,
}

impl RequestPipeline {
    /// For the resource at `pattern`, whose methods require `access`. Methods it does not have are
    /// public: their answer, 405, reveals nothing.
    pub fn new(
        limits: Arc<HttpLimits>,
        pattern: &'static str,
        access: Vec<(Method, Access)>,
    ) -> Self {
        Self {
            limits,
            pattern,
            access: access.into(),
        }
    }
}

impl<S> Transform<S, ServiceRequest> for RequestPipeline
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error>,
    S::Future: 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Transform = PipelineService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(PipelineService {
            service,
            limits: self.limits.clone(),
            access: self.access.clone(),
            route: Rc::new(Route::new(self.pattern, &self.access)),
        }))
    }
}

/// A resource's metrics, looked up once per worker rather than once per request.
struct Route {
    pattern: &'static str,
    requests: RefCell<Vec<((&'static str, &'static str), Counter)>>,
    seconds: RefCell<Vec<(&'static str, Histogram)>>,
    responses: RefCell<Vec<(u16, Counter)>>,
}

impl Route {
    /// Creates the counters of all statuses that its methods may answer at 0.
    fn new(pattern: &'static str, access: &[(Method, Access)]) -> Self {
        for (method, _) in access {
            for class in CLASSES {
                oms_metrics::http_requests(method_label(method), pattern, class).increment(0);
            }
        }
        for status in STATUSES {
            oms_metrics::http_responses(status).increment(0);
        }
        Self {
            pattern,
            requests: RefCell::default(),
            seconds: RefCell::new(vec![("2xx", oms_metrics::http_seconds(pattern, "2xx"))]),
            responses: RefCell::default(),
        }
    }

    fn count(&self, method: &'static str, status: u16, began: Instant) {
        let class = oms_metrics::status_class(status);
        let seconds = || oms_metrics::http_seconds(self.pattern, class);
        known(&self.seconds, class, seconds).record(began.elapsed().as_secs_f64());
        let requests = || oms_metrics::http_requests(method, self.pattern, class);
        known(&self.requests, (method, class), requests).increment(1);
        known(&self.responses, status, || {
            oms_metrics::http_responses(status)
        })
        .increment(1);
    }
}

/// Status classes that every method may answer.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// Statuses that the service answers; a test compares them with the description of the API.
const STATUSES: [u16; 23] = [
    200, 201, 202, 204, 207, 304, 307, 400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 422, 428,
    429, 431, 500, 503,
];

/// Looks a value up in a short list, which is faster than a map.
fn known<K: Copy + PartialEq, V: Clone>(
    kept: &RefCell<Vec<(K, V)>>,
    key: K,
    make: impl FnOnce() -> V,
) -> V {
    let mut kept = kept.borrow_mut();
    if let Some((_, value)) = kept.iter().find(|(k, _)| *k == key) {
        return value.clone();
    }
    let value = make();
    kept.push((key, value.clone()));
    value
}

/// The method as a label; unknown methods share one, because clients can invent them.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The service of [`RequestPipeline`].
pub struct PipelineService<S> {
    service: S,
    limits: Arc<HttpLimits>,
    access: Rc<[(Method, Access)]>,
    route: Rc<Route>,
}

impl<S> PipelineService<S> {
    fn access(&self, method: &Method) -> Access {
        let wanted = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let found = self.access.iter().find(|(m, _)| m == wanted);
        found.map_or(Access::Public, |(_, access)| *access)
    }
}

impl<S> Service<ServiceRequest> for PipelineService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error>,
    S::Future: 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    actix_web::dev::forward_ready!(service);

    fn call(&self, req: ServiceRequest) -> Self::Future {
        let began = Instant::now();
        let method = method_label(req.method());
        let access = self.access(req.method());
        let route = self.route.clone();
        let mut audited = Audited::new(&self.limits, &req, access, self.route.pattern);
        let request_id = match client_request_id(req.headers()) {
            Some(id) => id.clone(),
            // Hex digits and a dash are always a valid header.
            None => HeaderValue::try_from(self.limits.request_id())
                .unwrap_or(HeaderValue::from_static("invalid")),
        };

        audited.known_as(&request_id);
        let trace_of_caller = trace_context(req.headers());
        // Probes and scrapes would make most of the traces; whoever asks for theirs gets it.
        let is_traced = access != Access::Public || trace_of_caller.is_some();
        let span = if is_traced {
            Span::request(trace_of_caller)
        } else {
            Span::default()
        };
        let trace = span.context();
        let connection = req.conn_data::<Rc<Connection>>().cloned();
        let exit = Exit {
            span,
            limits: self.limits.clone(),
            route,
            method,
            request_id,
            began,
            head: req.method() == Method::HEAD,
            may_refuse: access == Access::Read,
            page: self.limits.cors.page(req.head()),
            call: connection.map(|c| c.begin(req.head())),
        };

        // Operators and probes are admitted even at the limit.
        let limited = matches!(access, Access::Read | Access::Write);
        let place = if limited { self.limits.admit() } else { None };
        let refused = exit.bounds(&req).err().or_else(|| {
            if limited && place.is_none() {
                let detail = "too many requests are being handled; nothing was done";
                return Some(overloaded("requests_in_flight", detail));
            }
            if limited && self.limits.is_full_of_responses() {
                let detail = "too many bytes of answers are on their way; nothing was done";
                return Some(overloaded("response_bytes_in_flight", detail));
            }
            let same_site = if self.limits.auth.needs_token() {
                Ok(())
            } else {
                same_site::check(req.head(), &self.limits.cors)
            };
            match same_site.and_then(|()| self.limits.auth.check(req.headers(), access)) {
                Ok(identity) => {
                    audited.let_in(&identity.principal, req.request());
                    let correlation = match trace_of_caller {
                        Some(caller) => format!("{:032x}", caller.trace),
                        None => exit.request_id.to_str().unwrap_or_default().to_owned(),
                    };
                    let caller = Caller::new(
                        self.limits.clone(),
                        identity,
                        correlation,
                        trace,
                        began + self.limits.settings.request_deadline,
                    );
                    req.extensions_mut().insert(caller);
                    None
                }
                Err(problem) => Some(problem),
            }
        });
        if let Some(problem) = refused {
            let _entered = traces::enter(trace);
            let response = req.error_response(problem);
            return ready(Ok(exit.leave(response, place, audited))).boxed_local();
        }

        let request = req.request().clone();
        let handled = AssertUnwindSafe(self.service.call(req)).catch_unwind();
        traces::within(trace, async move {
            let response = match handled.await {
                Ok(Ok(response)) => {
                    drop(request);
                    response
                }
                Ok(Err(error)) => ServiceResponse::from_err(error, request),
                Err(_panic) => ServiceResponse::from_err(Problem::crashed(), request),
            };
            Ok(exit.leave(response, place, audited))
        })
        .boxed_local()
    }
}

fn overloaded(limit: &'static str, detail: &str) -> Problem {
    oms_metrics::admission_rejected(limit);
    let problem = Problem::new(problem::OVERLOADED, detail);
    problem.subject(limit).retry_after(RETRY_AFTER)
}

/// What is needed of a request when its answer is sent.
struct Exit {
    span: Span,
    limits: Arc<HttpLimits>,
    route: Rc<Route>,
    method: &'static str,
    request_id: HeaderValue,
    began: Instant,
    head: bool,
    /// Whether nothing has happened yet if the answer is replaced by a refusal.
    may_refuse: bool,
    page: Option<Page>,
    call: Option<Call>,
}

impl Exit {
    /// Limits that HTTP/2 leaves to the application: the number of streams and the size of heads.
    fn bounds(&self, req: &ServiceRequest) -> Result<(), Problem> {
        let Some(connection) = self.call.as_ref().map(Call::connection) else {
            return Ok(());
        };
        if connection.version() == Version::One {
            return Ok(());
        }
        let headers = req.headers().iter();
        let bytes: usize = headers.map(|(n, v)| n.as_str().len() + v.len()).sum();
        if bytes + req.uri().path().len() + req.query_string().len() > MAX_HEAD_BYTES {
            let detail = format!("the limit of a request's head is {MAX_HEAD_BYTES} bytes");
            return Err(Problem::new(problem::HEAD_TOO_LARGE, detail));
        }
        if connection.is_crowded() {
            let detail = "too many requests at once on one connection; nothing was done";
            return Err(overloaded("http2_streams", detail));
        }
        Ok(())
    }

    /// Sends the answer; `place` is held until it is written.
    fn leave(
        self,
        response: ServiceResponse<BoxBody>,
        mut place: Option<Permit>,
        audited: Audited,
    ) -> ServiceResponse<BoxBody> {
        let mut response = response;
        as_problem(&mut response);
        let mut bytes = self.limits.hold_response();
        let mut stream = None;
        match response.response().body().size() {
            size if self.head => {
                response = response.map_body(|_, _| BoxBody::new(Bodyless(size)));
            }
            BodySize::Sized(size) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                if !bytes.grow(size) {
                    if self.may_refuse && !response.status().is_server_error() {
                        let detail = "too many bytes of answers are on their way; ask again";
                        let problem = overloaded("response_bytes_in_flight", detail);
                        *response.response_mut() = HttpResponse::from_error(problem);
                    } else {
                        // The change has happened, so that the answer must be sent.
                        bytes.grow_beyond(size);
                    }
                }
            }
            // Live streams have a limit of their own, and may last for ever.
            BodySize::Stream => {
                place = None;
                stream = Some(self.limits.hold_response());
            }
            BodySize::None => {}
        }
        finish(
            &mut response,
            self.method,
            &self.route,
            self.request_id,
            self.began,
        );
        describe(self.span, &mut response, self.method, &self.route);
        audited.answered(&response);
        self.limits.cors.mark(self.page, response.headers_mut());
        if let Some(value) = &self.limits.hsts {
            let headers = response.headers_mut();
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
        }
        let held = Held {
            place,
            bytes: Some(bytes),
        };
        let call = self.call;
        response.map_body(|_, body| Outgoing::wrap(body, held, stream, call))
    }
}

fn finish(
    response: &mut ServiceResponse<BoxBody>,
    method: &'static str,
    route: &Route,
    request_id: HeaderValue,
    began: Instant,
) {
    let status = response.status();
    route.count(method, status.as_u16(), began);
    let problem = response.response().error();
    if let Some(cause) = problem.and_then(|e| e.as_error::<Problem>()?.cause()) {
        let (route, request_id) = (route.pattern, request_id.to_str().unwrap_or_default());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(
                method,
                route,
                request_id,
                cause,
                "{method} {route} failed inside the service: {cause}"
            );
        } else {
            tracing::warn!(
                method,
                route,
                request_id,
                cause,
                "{method} {route} could not be served: {cause}"
            );
        }
    }
    tracing::debug!(
        method,
        path = response.request().path(),
        status = status.as_u16(),
        micros = began.elapsed().as_micros() as u64,
        request_id = request_id.to_str().unwrap_or_default(),
        "{method} {} {}",
        route.pattern,
        status.as_u16()
    );
    response.headers_mut().insert(REQUEST_ID, request_id);
}

/// Says of a request's span what it was, by the names of OpenTelemetry's conventions, and ends it. The
/// path is not said: it has ids in it.
fn describe(
    mut span: Span,
    response: &mut ServiceResponse<BoxBody>,
    method: &'static str,
    route: &Route,
) {
    if !span.is_recorded() {
        return;
    }
    let status = response.status();
    span.rename(|| format!("{method} {}", route.pattern));
    let known = if method == "other" { "_OTHER" } else { method };
    span.set("http.request.method", known);
    span.set("http.route", route.pattern);
    span.set("http.response.status_code", u64::from(status.as_u16()));
    if status.is_server_error() {
        let problem = response.response().error();
        let code = problem.and_then(|e| Some(e.as_error::<Problem>()?.code()));
        span.fail(code.unwrap_or("5xx"));
    }
    let context = span.context().map(|context| context.to_string());
    if let Some(value) = context.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(TRACERESPONSE, value);
    }
}

/// Turns errors of actix itself into problems.
fn as_problem(response: &mut ServiceResponse<BoxBody>) {
    let foreign = match response.response().error() {
        Some(error) if error.as_error::<Problem>().is_none() => error.to_string(),
        _ => return,
    };
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return;
    }
    let problem = match problem::ALL.iter().find(|c| c.status == status.as_u16()) {
        Some(code) if status.is_client_error() => Problem::new(*code, foreign),
        _ => Problem::internal(foreign),
    };
    *response.response_mut() = HttpResponse::from_error(problem);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_description_is_counted_from_the_start() {
        let document = serde_json::to_value(crate::http::openapi::document());
        let document = document.unwrap_or_default();
        let paths = document["paths"].as_object().into_iter().flatten();
        let operations = paths.flat_map(|(_, path)| path.as_object().into_iter().flatten());
        let answers = operations.filter_map(|(_, operation)| operation["responses"].as_object());
        let described: std::collections::BTreeSet<u16> = answers
            .flat_map(|answers| answers.keys().filter_map(|status| status.parse().ok()))
            .collect();
        assert!(described.len() > 10, "{described:?}");
        for status in described {
            assert!(STATUSES.contains(&status), "{status}");
        }
    }
}
