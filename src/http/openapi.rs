//! `/openapi.json`, generated from the handlers' annotations; `/docs`, Swagger UI from files in
//! this binary (nothing is loaded from elsewhere); `/`, which redirects there.

use std::sync::{Arc, LazyLock};

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION,
};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa_swagger_ui::Config;

use super::auth::Access;
use super::problem::{self, PROBLEM_JSON, Problem, ProblemBody};
use super::routes::{Document, ROUTES, RouteSpec};

static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
    // Cannot fail: a JSON value with text keys.
    serde_json::to_vec(&document()).unwrap_or_default().into()
});

pub fn document() -> Value {
    let mut api = Document::openapi();
    let components = api.components.get_or_insert_default();
    components.schemas.insert(
        "Problem".into(),
        <ProblemBody as utoipa::PartialSchema>::schema(),
    );
    let mut document = serde_json::to_value(&api).unwrap_or_default();
    document["info"] = json!({
        "title": "oms",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Event-sourced ontology service: databases, classes, instances, and the \
            events behind them. Failures are RFC 9457 problems with a stable `code`. Every answer \
            carries `X-Request-Id`; `traceparent` is continued, and its trace id becomes the \
            correlation id of events.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["components"]["securitySchemes"]["bearer"] = json!({
        "type": "http",
        "scheme": "bearer",
        "description": "Roles: read, write, admin. Without configured tokens none is needed.",
    });
    for route in ROUTES {
        let method = route.method.to_ascii_lowercase();
        if let Some(operation) = document["paths"][route.path].get_mut(&method) {
            complete(operation, route);
        }
    }
    document
}

/// Adds to an operation what follows from its route: roles, common headers, problems.
fn complete(operation: &mut Value, route: &RouteSpec) {
    let mut statuses = vec![503];
    if route.access != Access::Public {
        let role = Some(route.access.role()).filter(|role| !role.is_empty());
        operation["security"] = json!([{"bearer": role.iter().collect::<Vec<_>>()}]);
        if let Some(role) = role {
            operation["x-role"] = json!(role);
        }
        statuses.extend([401, 403, 500]);
    }
    if matches!(route.access, Access::Read | Access::Write) {
        statuses.push(429);
    }
    let of_the_migration = route.path.starts_with("/api/v1/admin/migration/");
    if route.access == Access::Admin && (route.method != "GET" || of_the_migration) {
        statuses.extend([404, 409]);
    }
    let parameters = operation["parameters"].as_array();
    let asks = parameters.is_some_and(|all| all.iter().any(|p| p["in"] == "query"));
    if asks || route.access == Access::Read {
        statuses.push(400);
    }
    if route.path.contains('{') {
        statuses.extend([400, 404]);
    }
    let mut headers = vec![header(
        "X-Request-Id",
        "Names the request in answers and logs; made up when it is not given",
    )];
    if route.access == Access::Write {
        statuses.extend([400, 409, 422]);
        headers.push(header(
            "Idempotency-Key",
            "At most 255 bytes. The same key with the same request gives the recorded answer",
        ));
        if route.path.ends_with("/events") || route.method != "POST" {
            statuses.push(412);
            headers.push(header(
                "If-Match",
                "The version it must have, quoted, as its `ETag` gave it",
            ));
        }
    }
    if route.access == Access::Read {
        headers.push(header(
            "X-Min-Position",
            "Waits, up to 5 s, until the read model has taken in this position",
        ));
        headers.push(header("If-None-Match", "304 when it still has this `ETag`"));
    }
    if operation.get("requestBody").is_some() {
        statuses.extend([400, 408, 413, 415, 422]);
    }
    if let Value::Array(parameters) = &mut operation["parameters"] {
        parameters.extend(headers);
    } else {
        operation["parameters"] = headers.into();
    }
    for status in statuses {
        let responses = &mut operation["responses"];
        if responses.get(status.to_string()).is_none() {
            responses[status.to_string()] = json!({
                "description": title(status),
                "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            });
        }
    }
}

fn header(name: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "header", "required": false, "description": description,
        "schema": {"type": "string"},
    })
}

fn title(status: u16) -> String {
    match status {
        404 => "It does not exist".into(),
        409 => "The current state forbids it".into(),
        412 => "The version has moved on".into(),
        _ => {
            let titles = problem::ALL.iter().filter(|c| c.status == status);
            let codes: Vec<&str> = titles.map(|c| c.code).collect();
            codes.join(", ")
        }
    }
}

pub async fn json_document() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(TEXT.clone())
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
