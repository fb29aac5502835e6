//! A process that is stopped in the middle of publishing, loses its leases and wakes: what it had
//! not sent yet is published by another meanwhile, and must not come after newer events.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use oms_testkit::broker::{Broker, Consumed};
use oms_testkit::proxy::{Link, Proxy};
use oms_testkit::service::{PATIENCE, Service};
use serde_json::{Value, json};

use super::signal;
use crate::OMS;

const STREAMS: usize = 24;
const PREFIX: &str = "stopped";

/// One event to each stream.
async fn write(service: &Service, round: &str) {
    for i in 0..STREAMS {
        let path = format!("/api/v1/streams/parcel/{i}/events");
        let event = json!({"events": [{"type": "Moved", "data": round}]});
        let (status, answer) = service.send("POST", &path, Some(event)).await;
        assert!(matches!(status, 200 | 201), "{answer}");
    }
}

async fn outbox(service: &Service) -> Value {
    service.get("/api/v1/admin/outbox").await
}

/// The partitions that `node` publishes.
async fn partitions_of(service: &Service, node: &str) -> Vec<String> {
    let status = outbox(service).await;
    let partitions = status["partitions"].as_array().expect("partitions");
    let theirs = partitions.iter().filter(|p| p["lease_owner"] == node);
    theirs.map(|p| p["partition"].to_string()).collect()
}

fn consume(broker: &Broker, topic: &str, n: usize) {
    broker.consume(&[topic], PATIENCE, |consumed| consumed.len() >= n);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_9_a_relay_that_was_stopped_publishes_nothing_old_when_it_wakes() {
    let story = oms::clock::new_uuid().simple().to_string();
    let prefix = format!("{PREFIX}-{story}");
    let broker = Broker::start_for(&prefix);
    let topic = format!("{prefix}.stream");
    let bootstrap = broker.bootstrap();
    let proxy = Proxy::start_for_kafka(bootstrap.parse().expect("an address")).await;
    let proxied = proxy.address().to_string();
    let own_topics = ("OMS__KAFKA__TOPIC_PREFIX", prefix.as_str());
    let first = Service::start(
        OMS,
        &[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap), own_topics],
        &[],
    )
    .await;
    let second =
        Service::start_beside(&first, &[("KAFKA_BOOTSTRAP_SERVERS", &proxied), own_topics]).await;
    let node = std::fs::read_to_string(second.data_dir().join("node-id")).expect("a name");
    // Both publish; the second one's producer is there.
    write(&first, "first").await;
    let theirs = first
        .until("a share for both", async || {
            let theirs = partitions_of(&first, node.trim()).await;
            (theirs.len() == 1).then_some(theirs)
        })
        .await;
    write(&first, "second").await;
    consume(&broker, &topic, 2 * STREAMS);

    // Stopped in the middle of a wave: some of its messages came, others did not.
    proxy.set(Link::Slow(Duration::from_millis(400)));
    write(&first, "third").await;
    let feed = first.whole_feed().await;
    let last_round = &feed[feed.len() - STREAMS..];
    let behind = |e: &&Value| {
        let position = e["position"].as_str().expect("a position");
        theirs
            .iter()
            .any(|p| position.starts_with(&format!("{p}/")))
    };
    let slow = last_round.iter().filter(behind).count();
    assert!(slow > 3 && slow < STREAMS, "{slow} of {STREAMS}");
    consume(&broker, &topic, 3 * STREAMS - slow + 1);
    signal(second.pid(), Signal::SIGSTOP);
    proxy.set(Link::Pass);
    write(&first, "fourth").await;
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let status = outbox(&first).await;
        if status["depth"] == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "never taken over: {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    signal(second.pid(), Signal::SIGCONT);
    first
        .until("a share for both again", async || {
            (partitions_of(&first, node.trim()).await.len() == 1).then_some(())
        })
        .await;
    write(&first, "fifth").await;
    let consumed = broker.consume(&[&topic], PATIENCE, |consumed| {
        let fifth = |m: &&Consumed| m.headers["version"] == "5";
        consumed.iter().filter(fifth).count() == STREAMS
    });
    let mut streams: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for message in consumed {
        let version = message.headers["version"].parse().expect("a number");
        streams.entry(message.key).or_default().push(version);
    }
    assert_eq!(streams.len(), STREAMS);
    for (stream, versions) in streams {
        assert!(versions.is_sorted(), "old after new: {stream} {versions:?}");
        assert!(
            (1..=5).all(|v| versions.contains(&v)),
            "{stream} {versions:?}"
        );
    }
}
