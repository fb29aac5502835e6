//! Law 14 as its users see it: the mode walks there and back under load, while processes are
//! killed, stopped and doubled, and nothing is lost, doubled or refused.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::kafka::Broker;
use super::load::{Load, check_feed};
use super::service::Service;
use super::{bucket, delivered, projected, read_log, signal};

/// Every edge, both ways, some of them in one order.
const WALK: [(&str, Option<&str>); 8] = [
    ("dual_write", Some("postgres")),
    ("dual_write", Some("s3")),
    ("s3_only", None),
    ("dual_write", Some("s3")),
    ("dual_write", Some("postgres")),
    ("legacy", None),
    ("s3_only", None),
    ("legacy", None),
];

fn order(mode: &str, lead: Option<&str>) -> Value {
    json!({"mode": mode, "lead": lead, "reason": "test", "force": true})
}

/// Orders a switch and waits for its end, however it ends.
async fn switch(service: &Service, mode: &str, lead: Option<&str>) -> Value {
    let (status, answer) = service
        .send(
            "POST",
            "/api/v1/admin/migration/mode",
            Some(order(mode, lead)),
        )
        .await;
    assert!(matches!(status, 200 | 202), "{mode}: {status} {answer}");
    let Some(id) = answer["switch"]["id"].as_str() else {
        return answer;
    };
    let path = format!("/api/v1/admin/migration/switches/{id}");
    service
        .until("end of the switch", async || {
            let (status, switch) = service.send("GET", &path, None).await;
            (status == 200 && !switch["ended"].is_null()).then_some(switch)
        })
        .await
}

async fn switched(service: &Service, mode: &str, lead: Option<&str>) -> Value {
    let switch = switch(service, mode, lead).await;
    assert!(
        switch["state"] == "done" || switch["status"] == "done",
        "{mode}: {switch}"
    );
    switch
}

/// Waits until no hand-off is under way and nobody walks.
async fn at_rest(service: &Service) {
    service
        .until("rest", async || {
            let (status, history) = service
                .send("GET", "/api/v1/admin/migration/history?limit=1", None)
                .await;
            let walking = history["items"][0]["ended"].is_null() && history["items"][0].is_object();
            let report = service.get("/api/v1/admin/migration").await;
            let steady = report["partitions"]
                .as_array()
                .is_some_and(|all| all.iter().all(|p| p["step"] == "steady"));
            (status == 200 && !walking && steady).then_some(())
        })
        .await;
}

async fn some_writes(service: &Service, load: &Load) {
    let before = load.count();
    service
        .until("writes", async || {
            (load.count() > before + 100).then_some(())
        })
        .await;
}

fn running(load: &Load, clients: usize) -> tokio::task::JoinHandle<()> {
    let load = load.clone();
    tokio::spawn(async move { load.run(clients, 100_000).await })
}

/// Everything that was acknowledged is there, once, in order, in every place it should be in.
async fn check(service: &Service, broker: &Broker, load: &Load) {
    let feed = service.whole_feed().await;
    let acknowledged = std::mem::take(&mut *load.acknowledged.lock().expect("lock"));
    assert!(feed.len() > 500, "only {} events", feed.len());
    check_feed(&feed, &acknowledged);
    projected(service, &acknowledged.values).await;
    delivered(broker, &feed);
    // At the end S3 leads, and a stranger finds all of it there.
    switched(service, "s3_only", None).await;
    let stored = read_log(&bucket(service)).await;
    assert_eq!(stored.len(), feed.len(), "law 2: S3 has every event");
    eprintln!(
        "{} events, {} retried requests, longest wait for an answer {} ms",
        feed.len(),
        load.retries.load(Ordering::SeqCst),
        load.longest_ms.load(Ordering::SeqCst),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_the_mode_walks_there_and_back_under_load_and_no_write_fails() {
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str())];
    let service = Service::start(&env, &["--mode", "legacy"]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let clients = running(&load, 8);
    for (mode, lead) in WALK {
        some_writes(&service, &load).await;
        switched(&service, mode, lead).await;
        let health = service.get("/health").await;
        assert_eq!(health["migration_mode"], mode);
        if let Some(lead) = lead {
            assert_eq!(health["lead"], lead);
        }
    }
    some_writes(&service, &load).await;
    load.stop();
    clients.await.expect("every client's checks hold");
    assert_eq!(
        load.retries.load(Ordering::SeqCst),
        0,
        "law 14: no write failed"
    );
    check(&service, &broker, &load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_a_hand_off_that_is_killed_anywhere_is_finished_or_undone() {
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str())];
    let mut service = Service::start(&env, &["--mode", "legacy"]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let clients = running(&load, 8);
    // Later and later into the walk, back and forth.
    for round in 0..6u64 {
        let (mode, lead) = [("s3_only", None), ("legacy", None)][round as usize % 2];
        some_writes(&service, &load).await;
        let asked = {
            let url = format!("{}/api/v1/admin/migration/mode", service.url);
            let request = service.http.post(url).json(&order(mode, lead));
            tokio::spawn(async move { request.send().await.map(|answer| answer.status()) })
        };
        tokio::time::sleep(Duration::from_millis(20 + round * 47)).await;
        service.kill_9();
        // The order may have been answered before the kill, or not.
        drop(asked.await.expect("no panic"));
        service.restart().await;
        at_rest(&service).await;
    }
    some_writes(&service, &load).await;
    load.stop();
    clients.await.expect("every client's checks hold");
    check(&service, &broker, &load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_a_node_that_has_not_heard_of_the_hand_off_cannot_commit() {
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str())];
    let one = Service::start(&env, &["--mode", "legacy"]).await;
    let two = Service::start_beside(&one, &env).await;
    let loads = [Load::new(&one.url), Load::apart(&two.url, 1000)];
    loads[0].prepare().await;
    let clients = loads.each_ref().map(|load| running(load, 4));
    for (mode, lead) in WALK {
        some_writes(&two, &loads[1]).await;
        // It sleeps through the hand-off, with commits in flight, and wakes up believing that
        // nothing has changed.
        signal(two.pid(), Signal::SIGSTOP);
        switched(&one, mode, lead).await;
        signal(two.pid(), Signal::SIGCONT);
        some_writes(&one, &loads[0]).await;
    }
    for load in &loads {
        load.stop();
    }
    for clients in clients {
        clients.await.expect("every client's checks hold");
    }
    let both = loads[0].clone();
    both.take_over(&loads[1]);
    check(&one, &broker, &both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_10_in_dual_write_led_by_s3_postgres_away_fails_no_write() {
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str())];
    let service = Service::start(&env, &["--mode", "legacy"]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let clients = running(&load, 8);
    switched(&service, "dual_write", Some("s3")).await;
    some_writes(&service, &load).await;
    let retries = load.retries.load(Ordering::SeqCst);
    signal(super::postmaster(&service), Signal::SIGKILL);
    some_writes(&service, &load).await;
    some_writes(&service, &load).await;
    let failed = load.retries.load(Ordering::SeqCst) - retries;
    assert_eq!(failed, 0, "law 10: no write fails");
    load.stop();
    clients.await.expect("every client's checks hold");
    // PostgreSQL comes back, is given what it lacks, and leads.
    service
        .until("a way back", async || {
            let asked = order("legacy", None);
            let path = "/api/v1/admin/migration/mode";
            let (status, _) = service.send("POST", path, Some(asked)).await;
            matches!(status, 200 | 202).then_some(())
        })
        .await;
    at_rest(&service).await;
    assert_eq!(service.get("/health").await["migration_mode"], "legacy");
    check(&service, &broker, &load).await;
}
