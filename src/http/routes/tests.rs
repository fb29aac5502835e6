use std::collections::BTreeSet;
use std::time::Duration;

use actix_web::App;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE};
use actix_web::test::{TestRequest, call_service, init_service, read_body, read_body_json};
use serde_json::Value;

use super::*;
use crate::http::auth::{Roles, Token};
use crate::http::headers::REQUEST_ID;
use crate::http::limits::HttpSettings;

/// A macro, because the type of the application cannot be named.
macro_rules! app {
    ($settings:expr, $tokens:expr) => {{
        let limits = Arc::new(HttpLimits::new($settings, $tokens));
        let description = web::Data::new(docs::Description(crate::http::openapi::text));
        let app = App::new().app_data(description);
        init_service(app.configure(|cfg| configure(cfg, &limits, Door::All))).await
    }};
    () => {
        app!(HttpSettings::standard(), vec![])
    };
}

fn request(method: &str, path: &str) -> TestRequest {
    let path = path
        .replace("{db}", "films")
        .replace("{class}", "Movie")
        .replace("{type}", "order")
        .replace("{name}", "instances")
        .replace("{command_id}", "00000000-0000-0000-0000-000000000007")
        .replace("{partition}", "0")
        .replace("{offset}", "0")
        .replace("{job}", "00000000-0000-0000-0000-000000000008")
        .replace("{id}", "1");
    TestRequest::with_uri(&path).method(Method::from_bytes(method.as_bytes()).unwrap())
}

fn problem_code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or_default()
}

#[test]
fn the_document_describes_every_route_and_no_other() {
    let document = crate::http::openapi::document();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let configured: BTreeSet<_> = ROUTES
        .iter()
        .map(|r| (r.method.to_owned(), r.path.to_owned()))
        .collect();
    assert_eq!(described, configured);
}

#[test]
fn every_operation_is_described_in_full() {
    let document = crate::http::openapi::document();
    let mut ids = BTreeSet::new();
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        let at = format!("{} {}", route.method, route.path);
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{at}: operation id {id} twice");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{at}");
        assert_eq!(
            operation.get("security").is_some(),
            route.access != Access::Public,
            "{at}"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|s| s.starts_with('2')), "{at}");
        if route.access != Access::Public {
            let problem = &responses["401"]["content"]["application/problem+json"]["schema"];
            assert_eq!(problem["$ref"], "#/components/schemas/Problem", "{at}");
        }
        // Every parameter of the path template is described.
        let parameters = operation["parameters"].as_array().unwrap();
        for name in route
            .path
            .split('{')
            .skip(1)
            .filter_map(|p| p.split('}').next())
        {
            let named = |p: &&Value| p["name"] == name && p["in"] == "path";
            assert!(parameters.iter().any(|p| named(&p)), "{at}: {name}");
        }
    }
}

#[test]
fn generators_are_told_what_is_free_and_what_may_be_left_out() {
    let document = crate::http::openapi::document();
    let schemas = &document["components"]["schemas"];
    let free = serde_json::json!({});
    let data = &schemas["CreateInstance"]["properties"]["data"];
    assert_eq!(data["additionalProperties"], free);
    let patch =
        &document["paths"]["/api/v1/databases/{db}/classes/{class}/instances/{id}"]["patch"];
    let patch = &patch["requestBody"]["content"]["application/merge-patch+json"]["schema"];
    assert_eq!(patch["additionalProperties"], free);
    let version = &schemas["NewEvent"]["properties"]["schema_version"];
    assert!(version.get("default").is_none(), "{version}");
    let words = version["description"].as_str().unwrap();
    assert!(words.ends_with(" 1 where it is left out."), "{words}");
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn references(value: &Value, out: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get("$ref") {
                    out.insert(to.clone());
                }
                map.values().for_each(|v| references(v, out));
            }
            Value::Array(list) => list.iter().for_each(|v| references(v, out)),
            _ => {}
        }
    }
    let document = crate::http::openapi::document();
    let mut all = BTreeSet::new();
    references(&document, &mut all);
    assert!(!all.is_empty());
    for reference in all {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[actix_web::test]
async fn every_route_but_the_public_ones_wants_its_role() {
    let roles = |read, write, admin| Roles { read, write, admin };
    let tokens = vec![
        Token::from_secret("reader", "read", roles(true, false, false)),
        Token::from_secret("writer", "write", roles(false, true, false)),
        Token::from_secret("operator", "admin", roles(false, false, true)),
    ];
    let app = app!(HttpSettings::standard(), tokens);
    for route in ROUTES.iter().filter(|r| r.access != Access::Public) {
        let at = format!("{} {}", route.method, route.path);
        let response = call_service(&app, request(route.method, route.path).to_request()).await;
        assert_eq!(response.status(), 401, "{at}");
        assert!(response.headers().contains_key("www-authenticate"), "{at}");
        assert!(response.headers().contains_key(REQUEST_ID), "{at}");
        for role in ["read", "write", "admin"] {
            let asked = request(route.method, route.path)
                .insert_header((AUTHORIZATION, format!("Bearer {role}")));
            let response = call_service(&app, asked.to_request()).await;
            // With its role a request goes on to the handler, which has no service here.
            let forbidden = response.status() == 403;
            let other = route.access != Access::Known && role != route.access.role();
            assert_eq!(forbidden, other, "{at} as {role}");
        }
    }
}

#[actix_web::test]
async fn without_tokens_web_pages_are_kept_out_of_every_route() {
    let open = app!();
    let tokens = vec![Token::from_secret("root", "secret", Roles::ALL)];
    let closed = app!(HttpSettings::standard(), tokens);
    for route in ROUTES {
        let at = format!("{} {}", route.method, route.path);
        let page = || {
            request(route.method, route.path)
                .insert_header(("origin", "https://evil.example"))
                .insert_header((AUTHORIZATION, "Bearer secret"))
                .to_request()
        };
        let response = call_service(&open, page()).await;
        assert_eq!(response.status(), 403, "{at}");
        let body: Value = read_body_json(response).await;
        assert_eq!(problem_code(&body), "cross_site_request", "{at}");
        let response = call_service(&closed, page()).await;
        assert_ne!(response.status(), 403, "{at}");
    }
}

#[actix_web::test]
async fn what_is_not_there_is_a_problem_too() {
    let app = app!();
    for path in [
        "/nothing",
        "/api/v1/databases/",
        "/api/v2",
        "/docs/nothing.js",
    ] {
        let response = call_service(&app, request("GET", path).to_request()).await;
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(
            response.headers().get(CONTENT_TYPE).unwrap(),
            "application/problem+json"
        );
        assert!(response.headers().contains_key(REQUEST_ID));
        let body: Value = read_body_json(response).await;
        assert_eq!(problem_code(&body), "route_not_found");
    }
}

#[actix_web::test]
async fn wrong_methods_are_told_the_right_ones() {
    let app = app!();
    let response = call_service(&app, request("PATCH", "/api/v1/databases").to_request()).await;
    assert_eq!(response.status(), 405);
    assert_eq!(
        response.headers().get(ALLOW).unwrap(),
        "POST, GET, HEAD, OPTIONS"
    );
    let body: Value = read_body_json(response).await;
    assert_eq!(problem_code(&body), "method_not_allowed");
    let response = call_service(&app, request("OPTIONS", "/api/v1/events").to_request()).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers().get(ALLOW).unwrap(), "GET, HEAD, OPTIONS");
}

#[actix_web::test]
async fn instances_may_be_called_query_and_batch() {
    let app = app!();
    let path = "/api/v1/databases/films/classes/Movie/instances";
    let uri = format!("{path}/another");
    let response = call_service(&app, request("OPTIONS", &uri).to_request()).await;
    assert_eq!(
        response.headers().get(ALLOW).unwrap(),
        "GET, PATCH, DELETE, HEAD, OPTIONS"
    );
    for name in ["query", "batch"] {
        let uri = format!("{path}/{name}");
        let response = call_service(&app, request("PUT", &uri).to_request()).await;
        assert_eq!(
            response.headers().get(ALLOW).unwrap(),
            "GET, PATCH, DELETE, POST, HEAD, OPTIONS"
        );
        // A POST means the query or the batch, which want a body.
        let response = call_service(&app, request("POST", &uri).to_request()).await;
        assert_ne!(response.status(), 405);
    }
}

#[actix_web::test]
async fn law_13_beyond_the_limit_the_caller_is_told_to_come_back() {
    let none = HttpSettings {
        max_in_flight: 0,
        ..HttpSettings::standard()
    };
    let app = app!(none, vec![]);
    let response = call_service(&app, request("GET", "/api/v1/databases").to_request()).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers().get("retry-after").unwrap(), "1");
    let body: Value = read_body_json(response).await;
    assert_eq!(problem_code(&body), "overloaded");
    // Probes and operators are not turned away.
    let response = call_service(&app, request("GET", "/health/live").to_request()).await;
    assert_eq!(response.status(), 200);
}

#[actix_web::test]
async fn head_is_get_without_its_body() {
    let app = app!();
    let response = call_service(&app, request("HEAD", "/health/live").to_request()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers().get(CONTENT_TYPE).unwrap(),
        "application/json"
    );
}

#[actix_web::test]
async fn the_documentation_is_served_from_here() {
    let app = app!();
    let response = call_service(&app, request("GET", "/").to_request()).await;
    assert_eq!(response.headers().get("location").unwrap(), "/docs/");
    let response = call_service(&app, request("GET", "/docs/").to_request()).await;
    assert_eq!(response.status(), 200);
    let page = String::from_utf8(read_body(response).await.to_vec()).unwrap();
    assert!(page.contains("swagger-ui"));
    assert!(
        !page.contains("https://"),
        "nothing is fetched from elsewhere"
    );
    let start = call_service(
        &app,
        request("GET", "/docs/swagger-initializer.js").to_request(),
    )
    .await;
    let script = String::from_utf8(read_body(start).await.to_vec()).unwrap();
    assert!(script.contains("/openapi.json"), "{script}");
    let response = call_service(&app, request("GET", "/openapi.json").to_request()).await;
    let body: Value = read_body_json(response).await;
    assert_eq!(body, crate::http::openapi::document());
}

#[actix_web::test]
async fn browsers_are_told_of_https_only_where_it_is_spoken() {
    for (hsts, told) in [
        (None, None),
        (Some(Duration::from_secs(60)), Some("max-age=60")),
    ] {
        let settings = HttpSettings {
            hsts,
            ..HttpSettings::standard()
        };
        let app = app!(settings, vec![]);
        for path in ["/health/live", "/docs", "/nowhere"] {
            let response = call_service(&app, request("GET", path).to_request()).await;
            let header = response.headers().get("strict-transport-security");
            assert_eq!(header.map(|h| h.to_str().unwrap()), told, "{path}");
        }
    }
}
