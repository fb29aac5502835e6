use std::time::Duration;

use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use actix_web::{App, HttpResponse};
use futures_util::Stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::http::HttpSettings;
use crate::http::auth::Access;
use crate::http::headers::{IDEMPOTENCY_KEY, REQUEST_ID, TRACEPARENT};
use crate::http::middleware::RequestPipeline;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    n: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<u64>,
}

async fn order(command: Command<Order>, Params(page): Params<Page>) -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "n": command.body.n,
        "limit": page.limit,
        "principal": command.ctx.principal,
        "correlation": command.ctx.correlation_id,
        "key": command.ctx.idempotency.as_ref().map(|i| i.key.clone()),
        "hash": command.ctx.idempotency.as_ref().map(|i| i.request_hash),
    }))
}

/// A macro, because the type of the application cannot be named.
macro_rules! app {
    ($settings:expr) => {{
        let limits = Arc::new(HttpLimits::new($settings, vec![]));
        let pipeline = RequestPipeline::new(limits, "/orders", vec![(Method::POST, Access::Write)]);
        let orders = web::resource("/orders").route(web::post().to(order));
        init_service(App::new().service(orders.wrap(pipeline))).await
    }};
}

fn post(body: &'static str) -> TestRequest {
    TestRequest::post()
        .uri("/orders")
        .insert_header((CONTENT_TYPE, "application/json"))
        .set_payload(body)
}

async fn answer(settings: HttpSettings, request: TestRequest) -> (u16, Value) {
    let response = call_service(&app!(settings), request.to_request()).await;
    assert!(response.headers().contains_key(REQUEST_ID));
    let status = response.status().as_u16();
    if status >= 400 {
        assert_eq!(
            response.headers().get(CONTENT_TYPE).unwrap(),
            "application/problem+json"
        );
    }
    (status, read_body_json(response).await)
}

async fn code(request: TestRequest) -> (u16, String) {
    let (status, body) = answer(HttpSettings::standard(), request).await;
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[actix_web::test]
async fn a_command_reaches_its_handler_with_its_metadata() {
    let request = post(r#"{"n":7}"#)
        .uri("/orders?limit=3")
        .insert_header((IDEMPOTENCY_KEY, "k"))
        .insert_header(("x-actor", "mallory"))
        .insert_header((
            TRACEPARENT,
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ));
    let (status, body) = answer(HttpSettings::standard(), request).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["n"], 7);
    assert_eq!(body["limit"], 3);
    assert_eq!(body["principal"], "anonymous", "X-Actor is not believed");
    assert_eq!(body["correlation"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(body["key"], "k");
    assert_eq!(body["hash"], request_hash("POST", "/orders", br#"{"n":7}"#));
}

#[actix_web::test]
async fn a_clients_request_id_comes_back_and_names_the_story() {
    let request = post(r#"{"n":7}"#).insert_header((REQUEST_ID, "mine-1"));
    let response = call_service(&app!(HttpSettings::standard()), request.to_request()).await;
    assert_eq!(response.headers().get(REQUEST_ID).unwrap(), "mine-1");
    let body: Value = read_body_json(response).await;
    assert_eq!(body["correlation"], "mine-1");
}

#[actix_web::test]
async fn bad_bodies_are_refused_for_what_they_are() {
    assert_eq!(code(post("{\"n\":")).await, is(400, "malformed_json"));
    assert_eq!(code(post("")).await, is(400, "malformed_json"));
    assert_eq!(code(post("[]")).await, is(422, "validation_failed"));
    assert_eq!(code(post("{}")).await, is(422, "validation_failed"));
    assert_eq!(
        code(post(r#"{"n":"x"}"#)).await,
        is(422, "validation_failed")
    );
    assert_eq!(
        code(post(r#"{"n":1,"m":2}"#)).await,
        is(422, "validation_failed")
    );
    assert_eq!(
        code(post(r#"{"n":1,"n":2}"#)).await,
        is(400, "duplicate_key")
    );
    let bomb: &'static str = Box::leak("[".repeat(100_000).into_boxed_str());
    assert_eq!(code(post(bomb)).await, is(400, "json_too_deep"));
    assert_eq!(
        code(post(r#"{"n":1}"#).uri("/orders?limit=x")).await,
        is(400, "invalid_query")
    );
    assert_eq!(
        code(post(r#"{"n":1}"#).uri("/orders?other=1")).await,
        is(400, "invalid_query")
    );
    assert_eq!(
        code(post(r#"{"n":1}"#).insert_header((IDEMPOTENCY_KEY, ""))).await,
        is(400, "invalid_idempotency_key")
    );
}

#[actix_web::test]
async fn law_13_bodies_are_bounded_announced_or_not() {
    let small = || HttpSettings {
        max_body_bytes: 8,
        ..HttpSettings::standard()
    };
    let (status, _) = answer(small(), post(r#"{"n":12}"#)).await;
    assert_eq!(status, 200);
    let (status, body) = answer(small(), post(r#"{"n":123}"#)).await;
    assert_eq!((status, &body["code"]), (413, &json!("body_too_large")));
    let announced = post("{}").insert_header((CONTENT_LENGTH, "9"));
    let (status, body) = answer(small(), announced).await;
    assert_eq!((status, &body["code"]), (413, &json!("body_too_large")));
}

#[actix_web::test]
async fn only_json_is_taken() {
    let with = |name: &'static str, value: &'static str| {
        code(post(r#"{"n":1}"#).insert_header((name, value)))
    };
    let refused = is(415, "unsupported_media_type");
    for fine in ["application/json", "Application/JSON; charset=UTF-8"] {
        assert_eq!(with("content-type", fine).await, is(200, ""), "{fine}");
    }
    for bad in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "json",
        // Each says something else than what would be done.
        "application/merge-patch+json",
        "application/json-patch+json",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/vnd.api+json",
    ] {
        assert_eq!(with("content-type", bad).await, refused, "{bad}");
    }
    assert_eq!(with("content-encoding", "gzip").await, refused);
    let none = TestRequest::post().uri("/orders").set_payload("{}");
    assert_eq!(code(none).await, refused);
}

fn payload(stream: impl Stream<Item = Result<Bytes, PayloadError>> + 'static) -> Payload {
    Payload::Stream {
        payload: Box::pin(stream),
    }
}

const LIMIT: usize = 1 << 10;

#[actix_web::test]
async fn a_body_that_does_not_come_is_408() {
    let limits = HttpLimits::new(
        HttpSettings {
            body_timeout: Duration::from_millis(10),
            ..HttpSettings::standard()
        },
        vec![],
    );
    let request = post("").to_http_request();
    let silent = payload(futures_util::stream::pending());
    let problem = read_body(&request, silent, &limits, LIMIT)
        .await
        .unwrap_err();
    assert_eq!(problem.body().status, 408);
    assert_eq!(problem.code(), "body_timeout");
}

#[actix_web::test]
async fn a_body_in_pieces_is_put_together() {
    let limits = HttpLimits::new(HttpSettings::standard(), vec![]);
    let pieces = ["{\"n\"", ":", "1}"].map(|p| Ok(Bytes::from_static(p.as_bytes())));
    let pieces = payload(futures_util::stream::iter(pieces));
    let request = post("").to_http_request();
    let body = read_body(&request, pieces, &limits, LIMIT).await.unwrap();
    assert_eq!(&body[..], b"{\"n\":1}");
}

#[actix_web::test]
async fn law_13_bytes_of_large_bodies_are_bounded_and_given_back() {
    let limits = HttpLimits::new(
        HttpSettings {
            max_body_bytes_in_flight: 10,
            ..HttpSettings::standard()
        },
        vec![],
    );
    let body = || {
        let pieces = ["{\"n\":", "        1", "}"].map(|p| Ok(Bytes::from_static(p.as_bytes())));
        payload(futures_util::stream::iter(pieces))
    };
    let one = post("").to_http_request();
    read_body(&one, body(), &limits, LIMIT).await.unwrap();
    let two = post("").to_http_request();
    let problem = read_body(&two, body(), &limits, LIMIT).await.unwrap_err();
    assert_eq!((problem.body().status, problem.code()), (503, "overloaded"));
    // What comes in one piece is bounded by the number of requests.
    let whole = futures_util::stream::iter([Ok(Bytes::from_static(b"{\"n\":               1}"))]);
    read_body(&two, payload(whole), &limits, LIMIT)
        .await
        .unwrap();
    drop(one);
    read_body(&two, body(), &limits, LIMIT).await.unwrap();
}

#[actix_web::test]
async fn a_patch_of_another_kind_is_refused_with_what_is_taken() {
    let limits = Arc::new(HttpLimits::new(HttpSettings::standard(), vec![]));
    let pipeline = RequestPipeline::new(limits, "/orders", vec![(Method::PATCH, Access::Write)]);
    let orders = web::resource("/orders").route(web::patch().to(order));
    let app = init_service(App::new().service(orders.wrap(pipeline))).await;
    for (media, expected) in [
        ("application/merge-patch+json", 200),
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/json-patch+json", 415),
        ("application/xml-patch+json", 415),
        ("text/plain", 415),
    ] {
        let request = TestRequest::patch()
            .uri("/orders")
            .insert_header((CONTENT_TYPE, media))
            .set_payload("{\"n\":1}");
        let response = call_service(&app, request.to_request()).await;
        assert_eq!(response.status().as_u16(), expected, "{media}");
        let taken = response.headers().get("accept-patch");
        assert_eq!(taken.is_some(), expected == 415, "{media}");
    }
    let post = post("{\"n\":1}").insert_header((CONTENT_TYPE, "application/json-patch+json"));
    assert_eq!(code(post).await, (415, "unsupported_media_type".to_owned()));
}
