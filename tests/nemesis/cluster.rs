//! What is broken and what must not break: S3, PostgreSQL and Kafka run in the test's own process
//! (Kafka is the real broker, where one was asked for), so that they outlive every kill; the nodes are
//! real `oms serve` processes, each behind proxies of its own, so that one node can lose what the other
//! still has.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::time::{Duration, Instant};

use oms::embedded::s3::server::Settings;
use oms::embedded::{EmbeddedStack, Endpoints, Names, Parts};
use oms::store::ports::object_store::IMMUTABLE;
use oms::store::ports::transport::TopicNames;
use oms_testkit::broker::{Broker, Follower};
use oms_testkit::proxy::{Link, Proxy};
use oms_testkit::service::{PATIENCE, Process, http_client};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::OMS;

const BUCKET: &str = "nemesis";

/// As many clusters as live at a time, however many threads the tests have: each alone keeps a
/// processor busy, and what lasts for seconds by the clock needs load that comes through.
static PLACES: Semaphore = Semaphore::const_new(2);

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

/// A node: a process, or the place of one, behind links of its own.
pub struct Node {
    pub index: usize,
    pub links: Links,
    process: Process,
}

/// What is done to a node and asked of it is done to its process.
impl Deref for Node {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Everything.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// What Kafka gave a consumer so far. Before the broker, because it ends first.
    pub followed: Follower,
    pub broker: Broker,
    /// The topics of this cluster alone.
    pub topics: TopicNames,
    pub http: reqwest::Client,
    stack: Option<EmbeddedStack>,
    dir: TempDir,
    /// Held, not read, and given back when all else is gone.
    _place: SemaphorePermit<'static>,
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address on loopback")
}

impl Cluster {
    /// Starts the dependencies and `nodes` nodes, and waits until all are ready; `settings` are
    /// variables that every node gets.
    pub async fn start(nodes: usize, settings: &[(&str, &str)]) -> Self {
        Self::start_each(&vec![settings.to_vec(); nodes]).await
    }

    /// [`Self::start`] with a node for each of `settings`.
    pub async fn start_each(settings: &[Vec<(&str, &str)>]) -> Self {
        let place = PLACES.acquire().await.expect("never closed");
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
        let broker = Broker::start_for(&prefix);
        let topics = TopicNames::new(prefix.clone());
        let mut cluster = Self {
            nodes: vec![],
            followed: broker.follow(topics.all()),
            broker,
            topics,
            http: http_client(),
            stack: Some(stack),
            dir,
            _place: place,
        };
        for (index, settings) in settings.iter().enumerate() {
            let mut settings = settings.clone();
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
        let data_dir = tempfile::tempdir().expect("a directory");
        let mut process = Process::new(OMS, &format!("node {index}"), data_dir);
        let endpoint = format!("http://{}", links.s3.address());
        let kafka = links.kafka.address().to_string();
        let own: [(&str, &str); 7] = [
            ("MINIO_ENDPOINT_URL", &endpoint),
            ("MINIO_ACCESS_KEY", &s3.access_key),
            ("MINIO_SECRET_KEY", &s3.secret_key),
            ("EVENT_STORE_BUCKET", BUCKET),
            ("POSTGRES_URL", postgres.as_str()),
            ("KAFKA_BOOTSTRAP_SERVERS", &kafka),
            ("OMS__CHAOS__ENABLED", "true"),
        ];
        for (name, value) in own.iter().chain(settings) {
            process.set(name, value);
        }
        Node {
            index,
            links,
            process,
        }
    }

    /// `oms log audit` on the bucket itself, past every proxy: what is broken.
    pub async fn audit(&self) -> Vec<String> {
        let s3 = self.endpoints().s3.clone().expect("S3");
        let dir = self.dir.path().to_owned();
        let output = tokio::task::spawn_blocking(move || {
            Command::new(OMS)
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
    /// The end of what it logged.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.process.log();
        // Refusals while something is broken are many, and the clients know of them.
        let all: Vec<&str> = log
            .lines()
            .filter(|l| !l.contains("could not be served"))
            .collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// What it logged of requests that failed inside, which nobody else is told.
    pub fn internal_errors(&self) -> Vec<String> {
        let log = self.process.log();
        let told = log
            .lines()
            .filter(|l| l.contains("failed inside the service"));
        told.map(str::to_owned).collect()
    }

    /// Asks; status and body, or nothing where no answer comes.
    pub async fn send(
        &self,
        http: &reqwest::Client,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        self.process.send(http, method, path, body).await.ok()
    }
}
