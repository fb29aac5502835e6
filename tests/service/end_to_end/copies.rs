//! The service on another bucket than its database belongs to, and back; a log that lost its end.

use oms_testkit::service::Service;
use reqwest::Method;
use serde_json::{Value, json};

use crate::OMS;

async fn create(service: &Service, name: &str) {
    let body = json!({"name": name});
    let (status, answer) = service.send("POST", "/api/v1/databases", Some(body)).await;
    assert_eq!(status, 201, "{answer}");
}

/// None while the read model is being made anew.
async fn names(service: &Service) -> Vec<String> {
    let path = "/api/v1/databases?limit=100";
    let (status, page) = service.send("GET", path, None).await;
    if status == 503 {
        return vec![];
    }
    assert_eq!(status, 200, "{page}");
    let items = page["items"].as_array().expect("items").iter();
    let name = |item: &Value| item["id"].as_str().expect("an id").to_owned();
    items.map(name).collect()
}

/// `/health`, as soon as it says this.
async fn health(service: &Service, status: &str, reason: Option<&str>) -> Value {
    let what = format!("health {status} {reason:?}");
    service
        .until(&what, async || {
            let (_, health) = service.send("GET", "/health", None).await;
            let found = (health["status"].as_str(), health["reason"].as_str());
            (found == (Some(status), reason)).then_some(health)
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_9_11_another_bucket_is_served_without_ghosts_and_says_what_is_not_delivered() {
    let mut service = Service::start(OMS, &[], &[]).await;
    for i in 0..20 {
        create(&service, &format!("first{i:02}")).await;
    }
    service
        .until("the read model", async || {
            (names(&service).await.len() == 20).then_some(())
        })
        .await;
    health(&service, "ok", None).await;
    let feed = service.get("/api/v1/events?limit=1000").await;
    let cursor = feed["next_cursor"].as_str().expect("a cursor");
    assert_eq!(service.terminate().await, 0);
    service.set("EVENT_STORE_BUCKET", "another-bucket");
    service.restart().await;
    cursor_is_refused(&service, cursor).await;
    let degraded = health(&service, "degraded", Some("other_log")).await;
    assert!(!degraded["copies"].as_array().expect("sentences").is_empty());
    // Longer than the first one: its events are neither skipped nor mixed with the other's.
    for i in 0..40 {
        create(&service, &format!("second{i:02}")).await;
    }
    let found = service
        .until("the read model", async || {
            let found = names(&service).await;
            (found.len() >= 40).then_some(found)
        })
        .await;
    assert!(found.iter().all(|n| n.starts_with("second")), "{found:?}");
    let delivery = service.get("/api/v1/admin/outbox").await;
    let known: u64 = watermarks(&delivery);
    create(&service, "second-more").await;
    // Also where this log is longer by now.
    cursor_is_refused(&service, cursor).await;
    health(&service, "degraded", Some("other_log")).await;
    let now = service.get("/api/v1/admin/outbox").await;
    assert_eq!(watermarks(&now), known, "nothing is skipped: {now}");
    assert_eq!(service.terminate().await, 0);
    // Where it belongs everything goes on.
    service.set("EVENT_STORE_BUCKET", "spice-event-store");
    service.restart().await;
    create(&service, "first-more").await;
    let feed = service.get(&format!("/api/v1/events?after={cursor}")).await;
    assert_eq!(feed["items"].as_array().expect("items").len(), 1, "{feed}");
    service
        .until("the first read model", async || {
            let found = names(&service).await;
            let first = found.iter().all(|n| n.starts_with("first"));
            (first && found.len() == 21).then_some(())
        })
        .await;
    health(&service, "ok", None).await;
}

/// By pages, and before a live stream begins.
async fn cursor_is_refused(service: &Service, cursor: &str) {
    let path = format!("/api/v1/events?after={cursor}");
    let (status, answer) = service.send("GET", &path, None).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(answer["code"], "cursor_of_another_log");
    for method in [Method::GET, Method::HEAD] {
        let live = service
            .http
            .request(method, service.at("/api/v1/events"))
            .header("Accept", "text/event-stream")
            .header("Last-Event-ID", cursor)
            .send()
            .await;
        assert_eq!(live.expect("an answer").status(), 400);
    }
}

fn watermarks(delivery: &Value) -> u64 {
    let partitions = delivery["partitions"].as_array().expect("partitions");
    let of = |p: &Value| p["watermark"].as_u64().expect("a watermark");
    partitions.iter().map(of).sum()
}
