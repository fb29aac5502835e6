//! The embedded parts under `kill -9`, full disks and what earlier runs left behind. The victims
//! are this test program, run again as a child: the tests marked `ignore` are what it does then.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oms::clock::new_uuid;
use oms::embedded::postgres::PostgresServer;
use oms::embedded::s3::server::S3Server;
use oms::embedded::{EmbeddedError, EmbeddedStack, Names, Parts};
use oms::store::error::StoreErrorKind;
use oms::store::ports::object_store::{Created, ObjectStore, list_all};
use oms::store::probe::probe;
use oms_testkit::postgres::session;

use crate::client;

const DIR: &str = "OMS_TEST_DIR";

fn names() -> Names {
    Names {
        bucket: "bucket".into(),
        topics: vec![],
    }
}

/// A folder that only we may search, as root's home is: PostgreSQL runs under another account when we
/// are root.
fn data_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Whatever below `dir` others than its owner may read or enter; PostgreSQL's cluster and sockets,
/// which it looks after itself, are behind folders of ours.
fn open_to_others(dir: &Path) -> Vec<PathBuf> {
    let mut open = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if mode(&path) & 0o077 != 0 {
                open.push(path.clone());
            }
            if path.is_dir() && !path.ends_with("postgres/data") && !path.ends_with("postgres/run")
            {
                dirs.push(path);
            }
        }
    }
    open
}

/// As earlier versions left it.
fn widen(dir: &Path) {
    for part in ["", "s3", "s3/store", "postgres"] {
        fs::set_permissions(dir.join(part), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for file in fs::read_dir(dir.join("s3/store")).unwrap() {
        let file = file.unwrap().path();
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    for file in ["lock", "s3/secret_key", "postgres/postgres.log"] {
        fs::set_permissions(dir.join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
}

/// Runs one of the ignored tests as a child that is killed with us.
fn child(test: &str, dir: &Path) -> Command {
    // What a test of this file is called where all of the program's are.
    let (_, here) = module_path!().split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        &format!("{here}::{test}"),
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    command
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// Starts a child and waits for the line it prints after `ready `.
fn spawn_ready(test: &str, dir: &Path) -> (Child, String) {
    let mut child = child(test, dir).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines {
        let line = line.unwrap();
        if let Some((_, said)) = line.split_once("ready ") {
            return (child, said.to_owned());
        }
    }
    panic!("{test} ended: {:?}", child.wait());
}

fn say_ready(what: &str) {
    println!("\nready {what}");
    // Until whoever started us kills us, or is gone.
    std::io::stdin().lines().for_each(drop);
}

fn dir_of_child() -> PathBuf {
    std::env::var_os(DIR)
        .expect("only run by the tests above")
        .into()
}

#[test]
#[ignore = "the child of law_2_kill_9_loses_no_acknowledged_object"]
fn child_s3() {
    let server = S3Server::start(&dir_of_child(), "crash").unwrap();
    say_ready(&serde_json::to_string(server.endpoint()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_2_kill_9_loses_no_acknowledged_object() {
    const WRITERS: usize = 32;
    const KILLS: u64 = 3;
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, Bytes> = BTreeMap::new();
    for kill in 0..KILLS {
        let (mut server, endpoint) = spawn_ready("child_s3", dir.path());
        let store = Arc::new(client(&serde_json::from_str(&endpoint).unwrap()));
        let done = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, done) = (store.clone(), done.clone());
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    for n in 0.. {
                        let key = format!("{kill}/{writer:02}/{n:06}");
                        let body = Bytes::from(format!("{key} ").repeat(40));
                        match store.put_if_absent(&key, body.clone()).await {
                            Ok(Created::Yes) => mine.push((key, body)),
                            Ok(Created::Exists) => panic!("{key} was taken"),
                            Err(_) => break,
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    mine
                })
            })
            .collect();
        // In full flight, and not always at the same point.
        let enough = 500 + 300 * kill;
        while done.load(Ordering::Relaxed) < enough {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill().unwrap();
        server.wait().unwrap();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
    }
    let server = S3Server::start(dir.path(), "crash").unwrap();
    let store = client(server.endpoint());
    assert!(acknowledged.len() >= 2_400);
    for (key, body) in &acknowledged {
        let stored = store.get(key).await.unwrap();
        assert!(
            stored.as_ref() == Some(body),
            "{key} was acknowledged, found is {stored:?}"
        );
    }
    // What was under way may be there too, whole, but nothing else.
    let all = list_all(&store, "", None).await.unwrap();
    let more = all.len() - acknowledged.len();
    assert!(
        more <= WRITERS * KILLS as usize,
        "{more} were never acknowledged"
    );
}

#[test]
#[ignore = "the child of laws_2_4_a_full_disk_refuses_what_does_not_fit_and_goes_on"]
fn child_with_a_full_disk() {
    let dir = dir_of_child();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let body = Bytes::from(vec![b'x'; 10_000]);
    let server = S3Server::start(&dir, "full").unwrap();
    let store = client(server.endpoint());
    let acknowledged = runtime.block_on(async {
        let mut acknowledged = 0;
        let failed = loop {
            match store
                .put_if_absent(&format!("{acknowledged:04}"), body.clone())
                .await
            {
                Ok(created) => assert_eq!(created, Created::Yes),
                Err(e) => break e,
            }
            acknowledged += 1;
        };
        // What does not fit was cut off again, so it is certain that it is not there.
        assert_eq!(failed.kind, StoreErrorKind::Full, "{failed}");
        assert!(!failed.is_indeterminate(), "{failed}");
        for n in 0..10 {
            let key = format!("late/{n}");
            let refused = store.put_if_absent(&key, body.clone()).await.unwrap_err();
            assert_eq!(refused.kind, StoreErrorKind::Full, "{refused}");
            assert_eq!(store.get(&key).await.unwrap(), None);
        }
        // Whose key is taken learns that, room or no room.
        let taken = store.put_if_absent("0000", body.clone()).await;
        assert_eq!(taken.unwrap(), Created::Exists);
        // Reads go on, and so does what fits.
        assert_eq!(store.get("0000").await.unwrap(), Some(body.clone()));
        store
            .put("small", Bytes::from_static(b"fits"))
            .await
            .unwrap();
        store.delete("small").await.unwrap();
        acknowledged
    });
    server.stop();
    println!("\nready {acknowledged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_2_4_a_full_disk_refuses_what_does_not_fit_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let command = child("child_with_a_full_disk", dir.path());
    // No file may grow over half a megabyte; the signal that says so is ignored, so writes fail.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args())
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let acknowledged: usize = said
        .split_once("ready ")
        .unwrap()
        .1
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(acknowledged > 10);
    // With room again, a restart finds all that was acknowledged and takes writes.
    let server = S3Server::start(dir.path(), "full").unwrap();
    let store = client(server.endpoint());
    let kept = list_all(&store, "", None).await.unwrap();
    assert_eq!(kept.len(), acknowledged);
    assert!(kept.iter().all(|o| o.size == 10_000));
    probe(&store, new_uuid()).await.unwrap();
}

async fn rows(url: &str) -> i64 {
    session(url)
        .await
        .query_one("SELECT count(*) FROM t", &[])
        .await
        .unwrap()
        .get(0)
}

fn postmaster(dir: &Path) -> i32 {
    let text = fs::read_to_string(dir.join("data/postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

#[allow(clippy::disallowed_methods, reason = "no arbiter runs in this test")]
fn wait_gone(pid: i32) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Path::new(&format!("/proc/{pid}/stat")).exists() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.contains(") Z ") || stat.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "process {pid} is still there: {stat}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "the child of postgres_ends_with_its_owner_and_starts_again"]
fn child_postgres() {
    let server = PostgresServer::start(&dir_of_child()).unwrap();
    say_ready(server.url());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_ends_with_its_owner_and_starts_again() {
    let data = data_dir();
    let dir = data.path().join("postgres");
    let (mut owner, url) = spawn_ready("child_postgres", &dir);
    let client = session(&url).await;
    client
        .batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    // A server left over by an owner that was killed goes by itself …
    let orphan = postmaster(&dir);
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_gone(orphan);
    let server = PostgresServer::start(&dir).unwrap();
    assert_eq!(server.url(), url, "address and password are kept");
    assert_eq!(rows(&url).await, 1);
    // … and one that was killed itself is started again by its owner, at the same address.
    let first = postmaster(&dir);
    kill_9(first);
    wait_gone(first);
    let deadline = Instant::now() + Duration::from_secs(60);
    let client = loop {
        match tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                break client;
            }
            Err(e) => assert!(Instant::now() < deadline, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    client
        .batch_execute("INSERT INTO t VALUES (2)")
        .await
        .unwrap();
    drop(client);
    let pid = postmaster(&dir);
    assert_ne!(pid, first);
    server.stop();
    wait_gone(pid);
    // A pid file that names a living program which is not ours is stale.
    let stale = format!("{}\n{}\n", std::process::id(), dir.join("data").display());
    fs::write(dir.join("data/postmaster.pid"), stale).unwrap();
    let server = PostgresServer::start(&dir).unwrap();
    assert_eq!(rows(server.url()).await, 2);
    let durable: String = {
        let client = session(server.url()).await;
        let row = client.query_one("SELECT current_setting('fsync') || current_setting('synchronous_commit') || current_setting('full_page_writes')", &[]);
        row.await.unwrap().get(0)
    };
    assert_eq!(durable, "ononon");
    let wrong = server.url().replacen("oms:", "oms:x", 1);
    assert!(
        tokio_postgres::connect(&wrong, tokio_postgres::NoTls)
            .await
            .is_err()
    );
    server.stop();
}

fn kill_9(pid: i32) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

/// Only root hands the cluster to another account, so this says something when root runs it, as in CI;
/// nobody else is kept out of his own folders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_runs_below_folders_that_its_account_may_not_search() {
    let home = data_dir();
    let deep = home.path().join("checkout");
    fs::create_dir(&deep).unwrap();
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o700)).unwrap();
    // Longer than the path of a socket may be.
    let dir = deep.join("d".repeat(120)).join("postgres");
    for start in 0..2 {
        let server = PostgresServer::start(&dir).unwrap();
        let client = session(server.url()).await;
        if start == 0 {
            let made = client.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
            made.await.unwrap();
        }
        // Everything the server does with its folder after its start too.
        let work = "ALTER SYSTEM SET work_mem = '5MB'; CHECKPOINT; VACUUM FULL t";
        for statement in work.split("; ") {
            client.batch_execute(statement).await.unwrap();
        }
        let reloaded = client.query_one("SELECT pg_reload_conf()", &[]).await;
        assert!(reloaded.unwrap().get::<_, bool>(0));
        assert_eq!(rows(server.url()).await, 1);
        drop(client);
        server.stop();
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join("data")), 0o700);
    }
    assert_eq!((mode(home.path()), mode(&deep)), (0o700, 0o700));
}

#[test]
fn without_embedded_data_no_directory_is_needed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // Nothing can be made below a file, by nobody, root included.
    let nowhere = file.path().join("oms-data");
    let parts = Parts {
        s3: false,
        postgres: false,
        kafka: true,
    };
    let stack = EmbeddedStack::start(&nowhere, parts, &names()).unwrap();
    assert!(stack.data_dir().is_none() && stack.endpoints().kafka.is_some());
    stack.stop();
    let parts = Parts { s3: true, ..parts };
    let refused = EmbeddedStack::start(&nowhere, parts, &names()).map(|_| ());
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("cannot create"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_stack_starts_is_locked_and_starts_again() {
    use rdkafka::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::producer::{FutureProducer, FutureRecord};

    let dir = data_dir();
    let stack = EmbeddedStack::start(dir.path(), Parts::ALL, &names()).unwrap();
    let endpoints = stack.endpoints().clone();
    let second = EmbeddedStack::start(dir.path(), Parts::ALL, &names()).map(|_| ());
    assert!(
        matches!(second, Err(EmbeddedError::InUse(_))),
        "a second process is told"
    );

    let s3 = endpoints.s3.clone().unwrap();
    let kafka = endpoints.kafka.clone().unwrap();
    let secrets = [
        "s3/secret_key",
        "s3/access_key",
        "s3/service_secret_key",
        "s3/service_access_key",
        "postgres/password",
    ];
    for secret in secrets {
        assert_eq!(mode(&dir.path().join(secret)), 0o600, "{secret}");
    }
    assert_eq!(open_to_others(dir.path()), Vec::<PathBuf>::new());

    client(&s3)
        .put("k", Bytes::from_static(b"v"))
        .await
        .unwrap();
    let postgres = session(endpoints.postgres.as_ref().unwrap()).await;
    postgres
        .batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka)
        .set("enable.idempotence", "true");
    let producer: FutureProducer = config.create().unwrap();
    let record = FutureRecord::to("oms.instance").key("k").payload("message");
    producer
        .send(record, Duration::from_secs(10))
        .await
        .unwrap();
    let consumer: BaseConsumer = config.create().unwrap();
    let topic = consumer
        .fetch_metadata(Some("oms.instance"), Duration::from_secs(10))
        .unwrap();
    assert!(topic.topics()[0].partitions().len() > 1);
    drop((postgres, producer, consumer));
    stack.stop();
    widen(dir.path());

    let begun = Instant::now();
    let stack = EmbeddedStack::start(dir.path(), Parts::ALL, &names()).unwrap();
    println!("a warm start took {:?}", begun.elapsed());
    assert_eq!(open_to_others(dir.path()), Vec::<PathBuf>::new());
    assert_eq!(mode(dir.path()), 0o700);
    assert!(
        stack.endpoints().s3 == endpoints.s3 && stack.endpoints().postgres == endpoints.postgres
    );
    let kept = client(&s3).get("k").await.unwrap();
    assert_eq!(kept, Some(Bytes::from_static(b"v")));
    assert_eq!(rows(endpoints.postgres.as_ref().unwrap()).await, 1);
    stack.stop();
    let only_s3 = Parts {
        s3: true,
        postgres: false,
        kafka: false,
    };
    let stack = EmbeddedStack::start(dir.path(), only_s3, &names()).unwrap();
    assert!(stack.endpoints().postgres.is_none() && stack.endpoints().kafka.is_none());
}
