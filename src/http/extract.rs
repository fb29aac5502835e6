//! Extractors of the handlers: the caller, a command with its body, parameters of a query string.

use std::future::{Future, Ready, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::audited;
use super::auth::Identity;
use super::connection::Connection;
use super::headers::{Precondition, idempotency_key, request_hash};
use super::json;
use super::limits::{HeldBytes, HttpLimits};
use super::problem::{self, Problem};
use crate::domain::event::Idempotency;
use crate::domain::trace::TraceContext;
use crate::metrics as oms_metrics;
use crate::service::context::RequestContext;
use crate::service::error::{RETRY_AFTER, ServiceError};

/// The principal, the deadline and the correlation id of a request. Inserted by the middleware.
#[derive(Debug, Clone)]
pub struct Caller {
    pub limits: Arc<HttpLimits>,
    identity: Identity,
    correlation_id: String,
    trace: Option<TraceContext>,
    deadline: Instant,
}

impl Caller {
    /// A caller that the middleware has admitted.
    pub fn new(
        limits: Arc<HttpLimits>,
        identity: Identity,
        correlation_id: String,
        trace: Option<TraceContext>,
        deadline: Instant,
    ) -> Self {
        Self {
            limits,
            identity,
            correlation_id,
            trace,
            deadline,
        }
    }

    pub fn principal(&self) -> &Arc<str> {
        &self.identity.principal
    }

    /// What it may do, and until when.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The metadata of a command, for the service.
    pub fn context(self, idempotency: Option<Idempotency>) -> RequestContext {
        RequestContext {
            principal: self.identity.principal.as_ref().to_owned(),
            correlation_id: self.correlation_id,
            trace: self.trace,
            idempotency,
            deadline: self.deadline,
        }
    }

    /// Time left until the deadline, at most `bound`.
    pub fn patience(&self, bound: Duration) -> Duration {
        bound.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    /// Awaits a read no longer than the deadline. Not for writes: only the writer knows whether one
    /// that takes too long has happened. What comes at the deadline or later is not gone on with: many
    /// that have waited for the same would all begin at once.
    pub async fn within<T>(
        &self,
        read: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, Problem> {
        match timeout_at(self.deadline, read).await {
            Ok(Ok(_)) | Err(_) if Instant::now() >= self.deadline => {
                Err(ServiceError::DeadlineExceeded.into())
            }
            Ok(result) => result.map_err(Problem::from),
            Err(_) => Err(ServiceError::DeadlineExceeded.into()),
        }
    }
}

fn caller(req: &HttpRequest) -> Result<Caller, Problem> {
    let caller = req.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Problem::internal("the route is not wrapped by the middleware"))
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(caller(req))
    }
}

/// A command with a JSON object as its body.
#[derive(Debug)]
pub struct Command<T> {
    /// Principal, deadline, correlation id and idempotency key.
    pub ctx: RequestContext,
    /// The precondition of the request's headers.
    pub precondition: Precondition,
    pub body: T,
}

impl<T: DeserializeOwned + 'static> FromRequest for Command<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let req = req.clone();
        let payload = payload.take();
        Box::pin(async move {
            let caller = caller(&req)?;
            // Headers first: a request that they make invalid need not be read.
            let precondition = Precondition::from_headers(req.headers())?;
            let key = idempotency_key(req.headers())?;
            let limit = caller.limits.settings.max_body_bytes;
            let bytes = read_body(&req, payload, &caller.limits, limit).await?;
            audited::keep_body(&req, &bytes);
            let body = json::parse_object(&bytes)?;
            Ok(Self {
                ctx: caller.context(promise(&req, key, &bytes)),
                precondition,
                body,
            })
        })
    }
}

/// A command without a body. A body that is sent all the same is not read.
#[derive(Debug)]
pub struct BareCommand {
    /// Principal, deadline, correlation id and idempotency key.
    pub ctx: RequestContext,
    /// The precondition of the request's headers.
    pub precondition: Precondition,
}

impl FromRequest for BareCommand {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        fn make(req: &HttpRequest) -> Result<BareCommand, Problem> {
            let precondition = Precondition::from_headers(req.headers())?;
            let key = idempotency_key(req.headers())?;
            Ok(BareCommand {
                ctx: caller(req)?.context(promise(req, key, b"")),
                precondition,
            })
        }
        ready(make(req))
    }
}

fn promise(req: &HttpRequest, key: Option<&str>, body: &[u8]) -> Option<Idempotency> {
    key.map(|key| Idempotency {
        key: key.to_owned(),
        request_hash: request_hash(req.method().as_str(), req.path(), body),
    })
}

/// The largest query: of the values that people and programs compare with, thousands.
const MAX_QUESTION_BYTES: usize = 128 << 10;

/// The JSON object of a query: without idempotency key and precondition.
#[derive(Debug)]
pub struct Question<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Question<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let req = req.clone();
        let payload = payload.take();
        Box::pin(async move {
            let caller = caller(&req)?;
            let limit = MAX_QUESTION_BYTES.min(caller.limits.settings.max_body_bytes);
            let bytes = read_body(&req, payload, &caller.limits, limit).await?;
            json::parse_object(&bytes).map(Self)
        })
    }
}

/// Parameters of the query string; `T` refuses unknown and repeated ones.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Params<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let read = web::Query::<T>::from_query(req.query_string());
        ready(match read {
            Ok(query) => Ok(Self(query.into_inner())),
            Err(error) => Err(Problem::new(problem::INVALID_QUERY, error.to_string())),
        })
    }
}

async fn read_body(
    req: &HttpRequest,
    payload: Payload,
    limits: &HttpLimits,
    limit: usize,
) -> Result<Bytes, Problem> {
    check_media_type(req.method(), req.headers())?;
    let announced = req
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let connection = req.conn_data::<Rc<Connection>>();
    let reader = connection.map(Connection::read_body);
    match timeout(
        limits.settings.body_timeout,
        collect(payload, limits, limit),
    )
    .await
    {
        Ok(body) => {
            let (bytes, held) = body?;
            if let Some(reader) = reader {
                reader.ended();
            }
            // Released when the request is answered.
            req.extensions_mut().insert(held);
            Ok(bytes)
        }
        Err(_) => Err(Problem::new(
            problem::BODY_TIMEOUT,
            format!(
                "the body did not arrive within {} s",
                limits.settings.body_timeout.as_secs_f64()
            ),
        )),
    }
}

async fn collect(
    mut payload: Payload,
    limits: &HttpLimits,
    limit: usize,
) -> Result<(Bytes, HeldBytes), Problem> {
    let mut held = limits.hold_bytes();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| match error {
            PayloadError::Overflow => too_large(limit),
            other => Problem::new(problem::BODY_INCOMPLETE, other.to_string()),
        })?;
        if first.len() + rest.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        // Most bodies arrive in one piece, which is then not copied.
        if first.is_empty() {
            first = chunk;
        } else if !held.grow(chunk.len()) {
            return Err(too_many_bytes());
        } else {
            rest.extend_from_slice(&chunk);
        }
    }
    if rest.is_empty() {
        return Ok((first, held));
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok((whole.freeze(), held))
}

fn too_many_bytes() -> Problem {
    const LIMIT: &str = "body_bytes_in_flight";
    oms_metrics::admission_rejected(LIMIT);
    let detail = "too many bytes of large bodies are being handled; nothing was done";
    Problem::new(problem::OVERLOADED, detail)
        .subject(LIMIT)
        .retry_after(RETRY_AFTER)
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        problem::BODY_TOO_LARGE,
        format!("the limit is {limit} bytes"),
    )
}

/// What PATCH accepts: a merge patch (RFC 7396), also under the plain JSON media type.
const ACCEPT_PATCH: HeaderValue =
    HeaderValue::from_static("application/merge-patch+json, application/json");

/// What the other methods take (RFC 9110 15.5.16).
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `application/json` in UTF-8, not compressed; of PATCH also a merge patch under its own name. What a
/// body of another type says, such as a JSON Patch, or a merge patch that is PUT, would be done wrongly.
fn check_media_type(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail: &str| {
        let problem = Problem::new(problem::UNSUPPORTED_MEDIA_TYPE, detail);
        Err(if *method == Method::PATCH {
            problem.with_header(HeaderName::from_static("accept-patch"), ACCEPT_PATCH)
        } else {
            problem.with_header(ACCEPT, JSON)
        })
    };
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return refuse("the body must not be compressed");
    }
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return refuse("the body needs Content-Type: application/json");
    };
    let text = value.to_str().unwrap_or_default();
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    match (media.as_str(), method) {
        ("application/json", _) | ("application/merge-patch+json", &Method::PATCH) => {}
        (_, &Method::PATCH) => {
            return refuse(&format!(
                "{media:?} is not taken: a PATCH is a merge patch, application/merge-patch+json"
            ));
        }
        _ => return refuse(&format!("{media:?} is not application/json")),
    }
    let charset = parts.find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.eq_ignore_ascii_case("charset").then_some(value)
    });
    match charset.map(|c| c.trim_matches('"')) {
        Some(charset) if !charset.eq_ignore_ascii_case("utf-8") => {
            refuse("JSON is UTF-8, no other character set is taken")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
