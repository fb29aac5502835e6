//! Processes and actors are killed under load, and nothing is lost.

use std::time::Duration;

use oms_testkit::broker::Broker;
use oms_testkit::service::{Service, real_s3};
use serde_json::{Value, json};

use super::load::{Load, check_feed};
use super::{bucket, delivered, projected, read_log};
use crate::OMS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_2_5_9_hold_while_the_process_is_killed_under_load() {
    killed_under_load(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_2_5_9_hold_on_the_s3_server_that_was_asked_for() {
    if let Some(s3) = real_s3() {
        killed_under_load(Some(s3)).await;
    }
}

async fn killed_under_load(s3: Option<Value>) {
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str())];
    let mut service = Service::start_on(OMS, s3, &env, &[]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let running = {
        let load = load.clone();
        tokio::spawn(async move { load.run(12, 100_000).await })
    };
    for kill in 0..5u64 {
        // Between one and three seconds of life, never the same.
        tokio::time::sleep(Duration::from_millis(1000 + kill * 457 % 2000)).await;
        service.kill_9();
        service.restart().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.stop();
    running.await.expect("every client's checks hold");
    let feed = service.whole_feed().await;
    let acknowledged = std::mem::take(&mut *load.acknowledged.lock().expect("lock"));
    assert!(
        feed.len() > 100,
        "only {} events: not much of a load",
        feed.len()
    );
    check_feed(&feed, &acknowledged);
    let stored = read_log(&bucket(&service)).await;
    assert_eq!(
        stored.len(),
        feed.len(),
        "the log and the feed hold the same events"
    );
    projected(&service, &acknowledged.values).await;
    delivered(&broker, &feed);
    eprintln!(
        "{} events, {} retried requests, longest wait for an answer {} ms",
        feed.len(),
        load.retries.load(std::sync::atomic::Ordering::SeqCst),
        load.longest_ms.load(std::sync::atomic::Ordering::SeqCst),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_12_every_kind_of_actor_is_killed_under_load_and_nothing_is_lost() {
    let broker = Broker::start();
    let env = [
        ("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap()),
        ("OMS__KAFKA__TRANSACTIONS", "true".into()),
        ("OMS__CHAOS__ENABLED", "true".into()),
    ];
    let service = Service::start(OMS, &env.each_ref().map(|(k, v)| (*k, v.as_str())), &[]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let running = {
        let load = load.clone();
        tokio::spawn(async move { load.run(8, 100_000).await })
    };
    // Below every actor's limit of failures a minute.
    let targets = [
        "event_store/0",
        "outbox",
        "aggregate/load/1",
        "relay",
        "event_store/1",
        "projection",
        "migration_mode",
    ];
    let threads = ["event_store/0", "aggregate/load/1", "outbox"];
    let rounds = [
        ("panic", &targets[..]),
        ("stop", &targets),
        ("abort", &targets),
        ("arbiter", &threads),
    ];
    for (how, targets) in rounds {
        for target in targets {
            let kill = async || {
                let body = json!({"path": target, "how": how});
                let (status, answer) = service
                    .send("POST", "/api/v1/admin/actors/kill", Some(body))
                    .await;
                // An entity may be gone for the moment; all others are always there.
                let gone = status == 404 && target.starts_with("aggregate");
                // One that is just being started again cannot be killed again.
                let starting = status == 409;
                assert!(
                    status < 300 || gone || starting,
                    "{target}: {status} {answer}"
                );
                (!starting).then_some(())
            };
            service.until("a kill", kill).await;
            let before = load.count();
            service
                .until("writes after a kill", async || {
                    (load.count() > before + 20).then_some(())
                })
                .await;
        }
    }
    load.stop();
    running.await.expect("every client's checks hold");
    let feed = service.whole_feed().await;
    let acknowledged = std::mem::take(&mut *load.acknowledged.lock().expect("lock"));
    check_feed(&feed, &acknowledged);
    projected(&service, &acknowledged.values).await;
    delivered(&broker, &feed);
    let tree = service.get("/api/v1/admin/actors").await;
    let child = |name: &str| {
        let children = tree["root"]["children"].as_array().expect("children");
        children
            .iter()
            .find(|c| c["name"] == name)
            .expect("an actor")
    };
    let count = |name: &str, what: &str| child(name)[what].as_u64().expect("a number");
    // Two writers three times, and all of them with their thread.
    let writers = child("event_store")["children"]
        .as_array()
        .expect("writers");
    let writers = writers.len() as u64;
    for (name, kills, rebuilds) in [
        ("event_store", 2 * 3 + writers, 2 + writers),
        ("outbox", 4, 2),
        ("projection", 4, 2),
        ("migration_mode", 4, 2),
    ] {
        let counted = (count(name, "restarts"), count(name, "rebuilds"));
        assert_eq!(
            counted,
            (kills, rebuilds),
            "law 12: kills are counted: {tree}"
        );
    }
    // It lives on the outbox, and is built anew with it.
    assert_eq!(count("relay", "restarts"), 4, "{tree}");
    assert!(count("relay", "rebuilds") > 2, "{tree}");
}
