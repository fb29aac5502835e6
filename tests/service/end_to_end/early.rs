//! A service that has not begun to serve yet.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use oms_testkit::certificates::Authority;
use oms_testkit::pooler::Lender;
use oms_testkit::postgres;
use oms_testkit::service::{PATIENCE, Process, http_client};
use oms_testkit::tls::{PemFiles, TlsFront};

use crate::OMS;

/// Waits for something of the process.
async fn until<T>(
    process: &mut Process,
    what: &str,
    probe: impl Fn(&mut Process) -> Option<T>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe(process) {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{what}:\n{}",
            process.log_tail(40)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A service whose S3 is there.
fn with_s3_at(name: &str, endpoint: &str) -> Process {
    let dir = tempfile::tempdir().expect("a directory");
    let mut process = Process::new(OMS, name, dir);
    put_s3_at(&mut process, endpoint);
    process
}

/// From its next start on its S3 is there.
fn put_s3_at(process: &mut Process, endpoint: &str) {
    process.set("OMS__S3__ENDPOINT", endpoint);
    process.set("OMS__S3__ACCESS_KEY", "key");
    process.set("OMS__S3__SECRET_KEY", "secret");
}

/// An endpoint at which nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn while_it_waits_for_s3_at_its_start_it_ends_in_order_when_told_to() {
    let mut process = with_s3_at("early", &nobody());
    process.spawn();
    until(&mut process, "it waits for S3", |process| {
        process.log().contains("waiting for S3").then_some(())
    })
    .await;
    process.signal(Signal::SIGTERM);
    let code = until(&mut process, "it ends", Process::has_ended).await;
    // -1 would be the signal itself, which a container's first process does not get.
    assert_eq!(code, 0, "{}", process.log_tail(40));
}

/// A node that ran before remembers that PostgreSQL led. One on a fresh data directory cannot tell
/// its database from one that was restored from before the first hand-off.
#[tokio::test]
async fn law_14_legacy_begins_without_s3_only_where_it_is_remembered_that_postgres_led() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut process = Process::new(OMS, "remembering", dir);
    process.set_args(&["--mode", "legacy"]);
    process.set("OMS__LOG__PARTITIONS", "1");
    process.spawn();
    let http = http_client();
    process.until_ready(&http).await;
    let leads = process.data_dir().join("leads.json");
    until(&mut process, "it notes who leads", |_| {
        leads.exists().then_some(())
    })
    .await;
    process.kill_9();

    put_s3_at(&mut process, &nobody());
    process.spawn();
    process.until_ready(&http).await;
    let log = process.log();
    let begins = "PostgreSQL leads, so the service starts without it";
    assert!(
        log.contains(begins) && !log.contains("lead_without_bucket"),
        "{log}"
    );
    process.kill_9();

    std::fs::remove_file(&leads).expect("removed");
    process.spawn();
    until(&mut process, "it waits for S3 or an order", |process| {
        process.log().contains("lead_without_bucket").then_some(())
    })
    .await;
    assert!(!process.is_ready(&http).await);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_ends_it_and_is_not_waited_for() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = nobody.local_addr().expect("an address");
    let company = Authority::new("company");
    let front = TlsFront::start(target, &company.issue("s3", &["localhost"]), None).await;
    let endpoint = format!("https://localhost:{}", front.port);
    let mut process = with_s3_at("untrusting", &endpoint);
    process.spawn();
    let code = until(&mut process, "it ends", Process::has_ended).await;
    let log = process.log();
    assert!(log.contains("certificate: UnknownIssuer"), "{log}");
    assert_eq!(code, 78, "{log}");

    // The authority is named: now the server behind is waited for.
    let files = PemFiles::default();
    let ca = files.authority(&company);
    process.set("OMS__S3__CA", ca.to_str().expect("a path"));
    process.spawn();
    until(&mut process, "it waits for S3", |process| {
        process.log().contains("waiting for S3").then_some(())
    })
    .await;
    process.signal(Signal::SIGTERM);
    let code = until(&mut process, "it ends", Process::has_ended).await;
    assert_eq!(code, 0, "{}", process.log_tail(40));
}

#[tokio::test]
async fn it_ends_at_once_where_postgresqls_certificate_will_never_be_accepted() {
    let plain = Lender::start(postgres::shared().socket_dir()).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut process = Process::new(OMS, "untrusted", dir);
    let url = format!("{}?sslmode=verify-full", plain.url("postgres"));
    process.set("OMS__POSTGRES__URL", &url);
    process.spawn();
    let code = until(&mut process, "it ends", Process::has_ended).await;
    let log = process.log_tail(40);
    assert_eq!(code, 78, "the configuration is wrong: {log}");
    assert!(
        log.contains("postgres.url") && log.contains("sslmode=disable"),
        "{log}"
    );
}
