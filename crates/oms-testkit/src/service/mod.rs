//! A service started as its users start it, and killed as chaos kills it.

pub mod contract;
mod process;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use self::contract::Answer;

pub use crate::DEADLINE as PATIENCE;
pub use process::Process;

/// What asks a service: patient, and not for ever.
pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(40))
        .build()
        .expect("a client")
}

/// The S3 server that was asked for by `OMS_TEST_S3`, with a bucket of its own in it; `None`, and
/// says so, when none was.
pub fn real_s3() -> Option<Value> {
    let Ok(text) = std::env::var("OMS_TEST_S3") else {
        eprintln!("no OMS_TEST_S3: not run on a real S3 server");
        return None;
    };
    let mut s3: Value = serde_json::from_str(&text).expect("OMS_TEST_S3 is JSON");
    s3["bucket"] = json!(format!("e2e-{}", crate::new_uuid()));
    Some(s3)
}

/// A running `oms serve`. Whoever starts one gives the path of the program: Cargo tells it to the tests
/// of the package that builds it alone.
pub struct Service {
    process: Process,
    /// Where its bucket is, when it is not the embedded one.
    s3: Option<Value>,
    /// Base URL.
    pub url: String,
    /// For requests.
    pub http: reqwest::Client,
}

impl Service {
    /// Starts a service on a data directory of its own, with these variables and flags besides.
    pub async fn start(program: &str, env: &[(&str, &str)], args: &[&str]) -> Self {
        Self::start_on(program, None, env, args).await
    }

    /// The same, with its bucket on another S3 server.
    pub async fn start_on(
        program: &str,
        s3: Option<Value>,
        env: &[(&str, &str)],
        args: &[&str],
    ) -> Self {
        let data_dir = tempfile::tempdir().expect("a directory");
        Self::start_in(program, data_dir, s3, env, args).await
    }

    /// Starts a service that may have so many files open, and no more.
    pub async fn start_with_files(program: &str, files: u32) -> Self {
        let data_dir = tempfile::tempdir().expect("a directory");
        let mut service = Self::prepared(Process::new(program, "oms", data_dir), None);
        service.process.limit_files(files);
        service.restart().await;
        service
    }

    /// The same as [`Service::start_on`], with its data in a directory that was prepared.
    pub async fn start_in(
        program: &str,
        data_dir: tempfile::TempDir,
        s3: Option<Value>,
        env: &[(&str, &str)],
        args: &[&str],
    ) -> Self {
        let mut process = Process::new(program, "oms", data_dir);
        for (name, value) in env {
            process.set(name, value);
        }
        process.set_args(args);
        let mut service = Self::prepared(process, s3);
        service.restart().await;
        service
    }

    fn prepared(mut process: Process, s3: Option<Value>) -> Self {
        if let Some(s3) = &s3 {
            for (variable, member) in [
                ("MINIO_ENDPOINT_URL", "endpoint"),
                ("MINIO_ACCESS_KEY", "access_key"),
                ("MINIO_SECRET_KEY", "secret_key"),
                ("EVENT_STORE_BUCKET", "bucket"),
            ] {
                process.set(variable, s3[member].as_str().expect("a value"));
            }
        }
        Self {
            process,
            s3,
            url: String::new(),
            http: http_client(),
        }
    }

    /// Another process on the bucket, the database and the broker of `other`.
    pub async fn start_beside(other: &Service, env: &[(&str, &str)]) -> Self {
        let postgres = other.postgres_of_the_service();
        let mut env = env.to_vec();
        env.push(("POSTGRES_URL", &postgres));
        let s3 = other.s3_of_the_service();
        Self::start_on(other.process.program(), Some(s3), &env, &[]).await
    }

    /// Sets a variable for its next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.process.set(name, value);
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Starts the process (again) and waits until it is ready.
    pub async fn restart(&mut self) {
        self.process.spawn();
        self.process.until_ready(&self.http).await;
        self.url.clone_from(&self.process.url);
    }

    /// Starts the process although it is not to come up: its exit code and what it said.
    pub async fn restart_in_vain(&self) -> (Option<i32>, String) {
        assert!(!self.process.runs(), "it is still running");
        let mut command = tokio::process::Command::from(self.process.command());
        let ended = command.kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, ended).await;
        let output = output.expect("it ends").expect("oms starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }

    /// `endpoints.json`.
    pub fn endpoints(&self) -> Value {
        let file = std::fs::read(self.process.endpoints_file()).expect("endpoints.json");
        serde_json::from_slice(&file).expect("JSON")
    }

    /// Where its bucket is, with keys that read.
    pub fn s3(&self) -> Value {
        let embedded = || self.endpoints()["s3"].clone();
        self.s3.clone().unwrap_or_else(embedded)
    }

    /// The same, with the keys the service itself uses, which it tells nobody.
    pub fn s3_of_the_service(&self) -> Value {
        let mut s3 = self.s3();
        if self.s3.is_none() {
            for key in ["access_key", "secret_key"] {
                let file = self.process.data_dir().join(format!("s3/service_{key}"));
                s3[key] = json!(std::fs::read_to_string(file).expect("a key"));
            }
        }
        s3
    }

    /// URL of the embedded database as the service itself uses it, which it tells nobody.
    pub fn postgres_of_the_service(&self) -> String {
        let endpoints = self.endpoints();
        let handed_out = endpoints["postgres"].as_str().expect("a URL");
        let (_, place) = handed_out.split_once('@').expect("with a password");
        let file = self.process.data_dir().join("postgres/password");
        let password = std::fs::read_to_string(file).expect("a password");
        format!("postgresql://oms:{}@{place}", password.trim())
    }

    /// The end of what it logged.
    pub fn log_tail(&self) -> String {
        self.process.log_tail(60)
    }

    /// An URL of the service.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Where it keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.process.data_dir().to_owned()
    }

    /// Ends it as power loss would, for a process.
    pub fn kill_9(&mut self) {
        self.process.kill_9();
    }

    /// Asks it to end and waits for it; its exit code.
    pub async fn terminate(&mut self) -> i32 {
        assert!(self.process.runs(), "it does not run");
        self.process.signal(Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(code) = self.process.has_ended() {
                return code;
            }
            assert!(
                Instant::now() < deadline,
                "does not end:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A request that must succeed; its body.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self
            .http
            .get(self.at(path))
            .send()
            .await
            .expect("an answer");
        let Answer { status, body, .. } = {
            let answer = Answer::read(answer).await.expect("a body");
            answer.hold("GET", path, None);
            answer
        };
        assert!((200..300).contains(&status), "GET {path}: {status} {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// A request whatever its answer; status and body.
    pub async fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let sent = self.process.send(&self.http, method, path, body.as_ref());
        sent.await.expect("an answer")
    }

    /// Every event of the feed.
    pub async fn whole_feed(&self) -> Vec<Value> {
        let mut events = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("/api/v1/events?limit=1000{after}")).await;
            let items = page["items"].as_array().expect("items");
            if items.is_empty() {
                return events;
            }
            events.extend(items.iter().cloned());
            after = format!("&after={}", page["next_cursor"].as_str().expect("a cursor"));
        }
    }

    /// Waits until `probe` gives something.
    pub async fn until<T>(&self, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            assert!(Instant::now() < deadline, "no {what}:\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
