//! What is broken and what must not break: S3, PostgreSQL and Kafka run in the test's own process
//! (Kafka is the real broker, where one was asked for), so that they outlive every kill; the nodes are real `oms serve` processes, each behind proxies of
//! its own, so that one node can lose what the other still has.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oms::embedded::s3::server::Settings;
use oms::embedded::{EmbeddedStack, Endpoints, Names, Parts};
use oms::store::ports::object_store::IMMUTABLE;
use oms::store::ports::transport::TopicNames;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::broker::Broker;
use crate::proxy::{Link, Proxy};

/// Longest wait for anything that must come; far above what is normal.
pub const PATIENCE: Duration = Duration::from_secs(60);

const BUCKET: &str = "nemesis";

/// What a node depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dependency {
    S3,
    Postgres,
    Kafka,
}

impl Dependency {
    pub const ALL: [Self; 3] = [Self::S3, Self::Postgres, Self::Kafka];
}

/// A node's ways to its dependencies.
pub struct Links {
    s3: Proxy,
    postgres: Proxy,
    kafka: Proxy,
}

impl Links {
    pub fn of(&self, dependency: Dependency) -> &Proxy {
        match dependency {
            Dependency::S3 => &self.s3,
            Dependency::Postgres => &self.postgres,
            Dependency::Kafka => &self.kafka,
        }
    }

    pub fn heal(&self) {
        for dependency in Dependency::ALL {
            self.of(dependency).set(Link::Pass);
        }
    }
}

/// A node: a process, or the place of one.
pub struct Node {
    pub index: usize,
    pub links: Links,
    pub url: String,
    data_dir: TempDir,
    env: Vec<(String, String)>,
    port: u16,
    child: Option<Child>,
}

/// Everything.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub broker: Broker,
    /// The topics of this cluster alone.
    pub topics: TopicNames,
    pub http: reqwest::Client,
    stack: Option<EmbeddedStack>,
    dir: TempDir,
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address on loopback")
}

impl Cluster {
    /// Starts the dependencies and `nodes` nodes, and waits until all are ready; `settings` are
    /// variables that every node gets.
    pub async fn start(nodes: usize, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_owned();
        let stack = tokio::task::spawn_blocking(move || {
            let names = Names {
                bucket: BUCKET.into(),
                topics: vec![],
            };
            let parts = Parts {
                kafka: false,
                ..Parts::ALL
            };
            let guarded = Settings {
                immutable: Some(IMMUTABLE.to_owned()),
                ..Settings::default()
            };
            EmbeddedStack::start_with(&path, parts, &names, guarded)
        });
        let stack = stack.await.expect("no panic").expect("S3 and PostgreSQL");
        let prefix = format!("nemesis-{}", oms::clock::new_uuid());
        let mut cluster = Self {
            nodes: vec![],
            broker: Broker::start_for(&prefix),
            topics: TopicNames::new(prefix.clone()),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(40))
                .build()
                .expect("a client"),
            stack: Some(stack),
            dir,
        };
        for index in 0..nodes {
            let mut settings = settings.to_vec();
            settings.push(("OMS__KAFKA__TOPIC_PREFIX", &prefix));
            let node = cluster.node(index, &settings).await;
            cluster.nodes.push(node);
        }
        for node in &mut cluster.nodes {
            node.spawn();
            node.until_ready(&cluster.http).await;
        }
        cluster
    }

    fn endpoints(&self) -> &Endpoints {
        self.stack.as_ref().expect("running").endpoints()
    }

    async fn node(&self, index: usize, settings: &[(&str, &str)]) -> Node {
        let endpoints = self.endpoints();
        // What is promised is promised on any S3: nodes get the keys with which the embedded endpoint
        // lets objects of the log be replaced and removed, and must not do so all the same.
        let s3 = endpoints.s3_mender.as_ref().expect("S3");
        let postgres = endpoints.postgres.as_ref().expect("PostgreSQL");
        let mut postgres = url::Url::parse(postgres).expect("a URL");
        let port = postgres.port().expect("a port");
        let links = Links {
            s3: Proxy::start(address(s3.endpoint.trim_start_matches("http://"))).await,
            postgres: Proxy::start(([127, 0, 0, 1], port).into()).await,
            kafka: Proxy::start_for_kafka(address(&self.broker.bootstrap())).await,
        };
        let proxied = links.postgres.address().port();
        postgres.set_port(Some(proxied)).expect("a port");
        let mut env: Vec<(String, String)> = [
            (
                "MINIO_ENDPOINT_URL",
                format!("http://{}", links.s3.address()),
            ),
            ("MINIO_ACCESS_KEY", s3.access_key.clone()),
            ("MINIO_SECRET_KEY", s3.secret_key.clone()),
            ("EVENT_STORE_BUCKET", BUCKET.into()),
            ("POSTGRES_URL", postgres.to_string()),
            ("KAFKA_BOOTSTRAP_SERVERS", links.kafka.address().to_string()),
            ("OMS__CHAOS__ENABLED", "true".into()),
            ("LOG_LEVEL", "info".into()),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect();
        env.extend(
            settings
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        );
        Node {
            index,
            links,
            url: String::new(),
            data_dir: tempfile::tempdir().expect("a directory"),
            env,
            port: 0,
            child: None,
        }
    }

    /// `oms log audit` on the bucket itself, past every proxy: what is broken.
    pub async fn audit(&self) -> Vec<String> {
        let s3 = self.endpoints().s3.clone().expect("S3");
        let dir = self.dir.path().to_owned();
        let output = tokio::task::spawn_blocking(move || {
            Command::new(env!("CARGO_BIN_EXE_oms"))
                .args(["--json", "log", "audit", "--data-dir"])
                .arg(dir)
                .env_clear()
                .env("MINIO_ENDPOINT_URL", &s3.endpoint)
                .env("MINIO_ACCESS_KEY", &s3.access_key)
                .env("MINIO_SECRET_KEY", &s3.secret_key)
                .env("EVENT_STORE_BUCKET", BUCKET)
                .output()
        });
        let output = output.await.expect("no panic").expect("oms runs");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let partitions = report["partitions"].as_array().cloned().unwrap_or_default();
        let mut broken: Vec<String> = partitions
            .iter()
            .filter(|p| !p["broken"].is_null())
            .map(|p| p["broken"].to_string())
            .collect();
        if report["sound"] != true && broken.is_empty() {
            let errors = String::from_utf8_lossy(&output.stderr);
            broken.push(format!("the audit failed: {report} {errors}"));
        }
        broken
    }
}

/// Waits until `probe` gives something.
pub async fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The nodes first: they would only complain.
        self.nodes.clear();
        if let Some(stack) = self.stack.take() {
            stack.stop();
        }
    }
}

impl Node {
    /// Starts the process; it is not ready yet.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.data_dir.path().join("service.log"))
            .expect("a log file");
        let child = Command::new(env!("CARGO_BIN_EXE_oms"))
            .arg("serve")
            .arg("--data-dir")
            .arg(self.data_dir.path())
            .arg("--port")
            .arg(self.port.to_string())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("oms starts");
        self.child = Some(child);
    }

    /// Whether it serves.
    pub async fn is_ready(&mut self, http: &reqwest::Client) -> bool {
        if self.port == 0 {
            let Some(url) = endpoint_url(&self.data_dir.path().join("endpoints.json")) else {
                return false;
            };
            self.port = url
                .rsplit(':')
                .next()
                .and_then(|p| p.parse().ok())
                .expect("a port");
            self.url = url;
        }
        let request = http
            .get(format!("{}/health/ready", self.url))
            .timeout(Duration::from_secs(1));
        matches!(request.send().await, Ok(answer) if answer.status().is_success())
    }

    /// Waits until it serves.
    pub async fn until_ready(&mut self, http: &reqwest::Client) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready(http).await {
            if let Some(code) = self.has_ended() {
                panic!(
                    "node {} ended with {code}:\n{}",
                    self.index,
                    self.log_tail(60)
                );
            }
            assert!(
                Instant::now() < deadline,
                "node {} is not ready:\n{}",
                self.index,
                self.log_tail(60)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether there is a process.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// The exit code, if it has ended; -1 for a signal.
    pub fn has_ended(&mut self) -> Option<i32> {
        let status = self.child.as_mut()?.try_wait().expect("status")?;
        self.child = None;
        Some(status.code().unwrap_or(-1))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // It may have ended in this moment; whoever looks next is told.
            let _ = kill(Pid::from_raw(child.id() as i32), signal);
        }
    }

    /// Ends it as power loss would, for a process.
    pub fn kill_9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Killing what has ended is no failure of the test.
            let _ = child.kill();
            child.wait().expect("reaped");
        }
    }

    /// The end of what it logged.
    pub fn log_tail(&self, lines: usize) -> String {
        let log =
            std::fs::read_to_string(self.data_dir.path().join("service.log")).unwrap_or_default();
        // Refusals while something is broken are many, and the clients know of them.
        let all: Vec<&str> = log
            .lines()
            .filter(|l| !l.contains("could not be served"))
            .collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Option<u64> {
        let pid = self.child.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes << 10)
    }

    /// Asks; status and body.
    pub async fn send(
        &self,
        http: &reqwest::Client,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        let mut request = http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(json!(text))))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
        self.kill_9();
    }
}

fn endpoint_url(file: &Path) -> Option<String> {
    let endpoints: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    Some(endpoints["http"].as_str()?.trim_end_matches('/').to_owned())
}
