//! Requests that no client would send, to a running service: every one is answered, none with 500,
//! and nothing in the service panics.

use std::time::Duration;

use oms_testkit::service::Service;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::mutate::Fuzz;
use crate::OMS;

/// Requests in CI: a few seconds.
const REQUESTS: usize = 1_500;

const HEADERS: [&str; 9] = [
    "If-Match: \"1\"",
    "If-None-Match: *",
    "Idempotency-Key: k",
    "X-Min-Position: 0/0/0",
    "X-Request-Id: r",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Last-Event-ID: AAAA",
    "Authorization: Bearer x",
    "Accept: application/json",
];

const PATHS: [(&str, &str); 20] = [
    ("GET", "/health"),
    ("GET", "/api/v1/databases?limit=10&cursor=AAAA"),
    ("POST", "/api/v1/databases"),
    ("GET", "/api/v1/databases/fuzz/classes"),
    ("POST", "/api/v1/databases/fuzz/classes"),
    ("PUT", "/api/v1/databases/fuzz/classes/Thing"),
    (
        "GET",
        "/api/v1/databases/fuzz/classes/Thing/instances?limit=3&sort=-n,name",
    ),
    ("POST", "/api/v1/databases/fuzz/classes/Thing/instances"),
    (
        "POST",
        "/api/v1/databases/fuzz/classes/Thing/instances/query",
    ),
    (
        "POST",
        "/api/v1/databases/fuzz/classes/Thing/instances/batch",
    ),
    (
        "GET",
        "/api/v1/databases/fuzz/classes/Thing/instances/a?at_version=1",
    ),
    (
        "GET",
        "/api/v1/databases/fuzz/classes/Thing/instances/a?at=2026-01-01T00:00:00Z",
    ),
    (
        "GET",
        "/api/v1/databases/fuzz/classes/Thing/instances/a?consistency=read_model",
    ),
    ("PATCH", "/api/v1/databases/fuzz/classes/Thing/instances/a"),
    (
        "GET",
        "/api/v1/databases/fuzz/classes/Thing/instances/a/history?limit=2&cursor=1",
    ),
    ("POST", "/api/v1/streams/order/a%20b/events"),
    (
        "GET",
        "/api/v1/streams/order/a%20b/events?from_version=1&limit=2&direction=backward",
    ),
    ("GET", "/api/v1/events?after=AAAA&limit=5&types=A,B"),
    (
        "GET",
        "/api/v1/commands/00000000-0000-0000-0000-000000000007",
    ),
    ("GET", "/api/v1/admin/outbox/dead?limit=5&cursor=1"),
];

const BODIES: [&str; 6] = ["append", "batch", "patch", "query", "envelope", "config"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_no_client_would_send_are_refused_and_break_nothing() {
    let seed = match std::env::var("OMS_FUZZ_SEED") {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => u64::from(rand::random::<u32>()),
    };
    eprintln!("OMS_FUZZ_SEED={seed}");
    let service = Service::start(OMS, &[], &[]).await;
    let made = [
        ("/api/v1/databases", json!({"name": "fuzz"})),
        (
            "/api/v1/databases/fuzz/classes",
            json!({"id": "Thing", "label": "Thing", "properties": [
                {"name": "n", "type": "integer"}, {"name": "name", "type": "string"}]}),
        ),
    ];
    for (path, body) in made {
        let (status, answer) = service.send("POST", path, Some(body)).await;
        assert_eq!(status, 201, "{answer}");
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let lines = |texts: &[&str]| texts.iter().map(|t| t.as_bytes().to_vec()).collect();
    let paths: Vec<&str> = PATHS.iter().map(|(_, path)| *path).collect();
    let mut paths = Fuzz::with(lines(&paths));
    let mut headers = Fuzz::with(lines(&HEADERS));
    let mut bodies: Vec<Fuzz> = BODIES.iter().map(|name| Fuzz::of(name)).collect();
    let authority = service.url.trim_start_matches("http://").to_owned();
    let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
    for _ in 0..REQUESTS {
        let (method, path) = PATHS[rng.random_range(0..PATHS.len())];
        let mut path = path.as_bytes().to_vec();
        if rng.random_bool(0.3) {
            path = paths.next();
        }
        let mut header = HEADERS[rng.random_range(0..HEADERS.len())]
            .as_bytes()
            .to_vec();
        if rng.random_bool(0.3) {
            header = headers.next();
        }
        let which = rng.random_range(0..bodies.len());
        let body = bodies[which].next();
        // Line ends would begin another header or request: that is the HTTP library's affair.
        for bytes in [&mut path, &mut header] {
            bytes.retain(|b| !matches!(b, b'\r' | b'\n' | 0));
        }
        path.retain(|b| *b != b' ');
        let mut request = format!("{method} ").into_bytes();
        request.extend(&path);
        request.extend(format!(" HTTP/1.1\r\nHost: {authority}\r\n").as_bytes());
        request.extend(&header);
        let rest = format!(
            "\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        request.extend(rest.as_bytes());
        request.extend(&body);
        let status = answer(&authority, &request).await;
        *statuses.entry(status).or_default() += 1;
        assert!(
            status != 500 && (200..600).contains(&status),
            "OMS_FUZZ_SEED={seed}: {status} to\n{}\n{}",
            String::from_utf8_lossy(&request),
            service.log_tail()
        );
    }
    eprintln!("{statuses:?}");
    assert!(statuses.keys().any(|s| *s < 300) && statuses.contains_key(&400));
    let metrics = service.http.get(service.at("/metrics")).send().await;
    let metrics = metrics.expect("an answer").text().await.expect("text");
    let panics = metrics.lines().find(|l| l.starts_with("oms_panics_total "));
    assert!(panics.is_none_or(|l| l.ends_with(" 0")), "{panics:?}");
    service.get("/health").await;
}

/// The status of the answer; 0 when there is none.
async fn answer(authority: &str, request: &[u8]) -> u16 {
    let exchange = async {
        let mut stream = TcpStream::connect(authority).await.expect("it listens");
        // It may refuse before it has read everything.
        let _ = stream.write_all(request).await;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.ok()?;
        std::str::from_utf8(&head[9..12]).ok()?.parse().ok()
    };
    let status = tokio::time::timeout(Duration::from_secs(60), exchange).await;
    status.ok().flatten().unwrap_or(0)
}
