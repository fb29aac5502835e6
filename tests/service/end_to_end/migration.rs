//! Law 14 as its users see it: the mode walks there and back under load, while processes are
//! killed, stopped and doubled, and nothing is lost, doubled or refused.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use oms_testkit::broker::Broker;
use oms_testkit::service::{PATIENCE, Service};
use serde_json::{Value, json};

use super::load::{Load, check_feed, has_all};
use super::{bucket, delivered, projected, read_log, signal};
use crate::OMS;

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

pub async fn switched(service: &Service, mode: &str, lead: Option<&str>) -> Value {
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
    let acknowledged = std::mem::take(&mut *load.acknowledged.lock().expect("lock"));
    let total: usize = acknowledged.streams.values().map(Vec::len).sum();
    assert!(total > 500, "only {total} events");
    // What another process wrote last, this one reads a moment later. Each stream is counted for
    // itself: what `prepare` made is in the feed as well, and must not stand for what is missing.
    // After a while it is judged as it is, which names the stream that lacks something.
    let begun = Instant::now();
    let feed = service
        .until("the whole feed", async || {
            let feed = service.whole_feed().await;
            let enough = has_all(&feed, &acknowledged) || begun.elapsed() > PATIENCE / 2;
            enough.then_some(feed)
        })
        .await;
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
    let service = Service::start(OMS, &env, &["--mode", "legacy"]).await;
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
    let mut service = Service::start(OMS, &env, &["--mode", "legacy"]).await;
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
    let one = Service::start(OMS, &env, &["--mode", "legacy"]).await;
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
    let service = Service::start(OMS, &env, &["--mode", "legacy"]).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_15_without_proof_s3_is_not_let_lead() {
    let service = Service::start(OMS, &[], &["--mode", "dual_write"]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let path = "/api/v1/admin/migration/mode";
    let asked = json!({"mode": "dual_write", "lead": "s3", "reason": "test"});
    let (status, refused) = service.send("POST", path, Some(asked.clone())).await;
    assert_eq!(status, 409, "{refused}");
    assert_eq!(refused["code"], "gates_failed");
    let gates = refused["edges"][0]["gates"].as_array().expect("gates");
    let state = |name: &str| &gates.iter().find(|g| g["name"] == name).expect("a gate")["state"];
    assert_eq!(state("verification_age_s"), "fail");
    assert_eq!(state("unmirrored"), "pass");
    assert_eq!(service.get("/health").await["lead"], "postgres");
    let job = "/api/v1/admin/migration/verify";
    let (status, begun) = service.send("POST", job, Some(json!({}))).await;
    assert!(status < 300, "{status} {begun}");
    service
        .until("end of the verification", async || {
            (service.get(job).await["state"] == "done").then_some(())
        })
        .await;
    let (status, answer) = service.send("POST", path, Some(asked)).await;
    assert_eq!(status, 200, "law 15: proved, so it may: {answer}");
    assert_eq!(service.get("/health").await["lead"], "s3");
    // What was refused is in the history too.
    let history = service.get("/api/v1/admin/migration/history").await;
    let states: Vec<&str> = history["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|s| s["state"].as_str().expect("a state"))
        .collect();
    assert_eq!(states, ["done", "refused"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_partitions_are_moved_first_and_the_whole_is_as_far_as_the_last() {
    let service = Service::start(OMS, &[], &["--mode", "legacy"]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let clients = running(&load, 4);
    let path = "/api/v1/admin/migration/mode";
    let mut asked = order("dual_write", Some("s3"));
    asked["percent"] = json!(50);
    let (status, answer) = service.send("POST", path, Some(asked)).await;
    assert_eq!(status, 200, "{answer}");
    let report = service.get("/api/v1/admin/migration").await;
    assert_eq!(report["mode"], "legacy");
    assert_eq!(report["share_ahead"], 0.5);
    let stages: Vec<&str> = report["partitions"]
        .as_array()
        .expect("partitions")
        .iter()
        .map(|p| p["stage"].as_str().expect("a stage"))
        .collect();
    assert_eq!(stages, ["dual_write/s3", "legacy"]);
    some_writes(&service, &load).await;
    switched(&service, "s3_only", None).await;
    load.stop();
    clients.await.expect("every client's checks hold");
    assert_eq!(load.retries.load(Ordering::SeqCst), 0);
    let acknowledged = std::mem::take(&mut *load.acknowledged.lock().expect("lock"));
    check_feed(&service.whole_feed().await, &acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_its_budget_a_young_stage_is_led_one_edge_back() {
    // No write is as quick as this.
    let env = [
        ("OMS__MIGRATION__GUARDRAIL__P99", "100us"),
        ("OMS__MIGRATION__GUARDRAIL__WINDOW", "2s"),
        ("OMS__MIGRATION__GUARDRAIL__PATIENCE", "1s"),
        ("OMS__MIGRATION__GUARDRAIL__MIN_WRITES", "10"),
        ("OMS__MIGRATION__GUARDRAIL__AUTO_ROLLBACK", "true"),
    ];
    let service = Service::start(OMS, &env, &["--mode", "legacy"]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let clients = running(&load, 4);
    switched(&service, "dual_write", Some("postgres")).await;
    let path = "/api/v1/admin/migration/history";
    let back = service
        .until("way back", async || {
            let history = service.get(path).await;
            let newest = history["items"][0].clone();
            (newest["automatic"] == true && newest["state"] == "done").then_some(newest)
        })
        .await;
    assert_eq!(back["goal"], "legacy");
    assert_eq!(back["by"], "guardrail");
    load.stop();
    clients.await.expect("every client's checks hold");
    assert_eq!(load.retries.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_2_4_postgres_killed_while_it_leads_loses_and_doubles_nothing() {
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str())];
    let service = Service::start(OMS, &env, &["--mode", "legacy"]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let clients = running(&load, 8);
    for _ in 0..3 {
        some_writes(&service, &load).await;
        signal(super::postmaster(&service), Signal::SIGKILL);
        // Nothing can be written until it is back; then everything goes on.
        some_writes(&service, &load).await;
    }
    load.stop();
    clients.await.expect("every client's checks hold");
    check(&service, &broker, &load).await;
}

#[test]
fn the_demo_tells_the_whole_story_and_its_proof_holds() {
    let told = std::process::Command::new(OMS)
        .args(["--json", "demo", "--records", "600"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .expect("oms demo runs");
    let text = String::from_utf8_lossy(&told.stdout);
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{text}\n{said}");
    let report: Value = serde_json::from_str(text.trim()).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    assert!(checks.len() > 10, "{report}");
    assert!(
        checks.iter().all(|check| check["holds"] == true),
        "{report}"
    );
    let steps = report["road"]["steps"].as_array().expect("steps");
    let walked: Vec<&str> = steps
        .iter()
        .map(|step| step["to"].as_str().expect("a stage"))
        .collect();
    let road = [
        "dual_write/postgres",
        "dual_write/s3",
        "s3_only",
        "legacy",
        "s3_only",
    ];
    assert_eq!(walked, road);
    assert!(report["road"]["verified_events"].as_u64() > Some(0));
}
