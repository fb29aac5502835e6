//! `/health` says what does not go on, wholly or in a partition, and since when.

use oms_testkit::service::Service;
use serde_json::{Value, json};

use crate::OMS;

async fn arm(service: &Service, name: &str, times: u32) {
    let body = json!({ "name": name, "action": "error", "times": times });
    let path = "/api/v1/admin/actors/failpoints";
    let (status, answer) = service.send("POST", path, Some(body)).await;
    assert_eq!(status, 202, "{answer}");
}

async fn write(service: &Service, stream: u32) -> u16 {
    let path = format!("/api/v1/streams/order/{stream}/events");
    let body = json!({ "events": [{ "type": "OrderPlaced", "data": {} }] });
    service.send("POST", &path, Some(body)).await.0
}

async fn halted(service: &Service, what: &str) -> (u16, Value, Value) {
    service
        .until(what, async || {
            let (status, health) = service.send("GET", "/health", None).await;
            let halts = health["halted"].as_array()?;
            let halt = halts.iter().find(|halt| halt["what"] == what)?.clone();
            Some((status, health, halt))
        })
        .await
}

async fn healthy(service: &Service) {
    service
        .until("health", async || {
            let (status, health) = service.send("GET", "/health", None).await;
            (status == 200 && health["status"] == "ok").then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_3_health_is_not_ok_while_something_does_not_go_on_and_names_it() {
    let service = Service::start(OMS, &[("OMS__CHAOS__ENABLED", "true")], &[]).await;
    assert_eq!(write(&service, 1).await, 201);
    healthy(&service).await;

    // PostgreSQL answers; only the read model is not taken on.
    arm(&service, "postgres.project.before", u32::MAX).await;
    assert_eq!(write(&service, 2).await, 201);
    let (status, health, halt) = halted(&service, "projection").await;
    assert_eq!((status, &health["status"]), (200, &json!("degraded")));
    assert!(
        halt["since"].is_string() && halt["reason"].is_string(),
        "{halt}"
    );
    arm(&service, "postgres.project.before", 0).await;
    healthy(&service).await;

    arm(&service, "postgres.outbox_record.before", u32::MAX).await;
    assert_eq!(write(&service, 3).await, 201);
    let (_, health, _) = halted(&service, "outbox").await;
    assert_eq!(health["status"], "degraded", "{health}");
    arm(&service, "postgres.outbox_record.before", 0).await;
    healthy(&service).await;

    arm(&service, "s3.put_if_absent.before", u32::MAX).await;
    assert_eq!(write(&service, 4).await, 503);
    let (status, health, halt) = halted(&service, "writes").await;
    assert_eq!((status, &health["status"]), (503, &json!("unavailable")));
    assert!(halt["partition"].is_u64(), "{halt}");
    assert_eq!(service.send("GET", "/health/ready", None).await.0, 200);
    arm(&service, "s3.put_if_absent.before", 0).await;
    assert_eq!(write(&service, 4).await, 201);
    healthy(&service).await;
}
