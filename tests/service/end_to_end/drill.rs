//! `oms drill`, as an operator runs it on a game day.

use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use oms_testkit::service::{PATIENCE, Service};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::signal;
use crate::OMS;

const CHAOS: [(&str, &str); 1] = [("OMS__CHAOS__ENABLED", "true")];

fn oms(service: &Service, args: &[&str]) -> Command {
    let mut command = Command::new(OMS);
    command
        .args(args)
        .env("OMS_URL", &service.url)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(service: &Service, args: &[&str]) -> Output {
    let done = tokio::time::timeout(PATIENCE, oms(service, args).output()).await;
    done.expect("it ends").expect("oms runs")
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// Versions of the drill's streams, as the feed has them: each must be 1, 2, 3, …
async fn drilled(service: &Service) -> u64 {
    let mut events = 0;
    let mut versions = std::collections::HashMap::new();
    for event in service.whole_feed().await {
        if event["streamtype"] != "drill" {
            continue;
        }
        let next = versions.entry(event["streamid"].to_string()).or_insert(0);
        *next += 1;
        assert_eq!(event["streamversion"], *next, "law 7: {event}");
        assert_eq!(event["data"]["n"], *next, "law 2: {event}");
        events += 1;
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_12_a_drill_kills_every_kind_of_actor_and_sees_it_work_again() {
    let service = Service::start(OMS, &CHAOS, &[]).await;
    let args = ["--json", "drill", "kill", "--rounds", "1", "--clients", "2"];
    let done = run(&service, &args).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let kinds: Vec<&str> = report["kinds"]
        .as_array()
        .expect("kinds")
        .iter()
        .map(|row| {
            assert_eq!(row["kills"], 1, "{row}");
            assert!(row["p50_ms"].as_f64().expect("a number") > 0.0, "{row}");
            row["kind"].as_str().expect("a name")
        })
        .collect();
    let all = oms::actors::supervision::policy::ActorKind::ALL.map(|kind| kind.as_str());
    assert_eq!(kinds, all);
    let check = &report["check"];
    for none in ["lost", "doubled", "misplaced", "unknown"] {
        assert_eq!(check[none], 0, "law 2: {report}");
    }
    assert_eq!(check["acknowledged"], drilled(&service).await, "{report}");
    assert!(report["load"]["writes"].as_u64() > Some(0), "{report}");
    // It was no pretence: the tree has counted each kill.
    let tree = service.get("/api/v1/admin/actors").await;
    for branch in tree["root"]["children"].as_array().expect("children") {
        assert_eq!(branch["restarts"], 1, "{branch}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_12_while_both_stores_are_kept_a_killed_mirror_goes_on_copying() {
    let service = Service::start(OMS, &CHAOS, &["--mode", "legacy"]).await;
    let walk = ["mode", "dual_write", "--reason", "game day"];
    let walked = run(&service, &walk).await;
    assert_eq!(walked.status.code(), Some(0), "{}", text(&walked));
    let kinds = "mirror,outbox,migration_mode";
    let args = [
        "--json", "drill", "kill", "--rounds", "1", "--actors", kinds,
    ];
    let done = run(&service, &args).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let answers: Vec<_> = report["kinds"]
        .as_array()
        .expect("kinds")
        .iter()
        .map(|row| row["answer"].as_str().expect("a text"))
        .collect();
    let expected = [
        "event in the broker",
        "event in both stores",
        "dry run answered",
    ];
    assert_eq!(answers, expected, "{report}");
    assert_eq!(report["check"]["lost"], 0, "law 2: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_12_an_actor_that_does_not_come_back_in_time_fails_the_drill() {
    let service = Service::start(OMS, &CHAOS, &[]).await;
    let args = [
        "drill", "kill", "--actors", "relay", "--how", "hang", "--limit", "2",
    ];
    let done = run(&service, &args).await;
    assert_eq!(done.status.code(), Some(4), "{}", text(&done));
    let report = String::from_utf8_lossy(&done.stdout);
    assert!(report.contains("relay did not come back"), "{report}");
    assert!(report.contains(" 0 lost, 0 doubled"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_drill_reports_what_it_has() {
    let service = Service::start(OMS, &CHAOS, &[]).await;
    let args = ["drill", "kill", "--rounds", "1000", "--clients", "1"];
    let mut child = oms(&service, &args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("oms runs");
    let mut notes = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let seen = async {
        while let Some(line) = notes.next_line().await.expect("text") {
            if line.contains("event_store/0: write acknowledged after") {
                return;
            }
        }
        panic!("it ended before it killed anybody");
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("a kill");
    signal(child.id().expect("running") as i32, Signal::SIGINT);
    // What it still has to say must find a reader.
    let rest = async { while let Ok(Some(_)) = notes.next_line().await {} };
    let (done, ()) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()),
        rest
    );
    let done = done.expect("it ends").expect("its output");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let report = String::from_utf8_lossy(&done.stdout);
    assert!(report.contains("event_store"), "{report}");
    assert!(
        report.contains(" 0 lost, 0 doubled, 0 misplaced"),
        "{report}"
    );
    assert!(drilled(&service).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_killed_and_nothing_is_written_where_chaos_is_not_enabled() {
    let service = Service::start(OMS, &[], &[]).await;
    let done = run(&service, &["drill", "kill"]).await;
    assert_eq!(done.status.code(), Some(3), "{}", text(&done));
    assert!(text(&done).contains("chaos_disabled"), "{}", text(&done));
    let done = run(&service, &["drill", "kill", "--actors", "nobody"]).await;
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    assert!(service.whole_feed().await.is_empty());
}
