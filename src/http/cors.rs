//! Which web pages may read answers (the Fetch standard's CORS). None by default: a browser then
//! sends a page's simple requests but keeps the answers from it, and sends no others. Callers bring
//! their token in a header of their own making, so credentials of the browser are never allowed.

use actix_web::dev::RequestHead;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderValue, ORIGIN, VARY,
};

/// Any origin.
pub const ANY: &str = "*";

/// Every method there is anywhere: which ones a path takes is told to the request itself.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// Every header that requests may bring and that is not simple.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, \
     traceparent, x-min-position, x-request-id",
);

/// Every header of answers that is for programs.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "accept-patch, allow, etag, idempotent-replayed, location, retry-after, www-authenticate, \
     x-commit-position, x-read-lag, x-read-source, x-request-id",
);

/// Seconds for which a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// See the module.
#[derive(Debug, Default)]
pub struct Cors {
    origins: Vec<String>,
}

/// A page that may read the answer.
#[derive(Debug, Clone)]
pub struct Page {
    origin: HeaderValue,
    preflight: bool,
}

impl Cors {
    /// Pages of these origins (`https://app.example`, or [`ANY`]) may read answers.
    pub fn new(origins: Vec<String>) -> Self {
        Self { origins }
    }

    fn any(&self) -> bool {
        self.origins.iter().any(|o| o == ANY)
    }

    /// Whether pages of this origin were named, one by one.
    pub fn names(&self, origin: &HeaderValue) -> bool {
        // Browsers write origins in one way only: scheme and host in lower case.
        self.origins.iter().any(|o| origin == o.as_str())
    }

    /// The page that asks, if it may read the answer.
    pub fn page(&self, head: &RequestHead) -> Option<Page> {
        let headers = head.headers();
        let origin = headers.get(ORIGIN)?;
        let origin = if self.any() {
            HeaderValue::from_static(ANY)
        } else if self.names(origin) {
            origin.clone()
        } else {
            return None;
        };
        Some(Page {
            origin,
            preflight: head.method == Method::OPTIONS
                && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD),
        })
    }

    /// Tells the browser what the page may do.
    pub fn mark(&self, page: Option<Page>, headers: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        // Caches must not give one origin's answer to another.
        if !self.any() {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(page) = page else {
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, page.origin);
        if page.preflight {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
            headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        } else {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}
