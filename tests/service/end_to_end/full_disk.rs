//! The disk of the data directory fills up, and nothing that was acknowledged is lost; with room
//! again the service goes on by itself, embedded PostgreSQL included.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use oms::embedded::space::free_bytes;
use oms_testkit::broker::Broker;
use oms_testkit::service::Service;
use serde_json::{Value, json};

use super::load::{CLASS, DB, Load, check_feed};
use super::steps::{grown, metric, nothing_is_lost, start_load};
use super::{postmaster, projected, signal};
use crate::OMS;

/// Room for a new cluster, which takes about 60 MiB, and for a load.
const DISK_MIB: u64 = 160;

/// The reserve where there is one: above the 16 MiB that PostgreSQL wants at once for the next
/// segment of its log.
const RESERVE: u64 = 40 << 20;

/// In this time a server that does not come up is tried at least three times.
const SEVERAL_TRIES: Duration = Duration::from_secs(3);

/// Ballast is written in such pieces.
const PIECE: usize = 64 << 10;

/// Asks for ext4 on a loop device in place of a file system in memory: it gives out blocks late, and
/// may find out at `fdatasync` that there are none.
const EXT4: &str = "OMS_TEST_EXT4";

/// A file system of its own on a directory.
struct SmallDisk {
    root: PathBuf,
    // Held, not read: what a loop device is made of.
    _image: Option<tempfile::NamedTempFile>,
}

/// Makes ext4 in a file, without what it keeps back for root, whom the tests often run as.
fn ext4() -> tempfile::NamedTempFile {
    let image = tempfile::NamedTempFile::new().expect("a file");
    image.as_file().set_len(DISK_MIB << 20).expect("its size");
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-m", "0"])
        .arg(image.path())
        .status();
    assert!(made.is_ok_and(|made| made.success()), "mkfs.ext4");
    image
}

impl SmallDisk {
    /// Mounts it on a new directory; `None`, and says so, without the right to.
    fn mount() -> Option<(Self, tempfile::TempDir)> {
        let dir = tempfile::tempdir().expect("a directory");
        let image = std::env::var_os(EXT4).map(|_| ext4());
        let mut mount = Command::new("mount");
        match &image {
            Some(image) => mount.args(["-o", "loop"]).arg(image.path()),
            None => mount.args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "tmpfs"]),
        };
        let mounted = mount.arg(dir.path()).output();
        let why = match mounted {
            Ok(output) if output.status.success() => {
                let root = dir.path().to_owned();
                let disk = Self {
                    root,
                    _image: image,
                };
                return Some((disk, dir));
            }
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("cannot mount a small file system, so NO TEST OF A FULL DISK IS RUN: {why}");
        None
    }

    fn free(&self) -> u64 {
        free_bytes(&self.root).expect("a file system")
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// Writes ballast until no more than `leave` bytes are free; to the last byte for 0.
    fn fill(&self, leave: u64) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())
            .expect("ballast");
        let mut piece = PIECE;
        while self.free() > leave {
            match file.write_all(&vec![1; piece]) {
                Ok(()) => {}
                Err(_) if piece > 1 => piece /= 2,
                Err(_) => return,
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: an orphaned PostgreSQL may need a moment longer. Nobody is left to be told.
        let _ = Command::new("umount").arg("-l").arg(&self.root).status();
        let _ = fs::remove_dir(&self.root);
    }
}

/// An event of a stream of its own, so that the load's checks are not disturbed.
async fn write(service: &Service, key: &str) -> (u16, Option<u64>, Value) {
    let answer = service
        .http
        .post(service.at("/api/v1/streams/probe/1/events"))
        .header("Idempotency-Key", key)
        .json(&json!({"events": [{"type": "Probed", "data": {"text": "x".repeat(8192)}}]}))
        .send()
        .await
        .expect("an answer");
    let status = answer.status().as_u16();
    let after = answer.headers().get("Retry-After");
    let after = after.map(|v| v.to_str().expect("text").parse().expect("seconds"));
    let body = answer.json().await.expect("JSON");
    (status, after, body)
}

/// Writes until one is refused for want of room; on the way every refusal must be an honest one.
async fn refused(service: &Service) -> Value {
    let mut n = 0;
    service
        .until("refusal", async || {
            n += 1;
            let (status, after, body) = write(service, &format!("fill-{n}")).await;
            if status < 300 {
                return None;
            }
            assert_eq!(status, 503, "{body}");
            assert!(after.is_some_and(|s| s >= 1), "{body}");
            (body["code"] == "storage_full").then_some(body)
        })
        .await
}

/// Waits until it says that it is not well, and why. A disk does not stay full by itself: what
/// PostgreSQL gives back when it ends is room, and the next write that fits ends the state. So it is
/// filled again down to `leave` bytes before each look.
async fn degraded(service: &Service, disk: &SmallDisk, leave: u64) -> Value {
    let mut n = 0;
    service
        .until("degraded for want of room", async || {
            disk.fill(leave);
            n += 1;
            write(service, &format!("degraded-{n}")).await;
            let (status, health) = service.send("GET", "/health", None).await;
            let said = status == 200 && health["status"] == "degraded";
            (said && health["reason"] == "storage_full").then_some(health)
        })
        .await
}

async fn healthy(service: &Service) {
    service
        .until("health", async || {
            let (status, health) = service.send("GET", "/health", None).await;
            (status == 200 && health["status"] == "ok").then_some(())
        })
        .await;
}

/// Every kind of read that needs no PostgreSQL.
async fn reads_go_on(service: &Service, load: &Load) {
    let acknowledged = load.acknowledged.lock().expect("lock").values.clone();
    let id = acknowledged.keys().next().expect("an instance");
    let instance = format!("/api/v1/databases/{DB}/classes/{CLASS}/instances/{id}");
    service.get(&instance).await;
    service.get(&format!("{instance}/history")).await;
    let page = service.get("/api/v1/events?limit=100").await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_below_the_reserve_commands_are_refused_and_everything_else_goes_on() {
    let Some((disk, dir)) = SmallDisk::mount() else {
        return;
    };
    let reserve = RESERVE.to_string();
    let env = [("OMS__EMBEDDED__RESERVE_BYTES", reserve.as_str())];
    let service = Service::start_in(OMS, dir, None, &env, &[]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    assert_eq!(write(&service, "first").await.0, 201);
    let running = start_load(&load);
    grown(&service, &load, 100).await;
    let server = postmaster(&service);
    // Between the whole reserve and half of it.
    disk.fill(RESERVE * 3 / 4);
    let body = refused(&service).await;
    assert_eq!(body["subject"], "disk", "{body}");
    let health = degraded(&service, &disk, RESERVE * 3 / 4).await;
    assert_eq!(health["disk"]["state"], "low", "{health}");
    assert_eq!(health["disk"]["reserve_bytes"], RESERVE, "{health}");
    let (ready, _) = service.send("GET", "/health/ready", None).await;
    assert_eq!(ready, 200, "reads are still served here");
    let free = metric(&service, "oms_data_dir_free_bytes").await;
    assert!(free[0].1 < RESERVE as f64, "{free:?}");
    // Who was answered before gets that answer again.
    let (status, _, again) = write(&service, "first").await;
    assert_eq!((status, &again["version"]), (201, &json!(1)), "{again}");
    reads_go_on(&service, &load).await;
    // What was acknowledged is still delivered and projected: PostgreSQL has the reserve.
    for name in ["oms_projection_lag_commits", "oms_outbox_depth"] {
        service
            .until(name, async || {
                let left = metric(&service, name).await;
                (!left.is_empty() && left.iter().all(|(_, n)| *n == 0.0)).then_some(())
            })
            .await;
    }
    assert_eq!(postmaster(&service), server, "PostgreSQL did not die");
    disk.make_room();
    grown(&service, &load, 50).await;
    healthy(&service).await;
    load.stop();
    running.await.expect("every client's checks hold");
    nothing_is_lost(&service, &load, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_2_3_4_9_hold_on_a_disk_that_is_full_to_the_last_byte() {
    let Some((disk, dir)) = SmallDisk::mount() else {
        return;
    };
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let env = [
        ("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str()),
        ("OMS__EMBEDDED__RESERVE_BYTES", "0"),
    ];
    let service = Service::start_in(OMS, dir, None, &env, &[]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let running = start_load(&load);
    grown(&service, &load, 100).await;
    let server = postmaster(&service);
    disk.fill(0);
    let body = refused(&service).await;
    assert_eq!(body["subject"], "s3", "{body}");
    reads_go_on(&service, &load).await;
    postgres_dies(&service, &disk, server).await;
    degraded(&service, &disk, 0).await;
    // Several tries to start it are in vain.
    let mut down = None;
    service
        .until("lasting outage", async || {
            disk.fill(0);
            let (_, health) = service.send("GET", "/health", None).await;
            if health["dependencies"]["postgres"]["state"] != "down" {
                down = None;
                return None;
            }
            let since = *down.get_or_insert_with(Instant::now);
            (since.elapsed() > SEVERAL_TRIES).then_some(())
        })
        .await;
    refused(&service).await;
    reads_go_on(&service, &load).await;
    let panics = metric(&service, "oms_panics_total").await;
    assert!(panics.iter().all(|(_, n)| *n == 0.0), "{panics:?}");
    disk.make_room();
    grown(&service, &load, 50).await;
    healthy(&service).await;
    assert_ne!(postmaster(&service), server, "PostgreSQL was started again");
    load.stop();
    running.await.expect("every client's checks hold");
    nothing_is_lost(&service, &load, Some(&broker)).await;
}

/// Has PostgreSQL ask for another segment of its log while there is no room for it: it panics, and
/// cannot recover, since that takes a segment too.
async fn postgres_dies(service: &Service, disk: &SmallDisk, server: i32) {
    let url = service.postgres_of_the_service();
    service
        .until("end of PostgreSQL", async || {
            disk.fill(0);
            if let Ok((client, connection)) =
                tokio_postgres::connect(&url, tokio_postgres::NoTls).await
            {
                tokio::spawn(connection);
                // What it says matters as little as whether it can: it is to run out of segments.
                // Each by itself, and nothing that needs room in a table: the first that fails
                // would keep the others from being tried.
                for statement in [
                    "SELECT pg_logical_emit_message(true, 'trial', repeat('x', 8192))",
                    "SELECT pg_switch_wal()",
                    "CHECKPOINT",
                ] {
                    let _ = client.batch_execute(statement).await;
                }
            }
            gone(server).then_some(())
        })
        .await;
}

fn gone(pid: i32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_2_a_kill_and_a_start_on_a_full_disk_lose_nothing() {
    let Some((disk, dir)) = SmallDisk::mount() else {
        return;
    };
    let env = [("OMS__EMBEDDED__RESERVE_BYTES", "0")];
    let mut service = Service::start_in(OMS, dir, None, &env, &[]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let running = start_load(&load);
    grown(&service, &load, 100).await;
    disk.fill(0);
    refused(&service).await;
    let server = postmaster(&service);
    service.kill_9();
    // Not in order either, as power loss would be.
    if !gone(server) {
        signal(server, Signal::SIGQUIT);
    }
    disk.fill(0);
    let (code, said) = service.restart_in_vain().await;
    assert_eq!(code, Some(1), "{said}");
    let named = said.contains("is full") || said.contains("No space left on device");
    assert!(named, "the message names the cause: {said}");
    disk.make_room();
    service.restart().await;
    grown(&service, &load, 50).await;
    load.stop();
    running.await.expect("every client's checks hold");
    nothing_is_lost(&service, &load, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_2_3_4_hold_on_a_full_disk_while_postgresql_leads() {
    let Some((disk, dir)) = SmallDisk::mount() else {
        return;
    };
    let env = [("OMS__EMBEDDED__RESERVE_BYTES", "0")];
    let service = Service::start_in(OMS, dir, None, &env, &["--mode", "legacy"]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let running = start_load(&load);
    grown(&service, &load, 100).await;
    let server = postmaster(&service);
    disk.fill(0);
    postgres_dies(&service, &disk, server).await;
    // Nobody knows which of several things PostgreSQL died of; all that is said of a write is whether
    // it happened.
    let mut n = 0;
    service
        .until("refusal", async || {
            disk.fill(0);
            n += 1;
            let (status, after, body) = write(&service, &format!("fill-{n}")).await;
            let honest = status < 300 || (status == 503 && after.is_some_and(|s| s >= 1));
            assert!(honest, "{status} {body}");
            (status == 503).then_some(())
        })
        .await;
    disk.make_room();
    grown(&service, &load, 50).await;
    healthy(&service).await;
    load.stop();
    running.await.expect("every client's checks hold");
    let acknowledged = std::mem::take(&mut *load.acknowledged.lock().expect("lock"));
    check_feed(&service.whole_feed().await, &acknowledged);
    projected(&service, &acknowledged.values).await;
}
