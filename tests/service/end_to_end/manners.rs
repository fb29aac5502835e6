//! HTTP as its standards and its clients have it: cases from the field, on the real service.

use std::io::{Read, Write};
use std::net::TcpStream;

use futures_util::StreamExt;
use oms_testkit::service::{PATIENCE, Service};
use reqwest::Method;
use serde_json::{Value, json};

use crate::OMS;

const INSTANCES: &str = "/api/v1/databases/films/classes/Movie/instances";

struct Asked {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |v| v.to_str().expect("text"))
    }

    fn code(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }
}

async fn ask(
    service: &Service,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Asked {
    let mut request = service.http.request(method, service.at(path));
    if !body.is_empty() && !headers.iter().any(|h| h.0 == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request
        .body(body.to_owned())
        .send()
        .await
        .expect("an answer");
    Asked {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        body: serde_json::from_slice(&answer.bytes().await.expect("a body")).unwrap_or_default(),
    }
}

/// Sends text as it is, and reads until the connection is closed.
async fn raw(service: &Service, text: String) -> String {
    let address = service.url.trim_start_matches("http://").to_owned();
    let talked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.write_all(text.as_bytes()).expect("sent");
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("read to the end");
        all
    });
    talked.await.expect("talked")
}

async fn service_with_films() -> Service {
    let origins = r#"["http://localhost:3000"]"#;
    let service = Service::start(OMS, &[("OMS__HTTP__CORS_ORIGINS", origins)], &[]).await;
    for (path, body) in [
        ("/api/v1/databases", json!({"name": "films"})),
        (
            "/api/v1/databases/films/classes",
            json!({"id": "Movie", "label": "Movie", "properties": [
                {"name": "n", "type": "number"}, {"name": "title", "type": "string"}]}),
        ),
        (INSTANCES, json!({"id": "a1", "data": {"n": 1}})),
    ] {
        let (status, answer) = service.send("POST", path, Some(body)).await;
        assert_eq!(status, 201, "{answer}");
    }
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_from_the_field_are_answered_as_http_has_it() {
    let mut service = service_with_films().await;
    preconditions(&service).await;
    media_types(&service).await;
    web_pages(&service).await;
    bodies(&service).await;
    positions(&service).await;
    live(&service).await;
    assert_eq!(service.terminate().await, 0);
}

async fn preconditions(service: &Service) {
    let path = format!("{INSTANCES}/a1");
    let patch = async |tag: &str| {
        let headers = [("if-match", tag)];
        ask(service, Method::PATCH, &path, &headers, r#"{"title":"t"}"#).await
    };
    let weak = patch("W/\"1\"").await;
    assert_eq!(weak.code(), (412, "version_mismatch"));
    assert_eq!(weak.body["actual_version"], 1);
    assert_eq!(patch("\"7\", \"9\"").await.status, 412);
    assert_eq!(patch("\"7\", \"1\"").await.status, 200);
    assert_eq!(patch("*").await.status, 200);
    assert_eq!(patch("1").await.code(), (400, "invalid_if_match"));
    let read = async |method: Method, tag: &str| {
        ask(service, method, &path, &[("if-none-match", tag)], "").await
    };
    let seen = read(Method::GET, "\"0\"").await;
    let tag = seen.header("etag").to_owned();
    assert_eq!((seen.status, tag.is_empty()), (200, false));
    assert_eq!(read(Method::GET, &tag).await.status, 304);
    assert_eq!(read(Method::GET, &format!("W/{tag}")).await.status, 304);
    let head = read(Method::HEAD, "\"0\"").await;
    assert_eq!((head.status, head.header("etag")), (200, tag.as_str()));
}

async fn media_types(service: &Service) {
    let path = format!("{INSTANCES}/a1");
    let patch = async |media: &str, body: &str| {
        ask(
            service,
            Method::PATCH,
            &path,
            &[("content-type", media)],
            body,
        )
        .await
    };
    for body in [r#"{"n":3}"#, r#"[{"op":"replace","path":"/n","value":3}]"#] {
        let refused = patch("application/json-patch+json", body).await;
        assert_eq!(refused.code(), (415, "unsupported_media_type"));
        let taken = refused.header("accept-patch");
        assert!(taken.contains("application/merge-patch+json"), "{taken}");
    }
    assert_eq!(
        patch("application/merge-patch+json", r#"{"n":3}"#)
            .await
            .status,
        200
    );
}

async fn web_pages(service: &Service) {
    let preflight = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "content-type,idempotency-key",
            ),
        ];
        let path = format!("{INSTANCES}/query");
        ask(service, Method::OPTIONS, &path, &headers, "").await
    };
    let allowed = preflight("http://localhost:3000").await;
    assert_eq!(allowed.status, 204);
    let origin = "access-control-allow-origin";
    assert_eq!(allowed.header(origin), "http://localhost:3000");
    assert!(
        allowed
            .header("access-control-allow-methods")
            .contains("POST")
    );
    let headers = allowed.header("access-control-allow-headers");
    assert!(headers.contains("idempotency-key") && headers.contains("authorization"));
    assert!(allowed.header("vary").contains("origin"));
    assert_eq!(preflight("http://localhost:4000").await.header(origin), "");
    let from_page = [
        ("origin", "http://localhost:3000"),
        ("sec-fetch-site", "cross-site"),
    ];
    // The read model may still be on its way.
    let read = async || {
        let read = ask(service, Method::GET, INSTANCES, &from_page, "").await;
        (read.status != 503).then_some(read)
    };
    let read = service.until("read model", read).await;
    assert_eq!(
        (read.status, read.header(origin)),
        (200, "http://localhost:3000")
    );
    assert!(
        read.header("access-control-expose-headers")
            .contains("etag")
    );
    let from_other = [("origin", "https://evil.example")];
    let read = ask(service, Method::GET, INSTANCES, &from_other, "").await;
    assert_eq!(
        (read.code(), read.header(origin)),
        ((403, "cross_site_request"), "")
    );
}

async fn bodies(service: &Service) {
    let post = async |body: &str| ask(service, Method::POST, INSTANCES, &[], body).await;
    let number = "12345678901234567890.123456789";
    let kept = post(&format!(r#"{{"id":"big","data":{{"n":{number}}}}}"#)).await;
    assert_eq!(kept.status, 201, "{}", kept.body);
    let text = service
        .http
        .get(service.at(&format!("{INSTANCES}/big")))
        .send()
        .await;
    let text = text.expect("an answer").text().await.expect("a body");
    assert!(text.contains(number), "{text}");
    assert_eq!(post(r#"{"data":{"n":1e400}}"#).await.status, 422);
    let deep = format!(
        r#"{{"data":{{"n":{}{}}}}}"#,
        "[".repeat(2_000),
        "]".repeat(2_000)
    );
    assert_eq!(post(&deep).await.code(), (400, "json_too_deep"));
    assert_eq!(
        post(r#"{"data":{"n":1,"n":2}}"#).await.code(),
        (400, "duplicate_key")
    );
    for text in [r"\u0000", r"\ud800", r"\udc00x"] {
        let refused = post(&format!(r#"{{"data":{{"title":"{text}"}}}}"#)).await;
        assert_eq!(refused.code(), (400, "unsupported_character"), "{text}");
    }
    // "é" as two characters is another id than as one, and stays what it was.
    let decomposed = "cafe\u{301}";
    let made = post(&format!(r#"{{"id":"{decomposed}","data":{{}}}}"#)).await;
    assert_eq!((made.status, &made.body["id"]), (201, &json!(decomposed)));
    let long = format!("{INSTANCES}?limit=100000");
    assert_eq!(ask(service, Method::GET, &long, &[], "").await.status, 400);
    let slash = format!("{INSTANCES}/a%2Fb");
    let refused = ask(service, Method::GET, &slash, &[], "").await;
    assert_eq!(refused.code(), (400, "invalid_id"));
    let key = [("idempotency-key", "k1")];
    let first = ask(
        service,
        Method::POST,
        INSTANCES,
        &key,
        r#"{"data":{"n":1}}"#,
    )
    .await;
    assert_eq!(first.status, 201);
    let other = ask(
        service,
        Method::POST,
        INSTANCES,
        &key,
        r#"{"data":{"n":2}}"#,
    )
    .await;
    assert_eq!(other.code(), (422, "idempotency_key_reused"));
    let sort = r#"{"sort":[{"field":"n","dir":"desc"}]}"#;
    let query = format!("{INSTANCES}/query");
    let refused = ask(service, Method::POST, &query, &[], sort).await;
    assert_eq!(refused.code(), (422, "validation_failed"));
    assert_eq!(refused.body["violations"][0]["field"], "sort[0].dir");

    let head = format!(
        "POST {INSTANCES} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    );
    let body = r#"{"id":"told","data":{}}"#;
    let told = format!(
        "{head}expect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let got = raw(service, told).await;
    assert!(
        got.starts_with("HTTP/1.1 100") && got.contains("HTTP/1.1 201"),
        "{got}"
    );
    let body = r#"{"id":"chunked","data":{}}"#;
    let (one, two) = body.split_at(7);
    let chunked = format!(
        "{head}transfer-encoding: chunked\r\nconnection: close\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        one.len(),
        two.len()
    );
    let got = raw(service, chunked).await;
    assert!(got.contains("HTTP/1.1 201"), "{got}");
}

async fn positions(service: &Service) {
    let batch = format!("{INSTANCES}/batch");
    let query = format!("{INSTANCES}/query");
    for round in 0..10 {
        let create = |i: usize| json!({"op": "create", "data": {"n": round * 1000 + i}});
        let body = json!({"operations": (0..50).map(create).collect::<Vec<_>>()}).to_string();
        let done = ask(service, Method::POST, &batch, &[], &body).await;
        assert_eq!(done.status, 200, "{}", done.body);
        let position = done.header("x-commit-position");
        let listed = done.body["positions"].as_array().expect("a list");
        let listed: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
        assert_eq!(position, listed.join(", "));
        let filter = json!({"filters": [
            {"field": "n", "op": "gte", "value": round * 1000},
            {"field": "n", "op": "lt", "value": (round + 1) * 1000},
            {"field": "id", "op": "ne", "value": "a1"},
        ]});
        let headers = [("x-min-position", position)];
        let found = ask(service, Method::POST, &query, &headers, &filter.to_string()).await;
        let total = found.body["total"].as_u64().expect("a total");
        // Of the first thousand there are some already.
        assert!(
            total >= 50 && (round == 0 || total == 50),
            "round {round}: {total}"
        );
    }
    for wrong in ["99/0/0", "0/0/0,x"] {
        let headers = [("x-min-position", wrong)];
        for path in [INSTANCES.to_owned(), format!("{INSTANCES}/a1")] {
            let refused = ask(service, Method::GET, &path, &headers, "").await;
            assert_eq!(refused.code(), (400, "invalid_header"), "{wrong} {path}");
        }
    }
}

/// What a client of HTTP/1.0 is sent of the live feed, up to the first sign of life.
async fn old_live(service: &Service) -> String {
    let address = service.url.trim_start_matches("http://").to_owned();
    let seen = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let asked = "GET /api/v1/events?types=NothingLikeIt HTTP/1.0\r\nhost: localhost\r\n\
                     accept: text/event-stream\r\n\r\n";
        stream.write_all(asked.as_bytes()).expect("sent");
        let (mut all, mut some) = (String::new(), [0; 4096]);
        while !all.contains("\nid: ") {
            let read = stream.read(&mut some).expect("more");
            assert_ne!(read, 0, "it goes on: {all}");
            all.push_str(&String::from_utf8_lossy(&some[..read]));
        }
        all
    });
    seen.await.expect("seen")
}

async fn live(service: &Service) {
    // More than there are slots: none is taken, and each connection serves the next request.
    let head =
        "HEAD /api/v1/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n";
    let last = "GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let got = raw(service, format!("{}{last}", head.repeat(300))).await;
    assert_eq!(got.matches("HTTP/1.1 200").count(), 301);
    assert_eq!(got.matches("text/event-stream").count(), 300);
    let wrong = [
        ("accept", "text/event-stream"),
        ("last-event-id", "garbage"),
    ];
    for method in [Method::HEAD, Method::GET] {
        let refused = ask(service, method, "/api/v1/events", &wrong, "").await;
        assert_eq!(refused.status, 400);
    }
    let old = old_live(service).await;
    let (head, body) = old.split_once("\r\n\r\n").expect("a head");
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert!(body.starts_with(": heartbeat\n"), "{body}");
    let accept = [("accept", "text/event-stream")];
    let mut request = service
        .http
        .get(service.at("/api/v1/events?types=NothingLikeIt"));
    for (name, value) in accept {
        request = request.header(name, value);
    }
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    // It matches nothing, and still says that it lives and how far it has looked.
    let mut chunks = answer.bytes_stream();
    let first = tokio::time::timeout(PATIENCE, chunks.next()).await;
    let first = first.expect("a heartbeat").expect("open").expect("bytes");
    let text = String::from_utf8_lossy(&first).into_owned();
    assert!(text.starts_with(": heartbeat\nid: "), "{text}");
}
