//! The clock of a node is set wrong, forward and back, under load. Nothing that is decided may depend
//! on what time it is: order is the log's, leases are by PostgreSQL's clock, patience by one that
//! does not leap.

use oms_testkit::broker::Broker;
use oms_testkit::service::Service;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::load::Load;
use super::steps::{grown, metric, nothing_is_lost, start_load};
use crate::OMS;

const DAY: i64 = 24 * 3600;

/// Forward and back by more than everything that is remembered for a while, and right at the end.
const LEAPS: [i64; 6] = [DAY, -DAY, 2 * DAY, 0, -2 * DAY, 0];

const CHAOS: (&str, &str) = ("OMS__CHAOS__ENABLED", "true");

async fn leap(service: &Service, seconds: i64) -> Value {
    let body = json!({"offset_seconds": seconds});
    let path = "/api/v1/admin/chaos/clock";
    let (status, told) = service.send("PUT", path, Some(body)).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["offset_seconds"], seconds);
    told
}

/// An event of a stream beside the load's.
async fn write(service: &Service, key: &str) -> (u16, HeaderMap, Value) {
    let answer = service
        .http
        .post(service.at("/api/v1/streams/clock/1/events"))
        .header("Idempotency-Key", key)
        .json(&json!({"events": [{"type": "Ticked", "data": {"key": key}}]}))
        .send()
        .await
        .expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.json().await.expect("JSON"))
}

/// Sent again, a request gets the answer it got first.
async fn remembered(service: &Service, key: &str, first: &Value) {
    let (status, headers, again) = write(service, key).await;
    assert_eq!(status, 201, "{again}");
    assert!(
        headers.contains_key("idempotent-replayed"),
        "{key}: {again}"
    );
    let same = |member: &str| assert_eq!(again[member], first[member], "{key}: {again}");
    same("version");
    same("position");
}

/// Of every stream later versions lie later in the log.
fn positions_grow(load: &Load) {
    let place = |text: &String| -> Vec<u64> {
        let parts = text.split('/');
        parts.map(|part| part.parse().expect("a number")).collect()
    };
    let acknowledged = load.acknowledged.lock().expect("lock");
    for (stream, positions) in &acknowledged.streams {
        let places: Vec<Vec<u64>> = positions.iter().map(place).collect();
        assert!(places.is_sorted(), "{stream}: {positions:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_2_5_7_9_hold_while_the_clock_leaps_under_load() {
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str()), CHAOS];
    let mut service = Service::start(OMS, &env, &[]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let running = start_load(&load);
    let mut written = Vec::new();
    for (n, seconds) in LEAPS.into_iter().enumerate() {
        grown(&service, &load, 50).await;
        let key = format!("before-leap-{n}");
        let (status, _, answer) = write(&service, &key).await;
        assert_eq!(
            (status, &answer["version"]),
            (201, &json!(n + 1)),
            "{answer}"
        );
        written.push((key, answer));
        leap(&service, seconds).await;
        grown(&service, &load, 50).await;
        for (key, first) in &written {
            remembered(&service, key, first).await;
        }
        // What the leases and the outbox are worth: all of it comes out, not only at the end.
        service
            .until("an empty outbox", async || {
                let outbox = metric(&service, "oms_outbox_oldest_seconds").await;
                let (status, _) = service.send("GET", "/health/ready", None).await;
                let fresh = outbox.iter().all(|(_, age)| (0.0..30.0).contains(age));
                (status == 200 && fresh).then_some(())
            })
            .await;
        if seconds == 2 * DAY {
            // The next process has the right time, and a log from the day after tomorrow.
            service.kill_9();
            service.restart().await;
            for (key, first) in &written {
                remembered(&service, key, first).await;
            }
        }
    }
    grown(&service, &load, 50).await;
    load.stop();
    running.await.expect("every client's checks hold");
    positions_grow(&load);
    let panics = metric(&service, "oms_panics_total").await;
    assert!(panics.iter().all(|(_, n)| *n == 0.0), "{panics:?}");
    let escalations = metric(&service, "oms_actor_escalations_total").await;
    assert!(
        escalations.iter().all(|(_, n)| *n == 0.0),
        "{escalations:?}"
    );
    nothing_is_lost(&service, &load, Some(&broker)).await;
}

/// State of a gate of the first edge of a refused or rehearsed switch.
fn gate<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let gates = answer["edges"][0]["gates"].as_array().expect("gates");
    let found = gates.iter().find(|g| g["name"] == name);
    &found.unwrap_or_else(|| panic!("no gate {name}: {answer}"))["state"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_15_a_clock_that_leaps_opens_no_gate_and_stops_no_job() {
    let service = Service::start(OMS, &[CHAOS], &["--mode", "dual_write"]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let running = start_load(&load);
    grown(&service, &load, 50).await;
    let verify = async |seconds: i64| {
        leap(&service, seconds).await;
        let job = "/api/v1/admin/migration/verify";
        let (status, begun) = service.send("POST", job, Some(json!({}))).await;
        assert!(status < 300, "{status} {begun}");
        let done = service
            .until("end of the verification", async || {
                let seen = service.get(job).await;
                let eta = seen["progress"]["eta_seconds"].as_f64();
                assert!(eta.is_none_or(|eta| eta >= 0.0), "{seen}");
                (seen["state"] == "done").then_some(seen)
            })
            .await;
        assert_eq!(done["report"]["clean"], true, "{done}");
    };
    for seconds in [2 * DAY, -2 * DAY, 0] {
        verify(seconds).await;
    }
    let mode = "/api/v1/admin/migration/mode";
    let to_s3 = json!({"mode": "dual_write", "lead": "s3", "reason": "test", "dry_run": true});
    // Behind the time of its proof nobody knows how old the proof is.
    leap(&service, -2 * DAY).await;
    let (_, rehearsed) = service.send("POST", mode, Some(to_s3.clone())).await;
    assert_ne!(
        gate(&rehearsed, "verification_age_s"),
        "pass",
        "{rehearsed}"
    );
    leap(&service, 0).await;
    let (_, rehearsed) = service.send("POST", mode, Some(to_s3)).await;
    assert_eq!(
        gate(&rehearsed, "verification_age_s"),
        "pass",
        "{rehearsed}"
    );
    let forced = json!({"mode": "dual_write", "lead": "s3", "reason": "test", "force": true});
    let (status, answer) = service.send("POST", mode, Some(forced)).await;
    assert!(matches!(status, 200 | 202), "{answer}");
    service
        .until("lead of S3", async || {
            (service.get("/health").await["lead"] == "s3").then_some(())
        })
        .await;
    // A day is asked for; two have passed by this clock, and none by the one that counts.
    for seconds in [2 * DAY, -2 * DAY, 0] {
        leap(&service, seconds).await;
        let ask = json!({"mode": "s3_only", "reason": "test", "dry_run": true});
        let (_, rehearsed) = service.send("POST", mode, Some(ask)).await;
        assert_eq!(
            gate(&rehearsed, "s3_led_for_s"),
            "fail",
            "{seconds}: {rehearsed}"
        );
        grown(&service, &load, 20).await;
    }
    // A hand-off under a clock that is wrong goes its way.
    leap(&service, -DAY).await;
    let back = json!({"mode": "legacy", "reason": "test", "force": true});
    let (status, answer) = service.send("POST", mode, Some(back)).await;
    assert!(matches!(status, 200 | 202), "{answer}");
    service
        .until("legacy", async || {
            (service.get("/health").await["migration_mode"] == "legacy").then_some(())
        })
        .await;
    leap(&service, DAY).await;
    grown(&service, &load, 50).await;
    load.stop();
    running.await.expect("every client's checks hold");
    positions_grow(&load);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_is_shifted_only_where_chaos_is_enabled_and_within_reason() {
    let service = Service::start(OMS, &[], &[]).await;
    let ask = async |service: &Service, seconds: i64| {
        let body = json!({"offset_seconds": seconds});
        let path = "/api/v1/admin/chaos/clock";
        let (status, answer) = service.send("PUT", path, Some(body)).await;
        (status, answer["code"].as_str().map(str::to_owned))
    };
    let code = |text: &str| Some(text.to_owned());
    assert_eq!(ask(&service, 1).await, (403, code("chaos_disabled")));
    let service = Service::start(OMS, &[CHAOS], &[]).await;
    for seconds in [i64::MAX, i64::MIN, 367 * DAY] {
        assert_eq!(ask(&service, seconds).await, (422, code("invalid_offset")));
    }
    let told = leap(&service, -DAY).await;
    let now: jiff::Timestamp = told["now"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    assert!(now < oms::domain::time::Clock::now(&oms::clock::SystemClock));
}
