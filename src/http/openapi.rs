//! The description of the API by OpenAPI, generated from the handlers' annotations and the table of
//! routes. [`super::docs`] answers with it.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::auth::Access;
use super::problem::{self, PROBLEM_JSON, ProblemBody};
use super::routes::{Document, ROUTES, RouteSpec};

/// The description as text, made once.
pub fn text() -> Bytes {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
        // Cannot fail: a JSON value with text keys.
        serde_json::to_vec(&document()).unwrap_or_default().into()
    });
    TEXT.clone()
}

/// The description of the API.
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
        "description": "Roles: read, write, admin. Where neither tokens nor a provider are configured none is needed.",
    });
    for route in ROUTES {
        let method = route.method.to_ascii_lowercase();
        if let Some(operation) = document["paths"][route.path].get_mut(&method) {
            complete(operation, route);
        }
    }
    for_generators(&mut document);
    document
}

/// Says what generators of clients would otherwise take for something else: an object without
/// described members for one that has none, and a member of a request with a default for one that
/// has to be given.
fn for_generators(value: &mut Value) {
    let map = match value {
        Value::Object(map) => map,
        Value::Array(items) => return items.iter_mut().for_each(for_generators),
        _ => return,
    };
    let is_object = match map.get("type") {
        Some(Value::String(one)) => one == "object",
        Some(Value::Array(all)) => all.iter().any(|one| one == "object"),
        _ => false,
    };
    let is_free = !map.contains_key("properties") && !map.contains_key("additionalProperties");
    if is_object && is_free {
        map.insert("additionalProperties".into(), json!({}));
    }
    // What is sent holds what is described and nothing else.
    if map.get("additionalProperties") == Some(&Value::Bool(false))
        && let Some(Value::Object(members)) = map.get_mut("properties")
    {
        members.values_mut().for_each(default_in_words);
    }
    for (name, value) in map {
        // Values are no schemas.
        if !["default", "enum", "example", "examples"].contains(&name.as_str()) {
            for_generators(value);
        }
    }
}

fn default_in_words(member: &mut Value) {
    let Some(default) = member.as_object_mut().and_then(|map| map.remove("default")) else {
        return;
    };
    let description = member["description"].as_str().unwrap_or_default();
    member["description"] = json!(format!("{description} {default} where it is left out."));
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
    // What is sorted by is held to what fields there can be.
    if parameters.is_some_and(|all| all.iter().any(|p| p["name"] == "sort")) {
        statuses.push(422);
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
