//! Administrators with an address of their own.

use std::process::Command;

use oms_testkit::service::Service;
use serde_json::{Value, json};

use crate::OMS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_what_is_for_administrators_is_served_on_their_address_alone() {
    let env = [("OMS__HTTP__ADMIN_PORT", "0")];
    let service = Service::start(OMS, &env, &[]).await;
    let endpoints = service.endpoints();
    let admin = endpoints["admin"].as_str().expect("their address");
    assert_ne!(admin, service.url);

    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("client");
    for path in [
        "/metrics",
        "/console/",
        "/api/v1/admin/service",
        "/api/v1/admin/migration",
    ] {
        let here = http.get(format!("{}{path}", service.url)).send().await;
        let here = here.expect("an answer");
        assert_eq!(here.status(), 404, "{path}");
        let problem: Value = here.json().await.expect("a problem");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("http.admin_port"), "{detail}");
        let there = http.get(format!("{admin}{path}")).send().await;
        assert_eq!(there.expect("an answer").status(), 200, "{path}");
    }
    // What is for everybody is on both, and one service.
    let made = json!({ "name": "mine", "description": "" });
    let (status, _) = service.send("POST", "/api/v1/databases", Some(made)).await;
    assert_eq!(status, 201);
    for base in [service.url.as_str(), admin] {
        let found = http
            .get(format!("{base}/api/v1/databases/mine"))
            .send()
            .await;
        assert_eq!(found.expect("an answer").status(), 200, "{base}");
    }
    // The command line finds it by itself.
    let dir = service.data_dir();
    let status = Command::new(OMS)
        .args(["status", "--data-dir", dir.to_str().expect("text")])
        .output()
        .expect("oms runs");
    assert!(status.status.success(), "{status:?}");
}
