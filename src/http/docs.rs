//! `/openapi.json`; `/docs`, Swagger UI from files in this binary (nothing is loaded from elsewhere);
//! `/`, which redirects there.

use std::sync::{Arc, LazyLock};

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION,
};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use utoipa_swagger_ui::Config;

use super::problem::{self, Problem};

/// Gives the description of the API. Handed in: it is made from the routes, of which these are some.
pub struct Description(pub fn() -> Bytes);

pub async fn json_document(description: web::Data<Description>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .body((description.0)())
}

/// Redirects `/` and `/docs` to `/docs/`.
pub async fn to_docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect()
        .insert_header((LOCATION, "/docs/"))
        .finish()
}

/// The files of Swagger UI.
pub async fn docs(req: HttpRequest) -> Result<HttpResponse, Problem> {
    static CONFIG: LazyLock<Arc<Config<'static>>> =
        LazyLock::new(|| Arc::new(Config::from("/openapi.json")));
    let tail = req.match_info().get("tail").unwrap_or_default();
    let file = utoipa_swagger_ui::serve(tail, CONFIG.clone())
        .map_err(|e| Problem::internal(e.to_string()))?;
    let Some(file) = file else {
        let detail = format!("there is no {tail:?} in the documentation");
        return Err(Problem::new(problem::ROUTE_NOT_FOUND, detail));
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, file.content_type));
    response.insert_header((CACHE_CONTROL, "max-age=3600"));
    if file.gzpipped {
        response.insert_header((CONTENT_ENCODING, HeaderValue::from_static("gzip")));
    }
    Ok(response.body(file.bytes.into_owned()))
}
