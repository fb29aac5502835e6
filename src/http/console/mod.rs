//! `/console`: the web console. A page with its scripts, embedded in the program; nothing is
//! fetched from elsewhere, and all data comes from the public API, as for any other client. The
//! files are therefore public.

mod assets;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION,
};
use actix_web::{HttpRequest, HttpResponse};

use self::assets::{ASSETS, Asset};
use super::problem::{self, Problem};

/// The page may load and run only what comes from here, and connect only to here. Inline code is
/// forbidden, so that no data can become a script or a style; `lit-html` names the one policy that
/// creates markup from text, which is only given the text of our own templates.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
    trusted-types lit-html";

/// Headers of every file.
const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Redirects `/console` to `/console/`, so that the page's relative links work.
pub async fn to_console() -> HttpResponse {
    HttpResponse::TemporaryRedirect()
        .insert_header((LOCATION, "/console/"))
        .finish()
}

/// A file; 304 if the browser has it.
pub async fn file(req: HttpRequest) -> Result<HttpResponse, Problem> {
    let name = match req.match_info().get("tail").unwrap_or_default() {
        "" => "index.html",
        name => name,
    };
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        let detail = format!("there is no {name:?} in the console");
        return Err(Problem::new(problem::ROUTE_NOT_FOUND, detail));
    };
    Ok(answer(&req, asset))
}

fn answer(req: &HttpRequest, asset: &'static Asset) -> HttpResponse {
    let etag = asset.etag();
    let known = req.headers().get_all(IF_NONE_MATCH);
    let unchanged = known
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let status = match unchanged {
        true => StatusCode::NOT_MODIFIED,
        false => StatusCode::OK,
    };
    let mut response = HttpResponse::build(status);
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        response.insert_header((name, HeaderValue::from_static(value)));
    }
    response.insert_header((ETAG, etag));
    // Validated on each request and answered with 304, so that an update is visible at once.
    response.insert_header((CACHE_CONTROL, "no-cache"));
    if unchanged {
        return response.finish();
    }
    response.insert_header((CONTENT_TYPE, asset.media_type()));
    response.body(asset.bytes)
}

#[cfg(test)]
mod tests;
