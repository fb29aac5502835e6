//! `oms doctor` on a real installation: all well, and then with one fault at a time.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use futures_util::StreamExt as _;
use futures_util::stream;
use oms_testkit::careless_s3::CarelessS3;
use oms_testkit::pooler::PgBouncer;
use oms_testkit::postgres::{Cluster, connect, execute};
use oms_testkit::service::{PATIENCE, Service};
use serde_json::Value;

use super::bucket;
use crate::OMS;

/// What the doctor is told: variables and flags.
#[derive(Clone, Default)]
struct Told {
    env: BTreeMap<String, String>,
    args: Vec<String>,
    /// How many files the process may have open, where that is limited.
    files: Option<u32>,
}

/// What it said.
struct Said {
    code: Option<i32>,
    report: Value,
}

impl Told {
    /// The parts of a running service as if they were somebody's own, with the service's
    /// credentials.
    fn installation(service: &Service) -> Self {
        let s3 = service.s3_of_the_service();
        let text = |name: &str| s3[name].as_str().expect("a value").to_owned();
        let kafka = service.endpoints()["kafka"]
            .as_str()
            .expect("kafka")
            .to_owned();
        Self::default()
            .with("MINIO_ENDPOINT_URL", &text("endpoint"))
            .with("MINIO_ACCESS_KEY", &text("access_key"))
            .with("MINIO_SECRET_KEY", &text("secret_key"))
            .with("EVENT_STORE_BUCKET", &text("bucket"))
            .with("POSTGRES_URL", &service.postgres_of_the_service())
            .with("KAFKA_BOOTSTRAP_SERVERS", &kafka)
            .with("OMS_URL", &service.url)
    }

    fn with(&self, name: &str, value: &str) -> Self {
        let mut told = self.clone();
        told.env.insert(name.to_owned(), value.to_owned());
        told
    }

    fn flag(&self, name: &str, value: &str) -> Self {
        let mut told = self.clone();
        told.args.extend([name.to_owned(), value.to_owned()]);
        told
    }

    fn files(&self, files: u32) -> Self {
        Self {
            files: Some(files),
            ..self.clone()
        }
    }

    async fn ask(&self, json: bool) -> (Option<i32>, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let files = self
            .files
            .map_or("true".to_owned(), |n| format!("ulimit -n {n}"));
        let mut command = tokio::process::Command::new("sh");
        command
            .args(["-c", &format!("{files} && exec \"$0\" \"$@\""), OMS])
            .args(json.then_some("--json"))
            .arg("doctor")
            .args(&self.args)
            .current_dir(dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.env)
            .kill_on_drop(true);
        // The sum of its own time limits is longer than what a service may take.
        let ended = tokio::time::timeout(PATIENCE * 2, command.output()).await;
        let output = ended.expect("it ends").expect("it starts");
        let said = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), said)
    }

    async fn report(&self) -> Said {
        let (code, said) = self.ask(true).await;
        let report = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
        Said { code, report }
    }
}

impl Said {
    fn checks(&self) -> impl Iterator<Item = &Value> {
        self.report["checks"].as_array().expect("checks").iter()
    }

    /// Verdict, what was seen and what to do.
    fn check(&self, area: &str, name: &str) -> (&str, String) {
        let mut checks = self.checks();
        let check = checks.find(|c| c["area"] == area && c["name"] == name);
        let check = check.unwrap_or_else(|| panic!("no {area} {name}: {}", self.report));
        let text = |key: &str| check[key].as_str().unwrap_or_default();
        (
            text("verdict"),
            format!("{} → {}", text("seen"), text("advice")),
        )
    }

    /// Areas with a check that failed.
    fn failed(&self) -> Vec<&str> {
        let failed = self.checks().filter(|c| c["verdict"] == "failed");
        failed
            .map(|c| c["area"].as_str().expect("an area"))
            .collect()
    }
}

/// A fault, and what has to be said of it.
struct Fault {
    what: &'static str,
    told: Told,
    area: &'static str,
    name: &'static str,
    verdict: &'static str,
    /// In what was seen or in what to do.
    words: &'static str,
}

/// Makes the faults, two at a time. Gives what was not as it has to be.
async fn wrong(faults: Vec<Fault>) -> Vec<String> {
    let runs = faults.into_iter().map(|fault| async move {
        let said = fault.told.report().await;
        let (verdict, words) = said.check(fault.area, fault.name);
        let code = match fault.verdict {
            "failed" => Some(1),
            _ => Some(6),
        };
        let alone = said.failed().iter().all(|area| *area == fault.area);
        let well = verdict == fault.verdict && words.contains(fault.words);
        (!well || !alone || said.code != code).then(|| {
            let (failed, code) = (said.failed(), said.code);
            format!(
                "{}: {verdict} ({code:?}, failed: {failed:?}): {words}",
                fault.what
            )
        })
    });
    let said: Vec<Option<String>> = stream::iter(runs).buffer_unordered(2).collect().await;
    said.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_a_sound_installation_well_and_leaves_it_as_it_was() {
    let data_dir = tempfile::tempdir().expect("a directory");
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(data_dir.path(), private).expect("made private");
    let service = Service::start_in(OMS, data_dir, None, &[], &[]).await;
    let told = Told::installation(&service);
    let keys = async || {
        let pages = bucket(&service).list(String::new(), None).await;
        let objects = pages
            .expect("a listing")
            .into_iter()
            .flat_map(|p| p.contents);
        // The service beside it notes there how far delivery has got.
        let keys = objects.map(|object| object.key);
        keys.filter(|key| !key.starts_with("delivery/"))
            .collect::<Vec<_>>()
    };
    let tables = async || {
        let url = service.postgres_of_the_service();
        let client = oms_testkit::postgres::session(&url).await;
        let count = "SELECT count(*) FROM pg_class WHERE relname LIKE '%doctor%'";
        let row = client.query_one(count, &[]).await.expect("a count");
        row.get::<_, i64>(0)
    };
    let before = keys().await;
    let said = told.report().await;
    well(said.code, &said.report.to_string());
    assert_eq!(said.failed(), Vec::<&str>::new(), "{}", said.report);
    for (area, name) in [
        ("s3", "rights"),
        ("s3", "put-if-absent"),
        ("postgres", "schema"),
        ("postgres", "rights"),
        ("postgres", "sessions"),
        ("postgres", "durability"),
        ("kafka", "topics"),
        ("service", "health"),
        ("service", "configuration"),
    ] {
        let (verdict, words) = said.check(area, name);
        assert_eq!(verdict, "ok", "{area} {name}: {words}");
    }
    assert_eq!(keys().await, before, "nothing is left in the bucket");
    assert_eq!(tables().await, 0, "nothing is left in the database");

    // With what the service hands out: the parts that it brings along are read, and nothing more.
    let data_dir = service.data_dir();
    let data_dir = data_dir.to_str().expect("a path");
    let (code, text) = Told::default()
        .flag("--data-dir", data_dir)
        .ask(false)
        .await;
    well(code, &text);
    assert!(text.contains("✓ reach") && !text.contains("✗"), "{text}");
    assert_eq!(code == Some(0), text.contains("all is well"), "{text}");
}

/// All is well, or a busy machine has made something slow: that may be warned of.
fn well(code: Option<i32>, said: &str) {
    assert!(matches!(code, Some(0 | 6)), "{code:?}: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_found_with_what_to_do_and_the_other_checks_still_run() {
    let service = Service::start(OMS, &[], &[]).await;
    let told = Told::installation(&service);
    // A port that nobody listens on.
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").to_string()
    };
    let url = service.postgres_of_the_service();
    let (head, place) = url.rsplit_once('@').expect("a host");
    let (user, _) = head.rsplit_once(':').expect("a password");
    let (_, database) = place.split_once('/').expect("a database");
    let fault = |what, told, area, name, words| Fault {
        what,
        told,
        area,
        name,
        verdict: "failed",
        words,
    };
    let wrong = wrong(vec![
        fault(
            "a wrong secret of S3",
            told.with("MINIO_SECRET_KEY", "wrong"),
            "s3",
            "reach",
            "s3.secret_key",
        ),
        fault(
            "S3 is down",
            told.with("MINIO_ENDPOINT_URL", &format!("http://{nobody}")),
            "s3",
            "reach",
            "s3.endpoint",
        ),
        fault(
            "a wrong password of PostgreSQL",
            told.with("POSTGRES_URL", &format!("{user}:wrong@{place}")),
            "postgres",
            "reach",
            "pg_hba.conf",
        ),
        fault(
            "PostgreSQL is down",
            told.with("POSTGRES_URL", &format!("{head}@{nobody}/{database}")),
            "postgres",
            "reach",
            "postgres.url",
        ),
        fault(
            "Kafka is down",
            told.with("KAFKA_BOOTSTRAP_SERVERS", &nobody),
            "kafka",
            "reach",
            "kafka.bootstrap",
        ),
        fault(
            "few files may be open",
            told.files(200),
            "machine",
            "open files",
            "LimitNOFILE",
        ),
        fault(
            "the service is not where it is said to be",
            told.with("OMS_URL", &format!("http://{nobody}")),
            "service",
            "health",
            "--url",
        ),
        fault(
            "Prometheus is down",
            told.flag("--prometheus", &format!("http://{nobody}")),
            "prometheus",
            "alert rules",
            "--prometheus",
        ),
        Fault {
            verdict: "warning",
            ..fault(
                "another bucket",
                told.with("EVENT_STORE_BUCKET", "not-there"),
                "s3",
                "reach",
                "no bucket not-there",
            )
        },
        fault(
            "a broken configuration",
            told.flag("--set", "log.partitions=0"),
            "configuration",
            "read",
            "log.partitions",
        ),
    ])
    .await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_would_lose_events_is_refused_for_each_of_its_reasons() {
    let careless = CarelessS3::start().await;
    let told = Told::default()
        .with("MINIO_ENDPOINT_URL", &careless.endpoint)
        .with("MINIO_ACCESS_KEY", "any")
        .with("MINIO_SECRET_KEY", "any");
    let said = told.report().await;
    assert_eq!(said.code, Some(1), "{}", said.report);
    for (name, verdict, words) in [
        ("reach", "ok", "no log is in it yet"),
        ("put-if-absent", "failed", "existing key was accepted"),
        ("lifecycle rules", "failed", "the rule tidy removes events/"),
        ("versioning", "warning", "suspended"),
        ("clock", "failed", "behind"),
        ("Object Lock", "ok", "off"),
    ] {
        let (found, seen) = said.check("s3", name);
        assert!(
            found == verdict && seen.contains(words),
            "{name}: {found}: {seen}"
        );
    }
    assert_eq!(careless.keys(), Vec::<String>::new(), "nothing is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_within_a_database_is_found() {
    let cluster = Cluster::start();
    let [old, newer, careless] = [(); 3].map(|()| cluster.fresh());
    for settings in [&old, &newer, &careless] {
        connect(settings)
            .run("test", |client| Box::pin(client.batch_execute("SELECT 1")))
            .await
            .expect("the schema is made");
    }
    execute(&old, "DELETE FROM schema_migrations WHERE version = 8").await;
    execute(
        &newer,
        "INSERT INTO schema_migrations (version, name) VALUES (99, 'to come')",
    )
    .await;
    execute(
        &careless,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off',
                                    current_database()); END $$",
    )
    .await;
    cluster.administer("CREATE ROLE guest LOGIN").await;
    cluster.administer("CREATE DATABASE bare").await;
    let at = |url: &str| Told::default().with("POSTGRES_URL", url);
    let fault = |what, url: &str, name, verdict, words| Fault {
        what,
        told: at(url),
        area: "postgres",
        name,
        verdict,
        words,
    };
    let guest = cluster.url("bare").replacen("postgres@", "guest@", 1);
    let guest_of_old = careless.url.replacen("postgres@", "guest@", 1);
    let wrong = wrong(vec![
        fault(
            "an old schema",
            &old.url,
            "schema",
            "warning",
            "8 event ids",
        ),
        fault(
            "a newer schema",
            &newer.url,
            "schema",
            "failed",
            "never an older",
        ),
        fault(
            "acknowledged before it is durable",
            &careless.url,
            "durability",
            "failed",
            "synchronous_commit",
        ),
        fault(
            "no schema, and no right to make it",
            &guest,
            "schema",
            "failed",
            "CREATE SCHEMA oms AUTHORIZATION guest",
        ),
        fault(
            "no rights in the schema",
            &guest_of_old,
            "rights",
            "failed",
            "GRANT USAGE, CREATE ON SCHEMA oms TO guest",
        ),
        fault(
            "no such database",
            &cluster.url("nowhere"),
            "reach",
            "warning",
            "CREATE DATABASE nowhere",
        ),
    ])
    .await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_keeps_no_sessions_is_found() {
    let Some(program) = PgBouncer::program() else {
        println!(
            "SKIPPED: there is no pgbouncer, on PATH or in OMS_TEST_PGBOUNCER; the doctor was not \
             tried behind a real pooler"
        );
        return;
    };
    let cluster = Cluster::start();
    let settings = cluster.fresh();
    execute(&settings, "SELECT 1").await;
    let (_, database) = settings.url.rsplit_once('/').expect("a database");
    let bouncer = PgBouncer::start(&program, cluster.socket_dir()).await;
    let told = Told::default().with("POSTGRES_URL", &bouncer.url(database));
    let said = told.report().await;
    let (verdict, words) = said.check("postgres", "reach");
    assert_eq!(said.code, Some(1), "{}", said.report);
    assert!(
        verdict == "failed" && words.contains("session mode"),
        "{words}"
    );
    drop(bouncer);

    // One that lets the settings of a session pass, and keeps none of them.
    let bouncer = PgBouncer::start_ignoring(&program, cluster.socket_dir(), "options").await;
    let told = Told::default().with("POSTGRES_URL", &bouncer.url(database));
    let said = told.report().await;
    let (verdict, words) = said.check("postgres", "sessions");
    assert_eq!(said.code, Some(1), "{}", said.report);
    assert!(
        verdict == "failed" && words.contains("session mode"),
        "{words}"
    );
}
