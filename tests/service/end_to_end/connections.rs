//! Connections of clients that do nothing, beside a service that may not open many files.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use oms_testkit::service::{PATIENCE, Service};
use serde_json::json;

use crate::OMS;

/// What most systems allow a process that nobody has thought about.
const FILES: u32 = 1_024;

/// More connections than the process may have files open.
const IDLE: usize = 1_100;

/// As a write takes at most while idle connections are closed for it.
const LONGEST_WRITE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn law_13_idle_connections_take_no_descriptors_from_the_stores() {
    // The clients' ends are files too.
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .expect("the limit");
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard)
        .expect("raised");
    let mut service = Service::start_with_files(OMS, FILES).await;
    let (status, body) = service
        .send("POST", "/api/v1/databases", Some(json!({"name": "before"})))
        .await;
    assert_eq!(status, 201, "{body}");
    let address = service.url.trim_start_matches("http://").to_owned();
    let idle: Vec<TcpStream> = (0..IDLE)
        .map(|_| TcpStream::connect(&address).expect("connected or queued"))
        .collect();
    for i in 0..10 {
        let began = Instant::now();
        let name = format!("during-{i}");
        let (status, body) = service
            .send("POST", "/api/v1/databases", Some(json!({"name": name})))
            .await;
        assert_eq!(status, 201, "{body}");
        assert!(began.elapsed() < LONGEST_WRITE, "{:?}", began.elapsed());
    }
    drop(idle);
    let began = Instant::now();
    let (status, body) = service
        .send("POST", "/api/v1/databases", Some(json!({"name": "after"})))
        .await;
    assert_eq!(status, 201, "{body}");
    assert!(began.elapsed() < PATIENCE / 2);
    assert_eq!(service.get("/health").await["status"], "ok");
    assert_eq!(service.terminate().await, 0);
}
