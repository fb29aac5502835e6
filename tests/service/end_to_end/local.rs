//! What a service on one machine owes its owner: its keys, its files, its loopback.

use std::process::{Command, Output};

use oms_testkit::service::Service;
use serde_json::json;

use super::bucket;
use crate::OMS;

/// Nobody listens there.
const NO_PROXY_IS: &str = "http://127.0.0.1:9";

fn oms(args: &[&str]) -> Output {
    let mut command = Command::new(OMS);
    command.args(args).env_clear();
    for variable in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env(variable, NO_PROXY_IS);
    }
    command.output().expect("oms runs")
}

/// Below a folder that only its owner may search, as every temporary one is: as root PostgreSQL runs
/// under an account that may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_5_who_was_handed_keys_reads_and_loopback_is_reached_past_every_proxy() {
    let proxies = [("http_proxy", NO_PROXY_IS), ("ALL_PROXY", NO_PROXY_IS)];
    let service = Service::start(OMS, &proxies, &[]).await;
    let made = json!({ "name": "mine", "description": "" });
    let (status, _) = service.send("POST", "/api/v1/databases", Some(made)).await;
    assert_eq!(status, 201);

    let status = oms(&["status", "--url", &service.url]);
    assert!(status.status.success(), "{status:?}");
    let elsewhere = oms(&["status", "--url", "http://oms.invalid:8000"]);
    let said = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert_eq!(elsewhere.status.code(), Some(4), "{said}");
    assert!(
        said.contains(NO_PROXY_IS) && said.contains("NO_PROXY"),
        "{said}"
    );
    let dir = service.data_dir();
    let dir = dir.to_str().expect("text");
    let audit = oms(&["log", "audit", "--data-dir", dir]);
    assert!(audit.status.success(), "{audit:?}");

    let handed = bucket(&service);
    let pages = handed.list("events/".into(), None).await.expect("listed");
    let keys: Vec<String> = pages
        .into_iter()
        .flat_map(|page| page.contents)
        .map(|object| object.key)
        .collect();
    assert!(!keys.is_empty());
    for key in &keys {
        assert!(handed.delete_object(key).await.is_err(), "{key}");
        assert!(handed.put_object(key, b"x").await.is_err(), "{key}");
    }
    let audit = oms(&["log", "audit", "--data-dir", dir]);
    assert!(audit.status.success(), "{audit:?}");
}

/// As with the bucket's keys: what `endpoints.json` names is for looking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_5_who_was_handed_the_database_reads_it_and_does_nothing_else() {
    let service = Service::start(OMS, &[], &["--mode", "legacy"]).await;
    let made = json!({ "name": "mine", "description": "" });
    let (status, _) = service.send("POST", "/api/v1/databases", Some(made)).await;
    assert_eq!(status, 201);
    let endpoints = service.endpoints();
    let handed_out = endpoints["postgres"].as_str().expect("a URL");
    let (client, connection) = tokio_postgres::connect(handed_out, tokio_postgres::NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    let count = "SELECT count(*) FROM oms.commits";
    let commits: i64 = client.query_one(count, &[]).await.expect("read").get(0);
    assert!(commits > 0, "in this mode the log is there");
    // Whoever means it switches the safety off first.
    let meant = "SET default_transaction_read_only = off";
    client.batch_execute(meant).await.expect("his own session");
    for harm in [
        "DELETE FROM oms.commits",
        "UPDATE oms.events SET version = 0",
        "TRUNCATE oms.outbox",
        "INSERT INTO oms.outbox_watermarks DEFAULT VALUES",
        "DROP TABLE oms.events",
        "DROP SCHEMA oms CASCADE",
        "CREATE TABLE public.mine (n int)",
        "CREATE SCHEMA mine",
        "SELECT rolpassword FROM pg_authid",
        "ALTER ROLE oms PASSWORD 'mine'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ] {
        let refused = client.batch_execute(harm).await.expect_err(harm);
        let code = refused.code().map(tokio_postgres::error::SqlState::code);
        assert_eq!(code, Some("42501"), "{harm}: {refused}");
    }
    let after: i64 = client.query_one(count, &[]).await.expect("read").get(0);
    assert_eq!(after, commits);
}
