//! Which web pages may read answers (CORS in the Fetch standard). None by default: a browser then
//! sends a page's simple requests but withholds the answers, and sends no other requests. Callers
//! send their token in a header, so the browser's credentials are never allowed.

use actix_web::dev::RequestHead;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderValue, ORIGIN, VARY,
};

/// Allows any origin.
pub const ANY: &str = "*";

/// Every method of the API; the route itself refuses those that it does not have.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// Every request header of the API that is not CORS-safelisted.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, \
     traceparent, x-min-position, x-request-id",
);

/// Every answer header that scripts may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "accept-patch, allow, etag, idempotent-replayed, location, retry-after, traceresponse, \
     www-authenticate, x-commit-position, x-read-lag, x-read-source, x-request-id",
);

/// Seconds for which a browser may cache the answer to a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

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
    /// Allows pages of these origins (`https://app.example`, or [`ANY`]) to read answers.
    pub fn new(origins: Vec<String>) -> Self {
        Self { origins }
    }

    fn any(&self) -> bool {
        self.origins.iter().any(|o| o == ANY)
    }

    /// Whether this origin was named explicitly.
    pub fn names(&self, origin: &HeaderValue) -> bool {
        // Browsers write scheme and host of an origin in lower case, so that it can be compared as
        // it is.
        self.origins.iter().any(|o| origin == o.as_str())
    }

    /// The requesting page, if it may read the answer.
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

    /// Adds the headers that allow the page to read the answer.
    pub fn mark(&self, page: Option<Page>, headers: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        // Caches must not serve the answer for one origin to another.
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
