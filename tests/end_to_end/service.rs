//! A service started as its users start it, and killed as chaos kills it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::contract::Exchange;

/// Longest wait for anything a test waits for; far above what is normal, so that a busy machine
/// does not fail a test and a hang does.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The S3 server that was asked for by `OMS_TEST_S3`, with a bucket of its own in it; `None`, and
/// says so, when none was.
pub fn real_s3() -> Option<Value> {
    let Ok(text) = std::env::var("OMS_TEST_S3") else {
        eprintln!("no OMS_TEST_S3: not run on a real S3 server");
        return None;
    };
    let mut s3: Value = serde_json::from_str(&text).expect("OMS_TEST_S3 is JSON");
    s3["bucket"] = json!(format!("e2e-{}", oms::clock::new_uuid()));
    Some(s3)
}

/// A running `oms serve`.
pub struct Service {
    /// Where its bucket is, when it is not the embedded one.
    s3: Option<Value>,
    child: Option<Child>,
    data_dir: tempfile::TempDir,
    env: Vec<(String, String)>,
    args: Vec<String>,
    /// How many files the process may have open, where that is limited.
    files: Option<u32>,
    port: u16,
    /// Base URL.
    pub url: String,
    /// For requests.
    pub http: reqwest::Client,
}

impl Service {
    /// Starts a service on a data directory of its own, with these variables and flags besides.
    pub async fn start(env: &[(&str, &str)], args: &[&str]) -> Self {
        Self::start_on(None, env, args).await
    }

    /// The same, with its bucket on another S3 server.
    pub async fn start_on(s3: Option<Value>, env: &[(&str, &str)], args: &[&str]) -> Self {
        let data_dir = tempfile::tempdir().expect("a directory");
        Self::start_in(data_dir, s3, env, args).await
    }

    /// Starts a service that may have so many files open, and no more.
    pub async fn start_with_files(files: u32) -> Self {
        let data_dir = tempfile::tempdir().expect("a directory");
        let mut service = Self::prepared(data_dir, None, &[], &[]);
        service.files = Some(files);
        service.restart().await;
        service
    }

    /// The same, with its data in a directory that was prepared.
    pub async fn start_in(
        data_dir: tempfile::TempDir,
        s3: Option<Value>,
        env: &[(&str, &str)],
        args: &[&str],
    ) -> Self {
        let mut service = Self::prepared(data_dir, s3, env, args);
        service.restart().await;
        service
    }

    fn prepared(
        data_dir: tempfile::TempDir,
        s3: Option<Value>,
        env: &[(&str, &str)],
        args: &[&str],
    ) -> Self {
        let mut service = Self {
            s3,
            child: None,
            data_dir,
            env: env
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            files: None,
            port: 0,
            url: String::new(),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(40))
                .build()
                .expect("a client"),
        };
        if let Some(s3) = &service.s3 {
            for (variable, member) in [
                ("MINIO_ENDPOINT_URL", "endpoint"),
                ("MINIO_ACCESS_KEY", "access_key"),
                ("MINIO_SECRET_KEY", "secret_key"),
                ("EVENT_STORE_BUCKET", "bucket"),
            ] {
                let value = s3[member].as_str().expect("a value").to_owned();
                service.env.push((variable.to_owned(), value));
            }
        }
        service
    }

    /// Another process on the bucket, the database and the broker of `other`.
    pub async fn start_beside(other: &Service, env: &[(&str, &str)]) -> Self {
        let postgres = other.postgres_of_the_service();
        let mut env = env.to_vec();
        env.push(("POSTGRES_URL", &postgres));
        Self::start_on(Some(other.s3_of_the_service()), &env, &[]).await
    }

    /// Sets a variable for its next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("running").id() as i32
    }

    /// Starts the process (again) and waits until it is ready.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "it is still running");
        let endpoints = self.data_dir.path().join("endpoints.json");
        if self.port == 0 && endpoints.exists() {
            std::fs::remove_file(&endpoints).expect("removed");
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.data_dir.path().join("service.log"))
            .expect("a log file");
        let child = self
            .command()
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("oms starts");
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.port == 0
                && let Some(url) = self.endpoint_url(&endpoints)
            {
                self.port = url
                    .rsplit(':')
                    .next()
                    .and_then(|p| p.parse().ok())
                    .expect("a port");
                self.url = url;
            }
            if self.port != 0
                && let Ok(answer) = self.http.get(self.at("/health/ready")).send().await
                && answer.status().is_success()
            {
                return;
            }
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|c| c.try_wait().expect("status"))
            {
                panic!("oms ended with {status}:\n{}", self.log_tail());
            }
            assert!(Instant::now() < deadline, "not ready:\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn command(&self) -> Command {
        let mut command = match self.files {
            None => Command::new(env!("CARGO_BIN_EXE_oms")),
            Some(files) => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")])
                    .arg(env!("CARGO_BIN_EXE_oms"));
                shell
            }
        };
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.data_dir.path())
            .arg("--port")
            .arg(self.port.to_string())
            .args(&self.args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LOG_LEVEL", "info")
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null());
        command
    }

    /// Starts the process although it is not to come up: its exit code and what it said.
    pub async fn restart_in_vain(&self) -> (Option<i32>, String) {
        assert!(self.child.is_none(), "it is still running");
        let mut command = tokio::process::Command::from(self.command());
        let ended = command.kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, ended).await;
        let output = output.expect("it ends").expect("oms starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }

    fn endpoint_url(&self, file: &Path) -> Option<String> {
        let endpoints: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        Some(endpoints["http"].as_str()?.trim_end_matches('/').to_owned())
    }

    /// `endpoints.json`.
    pub fn endpoints(&self) -> Value {
        let file = self.data_dir.path().join("endpoints.json");
        serde_json::from_slice(&std::fs::read(file).expect("endpoints.json")).expect("JSON")
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
                let file = self.data_dir.path().join(format!("s3/service_{key}"));
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
        let file = self.data_dir.path().join("postgres/password");
        let password = std::fs::read_to_string(file).expect("a password");
        format!("postgresql://oms:{}@{place}", password.trim())
    }

    /// The end of what it logged.
    pub fn log_tail(&self) -> String {
        let log =
            std::fs::read_to_string(self.data_dir.path().join("service.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// An URL of the service.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Where it keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.path().to_owned()
    }

    /// Ends it as power loss would, for a process.
    pub fn kill_9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// Asks it to end and waits for it; its exit code.
    pub async fn terminate(&mut self) -> i32 {
        let mut child = self.child.take().expect("running");
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signalled");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("status") {
                return status.code().unwrap_or(-1);
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
        let (status, body) = held("GET", path, None, answer).await;
        assert!((200..300).contains(&status), "GET {path}: {status} {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// A request whatever its answer; status and body.
    pub async fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self
            .http
            .request(method.parse().expect("a method"), self.at(path));
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        let (status, text) = held(method, path, body.as_ref(), answer).await;
        (status, serde_json::from_str(&text).unwrap_or(json!(text)))
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

/// The status and the body of an answer, which is held to the document.
pub async fn held(
    method: &str,
    path: &str,
    sent: Option<&Value>,
    answer: reqwest::Response,
) -> (u16, String) {
    let status = answer.status().as_u16();
    let media = answer.headers().get("content-type");
    let media = media.map(|m| m.to_str().expect("text").to_owned());
    let media = media.unwrap_or_default();
    let body = answer.text().await.expect("a body");
    Exchange {
        method,
        path,
        sent,
        status,
        media: &media,
        body: &body,
    }
    .hold();
    (status, body)
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The test is over, however it ended; nobody is left to be told.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
