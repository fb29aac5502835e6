//! The audit trail: what administrators ordered and who was turned away can be read afterwards, in the
//! table and in the log, also after the process was killed.

use std::time::Duration;

use oms_testkit::service::Service;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::OMS;

const OPS: &str = "the operator's secret";
const READER: &str = "the reader's secret";

fn tokens() -> String {
    let token = |name: &str, secret: &str, roles: &[&str]| json!({"name": name, "roles": roles, "sha256": hex::encode(Sha256::digest(secret))});
    json!([
        token("ops", OPS, &["read", "write", "admin"]),
        token("reader", READER, &["read"]),
    ])
    .to_string()
}

async fn ask(service: &Service, method: &str, path: &str, token: &str, body: Option<Value>) -> u16 {
    let mut request = service
        .http
        .request(method.parse().expect("a method"), service.at(path))
        .bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    request.send().await.expect("an answer").status().as_u16()
}

/// Entries of the trail, oldest first, once there are as many as expected.
async fn entries(service: &Service, expected: usize) -> Vec<Value> {
    let read = async || {
        let answer = service
            .http
            .get(service.at("/api/v1/admin/audit?limit=1000"))
            .bearer_auth(OPS)
            .send()
            .await
            .ok()?;
        let page: Value = answer.json().await.ok()?;
        let mut items = page["items"].as_array()?.clone();
        items.reverse();
        (items.len() >= expected).then_some(items)
    };
    service.until("audit trail", read).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_3_every_order_of_an_administrator_and_every_refusal_is_recorded() {
    let tokens = tokens();
    let env = [("OMS__AUTH__TOKENS", tokens.as_str())];
    let mut service = Service::start(OMS, &env, &["--chaos"]).await;
    let kill = json!({"path": "relay", "how": "panic"});
    let orders = [
        ("POST", "/api/v1/admin/actors/kill", kill.clone(), 202),
        (
            "POST",
            "/api/v1/admin/actors/failpoints",
            json!({"name": "kafka.publish.before", "action": "error", "times": 0}),
            202,
        ),
        (
            "PUT",
            "/api/v1/admin/chaos/clock",
            json!({"offset_seconds": 0}),
            200,
        ),
        (
            "POST",
            "/api/v1/admin/migration/mode",
            json!({"mode": "s3_only", "reason": "a test", "dry_run": true}),
            200,
        ),
        (
            "DELETE",
            "/api/v1/admin/migration/switches/00000000-0000-0000-0000-000000000001",
            Value::Null,
            404,
        ),
        (
            "POST",
            "/api/v1/admin/migration/verify",
            json!({"action": "cancel"}),
            404,
        ),
        (
            "POST",
            "/api/v1/admin/outbox/dead/17/requeue",
            json!({}),
            404,
        ),
        (
            "POST",
            "/api/v1/admin/outbox/dead/17/discard",
            json!({}),
            404,
        ),
        (
            "POST",
            "/api/v1/admin/projections/ontology/rebuild",
            json!({}),
            202,
        ),
    ];
    let mut expected = vec![];
    for (method, path, body, _) in &orders {
        let sent = (!body.is_null()).then(|| body.clone());
        let status = ask(&service, method, path, OPS, sent).await;
        expected.push((format!("{method} {path}"), json!("ops"), json!(status)));
    }
    // Reading is no order, and what everybody may do is not recorded.
    assert_eq!(
        ask(&service, "GET", "/api/v1/admin/actors", OPS, None).await,
        200
    );
    assert_eq!(
        ask(&service, "GET", "/api/v1/events", READER, None).await,
        200
    );
    // Turned away: known, but not allowed to; not known at all.
    let status = ask(
        &service,
        "POST",
        "/api/v1/admin/actors/kill",
        READER,
        Some(kill),
    )
    .await;
    assert_eq!(status, 403);
    expected.push((
        "POST /api/v1/admin/actors/kill".into(),
        json!("reader"),
        json!(403),
    ));
    for _ in 0..50 {
        assert_eq!(
            ask(&service, "GET", "/api/v1/events", "a guess", None).await,
            401
        );
    }
    expected.push(("GET /api/v1/events".into(), Value::Null, json!(401)));

    let found = entries(&service, expected.len()).await;
    let told: Vec<_> = found
        .iter()
        .map(|e| {
            let action = e["action"].as_str().expect("an action").to_owned();
            (action, e["principal"].clone(), e["status"].clone())
        })
        .collect();
    assert_eq!(
        told, expected,
        "fifty guesses are one entry until the minute is over"
    );
    for ((.., status), entry) in orders.iter().zip(&found) {
        assert_eq!(entry["status"], *status, "{entry}");
        assert_eq!(entry["kind"], "command");
        assert!(
            entry["request_id"]
                .as_str()
                .is_some_and(|id| !id.is_empty())
        );
    }
    assert_eq!(
        found[0]["body"],
        json!({"path": "relay", "how": "panic"}).to_string()
    );
    assert_eq!(found[0]["address"], "127.0.0.1");

    // It outlives the process, and the log tells the same.
    service.kill_9();
    service.restart().await;
    assert_eq!(entries(&service, expected.len()).await, found);
    let log = service.log_tail();
    let file = std::fs::read_to_string(service.data_dir().join("service.log")).expect("a log");
    for (action, principal, _) in &expected {
        let path = action.split(' ').nth(1).expect("a path");
        let line = file.lines().find(|line| {
            line.contains(path) && principal.as_str().is_none_or(|name| line.contains(name))
        });
        assert!(
            line.is_some(),
            "{action} by {principal} is not in the log:\n{log}"
        );
    }

    // A stranger may not read it, and a query that cannot be meant is refused.
    let status = ask(&service, "GET", "/api/v1/admin/audit", READER, None).await;
    assert_eq!(status, 403);
    let status = ask(
        &service,
        "GET",
        "/api/v1/admin/audit?kind=nonsense",
        OPS,
        None,
    )
    .await;
    assert_eq!(status, 400);
    let page: Value = service
        .http
        .get(service.at("/api/v1/admin/audit?kind=command&principal=ops&limit=2"))
        .bearer_auth(OPS)
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("a page");
    assert_eq!(page["items"].as_array().map(Vec::len), Some(2));
    assert!(page["next_cursor"].is_string());
}

struct Stopped(i32);

impl Drop for Stopped {
    fn drop(&mut self) {
        super::signal(self.0, nix::sys::signal::Signal::SIGCONT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_10_the_trail_waits_for_postgres_and_orders_do_not() {
    let tokens = tokens();
    let env = [("OMS__AUTH__TOKENS", tokens.as_str())];
    let service = Service::start(OMS, &env, &["--chaos"]).await;
    let postmaster = super::postmaster(&service);
    // Whatever happens below, it is let go on.
    let stopped = Stopped(postmaster);
    super::signal(postmaster, nix::sys::signal::Signal::SIGSTOP);
    let began = std::time::Instant::now();
    let kill = json!({"path": "projection", "how": "panic"});
    let path = "/api/v1/admin/actors/kill";
    assert_eq!(ask(&service, "POST", path, OPS, Some(kill)).await, 202);
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
    drop(stopped);
    let found = entries(&service, 1).await;
    assert_eq!(found[0]["action"], format!("POST {path}"));
}

/// A switch is waited for up to some seconds; who has lost patience has ordered it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_3_an_order_whose_caller_breaks_off_is_recorded() {
    let tokens = tokens();
    let env = [("OMS__AUTH__TOKENS", tokens.as_str())];
    let service = Service::start(OMS, &env, &["--chaos"]).await;
    // The order waits at this point for as long as the test needs.
    let hold = json!({"name": "postgres.switch_begin.before", "action": "delay", "delay_ms": 3000});
    let path = "/api/v1/admin/actors/failpoints";
    assert_eq!(ask(&service, "POST", path, OPS, Some(hold)).await, 202);
    let order = json!({"mode": "legacy", "reason": "in a hurry", "force": true}).to_string();
    let request = format!(
        "POST /api/v1/admin/migration/mode HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPS}\r\n\
         content-type: application/json\r\nx-request-id: hasty\r\ncontent-length: {}\r\n\r\n{order}",
        order.len()
    );
    let address = service.url.trim_start_matches("http://");
    let mut caller = TcpStream::connect(address).await.expect("connected");
    caller.write_all(request.as_bytes()).await.expect("sent");
    let early = timeout(Duration::from_millis(300), caller.read(&mut [0; 1])).await;
    assert!(early.is_err(), "it was answered at once: {early:?}");
    // Not an orderly end, which would be waited out.
    caller.set_zero_linger().expect("set");
    drop(caller);
    let all = entries(&service, 2).await;
    let entry = all.iter().find(|e| e["request_id"] == "hasty");
    let entry = entry.unwrap_or_else(|| panic!("{all:#?}"));
    assert_eq!(
        (&entry["outcome"], &entry["status"], &entry["principal"]),
        (&json!("unanswered"), &json!(0), &json!("ops"))
    );
    assert!(
        entry["body"]
            .as_str()
            .is_some_and(|b| b.contains("in a hurry"))
    );
}
