//! Law 9 for events that the broker does not take: in every mode their readers are told where they
//! are, and find them there.

use oms_testkit::broker::Broker;
use oms_testkit::service::{PATIENCE, Service};
use serde_json::{Value, json};

use super::migration::switched;
use crate::OMS;

/// Of the event; the service takes it, brokers do not by default.
const BYTES: usize = 1_040_000;

const STAGES: [(&str, Option<&str>); 4] = [
    ("legacy", None),
    ("dual_write", Some("postgres")),
    ("dual_write", Some("s3")),
    ("s3_only", None),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_9_an_event_too_large_for_the_broker_reaches_its_readers_in_every_mode() {
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str())];
    let service = Service::start(OMS, &env, &["--mode", "legacy"]).await;
    // On a broker that others use too.
    let story = oms::clock::new_uuid().to_string();
    for (i, (mode, lead)) in STAGES.into_iter().enumerate() {
        if mode != "legacy" {
            switched(&service, mode, lead).await;
        }
        let stream = format!("/api/v1/streams/parcel/{story}-{i}/events");
        let data = "y".repeat(BYTES);
        let event = json!({"events": [{"type": "Packed", "data": data}]});
        let (status, answer) = service.send("POST", &stream, Some(event)).await;
        assert_eq!(status, 201, "{mode}: {answer}");
        let key = format!("parcel/{story}-{i}");
        let consumed = broker.consume(&["oms.stream"], PATIENCE, |consumed| {
            consumed.iter().any(|message| message.key == key)
        });
        let message = consumed.iter().find(|m| m.key == key).expect("it came");
        assert_eq!(message.headers["claim_check"], "true", "{mode}");
        let content_type = &message.headers["content-type"];
        assert!(content_type.contains("reference"), "{mode}: {content_type}");
        let reference: Value = serde_json::from_slice(&message.value).expect("JSON");
        let page = service
            .get(reference["href"].as_str().expect("a path"))
            .await;
        let items = page["items"].as_array().expect("a page");
        assert_eq!(items.len(), 1, "{mode}: {reference}");
        assert_eq!(items[0]["id"], reference["event_id"]);
        assert_eq!(items[0]["data"].as_str().map(str::len), Some(BYTES));
    }
    let outbox = service.get("/api/v1/admin/outbox").await;
    assert_eq!(outbox["dead_letters"], 0, "{outbox}");
}
