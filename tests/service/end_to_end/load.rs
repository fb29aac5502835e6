//! A load of clients that retry until they know, and a checker that knows the laws.
//!
//! Every client owns its entities, so it knows which version each of its commands must give: an
//! answer with another version is a command that was lost, doubled or invented, seen at once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use oms_testkit::broker::Consumed;
use serde_json::{Value, json};

/// The database and the class that the load writes to.
pub const DB: &str = "loadtest";
pub const CLASS: &str = "Item";

/// How long a client goes on retrying one command before the test fails.
const GIVE_UP: Duration = Duration::from_secs(90);

/// What was acknowledged.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// For each stream the position of each version, from 1.
    pub streams: HashMap<String, Vec<String>>,
    /// Last value of `n` of each live instance.
    pub values: HashMap<String, i64>,
}

/// A load that runs until it is told to stop.
#[derive(Clone)]
pub struct Load {
    http: reqwest::Client,
    url: String,
    /// Number of the first client: clients of several loads must not share entities.
    first: usize,
    stop: Arc<AtomicBool>,
    /// What was acknowledged so far.
    pub acknowledged: Arc<Mutex<Acknowledged>>,
    /// Tries that failed and were repeated.
    pub retries: Arc<AtomicU64>,
    /// Longest time a command took until it was acknowledged, in milliseconds.
    pub longest_ms: Arc<AtomicU64>,
}

struct Command {
    method: &'static str,
    path: String,
    body: Value,
    key: String,
}

impl Load {
    /// A load on the service at `url`.
    pub fn new(url: &str) -> Self {
        Self {
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(35))
                .build()
                .expect("a client"),
            url: url.to_owned(),
            first: 0,
            stop: Arc::default(),
            acknowledged: Arc::default(),
            retries: Arc::default(),
            longest_ms: Arc::default(),
        }
    }

    /// A load whose clients are numbered from `first`.
    pub fn apart(url: &str, first: usize) -> Self {
        Self {
            first,
            ..Self::new(url)
        }
    }

    /// Takes over what another load got acknowledged.
    pub fn take_over(&self, other: &Load) {
        let theirs = std::mem::take(&mut *other.acknowledged.lock().expect("lock"));
        let mut ours = self.acknowledged.lock().expect("lock");
        ours.streams.extend(theirs.streams);
        ours.values.extend(theirs.values);
    }

    /// Makes the database and the class.
    pub async fn prepare(&self) {
        self.until_known(Command {
            method: "POST",
            path: "/api/v1/databases".into(),
            body: json!({"name": DB, "description": "load"}),
            key: "prepare-db".into(),
        })
        .await;
        self.until_known(Command {
            method: "POST",
            path: format!("/api/v1/databases/{DB}/classes"),
            body: json!({"id": CLASS, "label": "Item", "properties": [
                {"name": "n", "type": "integer", "required": true},
                {"name": "name", "type": "string"}]}),
            key: "prepare-class".into(),
        })
        .await;
    }

    /// Runs `clients` clients until [`Load::stop`] or `commands` commands each.
    pub async fn run(&self, clients: usize, commands: usize) {
        let clients = (self.first..self.first + clients).map(|c| {
            let load = self.clone();
            tokio::spawn(async move { load.client(c, commands).await })
        });
        for client in futures_util::future::join_all(clients).await {
            client.expect("a client's checks hold");
        }
    }

    /// Ends the load after the commands that are under way.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Commands acknowledged so far.
    pub fn count(&self) -> usize {
        let acknowledged = self.acknowledged.lock().expect("lock");
        acknowledged.streams.values().map(Vec::len).sum()
    }

    async fn client(&self, c: usize, commands: usize) {
        let instances = format!("/api/v1/databases/{DB}/classes/{CLASS}/instances");
        let mut made = 0;
        for i in 0..commands {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            match i % 4 {
                // A plain append of two events.
                0 => {
                    let command = Command {
                        method: "POST",
                        path: format!("/api/v1/streams/load/{c}/events"),
                        body: json!({"events": [
                            {"type": "Ticked", "data": {"i": i}},
                            {"type": "Tocked", "data": {"i": i}}]}),
                        key: format!("{c}-{i}"),
                    };
                    self.expect(&format!("load/{c}"), 2, command).await;
                }
                // A new instance.
                1 => {
                    made += 1;
                    let id = format!("{c}-{made}");
                    let command = Command {
                        method: "POST",
                        path: instances.clone(),
                        body: json!({"id": id, "data": {"n": 0, "name": "new"}}),
                        key: format!("{c}-{i}"),
                    };
                    self.expect(&format!("instance/{DB}/{CLASS}/{id}"), 1, command)
                        .await;
                    self.set(&id, 0);
                }
                // A change to it.
                2 => {
                    let id = format!("{c}-{made}");
                    let command = Command {
                        method: "PATCH",
                        path: format!("{instances}/{id}"),
                        body: json!({"n": i, "name": null}),
                        key: format!("{c}-{i}"),
                    };
                    self.expect(&format!("instance/{DB}/{CLASS}/{id}"), 1, command)
                        .await;
                    self.set(&id, i as i64);
                }
                // A batch: a change to it and three new ones.
                _ => self.batch(c, i, &instances, &mut made).await,
            }
        }
    }

    async fn batch(&self, c: usize, i: usize, instances: &str, made: &mut usize) {
        let changed = format!("{c}-{made}");
        let mut operations =
            vec![json!({"op": "update", "id": changed, "data": {"n": 10_000 + i}})];
        let mut touched = vec![(changed, 10_000 + i as i64)];
        for _ in 0..3 {
            *made += 1;
            let id = format!("{c}-{made}");
            operations.push(json!({"op": "create", "id": id, "data": {"n": i}}));
            touched.push((id, i as i64));
        }
        let answer = self
            .until_known(Command {
                method: "POST",
                path: format!("{instances}/batch"),
                body: json!({"operations": operations}),
                key: format!("{c}-{i}"),
            })
            .await;
        let items = answer["items"].as_array().expect("items");
        assert_eq!(items.len(), touched.len());
        for (item, (id, n)) in items.iter().zip(touched) {
            self.record(&format!("instance/{DB}/{CLASS}/{id}"), 1, item);
            self.set(&id, n);
        }
    }

    fn set(&self, id: &str, n: i64) {
        let mut acknowledged = self.acknowledged.lock().expect("lock");
        acknowledged.values.insert(id.to_owned(), n);
    }

    async fn expect(&self, stream: &str, events: usize, command: Command) {
        let answer = self.until_known(command).await;
        self.record(stream, events, &answer);
    }

    /// Law 2 and 7, seen by the client: its command made exactly the versions it must make.
    fn record(&self, stream: &str, events: usize, answer: &Value) {
        let mut acknowledged = self.acknowledged.lock().expect("lock");
        let positions = acknowledged.streams.entry(stream.to_owned()).or_default();
        let expected = positions.len() + events;
        assert_eq!(answer["version"], expected, "{stream}: {answer}");
        let last = answer["position"].as_str().expect("a position");
        for _ in 0..events {
            positions.push(last.to_owned());
        }
    }

    /// Repeats a command, with its key, until it is known what became of it.
    async fn until_known(&self, command: Command) -> Value {
        let begun = Instant::now();
        loop {
            let sent = self
                .http
                .request(
                    command.method.parse().expect("a method"),
                    format!("{}{}", self.url, command.path),
                )
                .header("Idempotency-Key", &command.key)
                .json(&command.body)
                .send()
                .await;
            if let Ok(answer) = sent {
                let status = answer.status().as_u16();
                // A body that breaks off is an answer that never came.
                if let Ok(text) = answer.text().await {
                    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
                    let whole = status != 207
                        || body["items"].as_array().is_some_and(|items| {
                            items
                                .iter()
                                .all(|i| i["status"].as_u64().is_some_and(|s| s < 300))
                        });
                    match status {
                        200..300 if whole => {
                            let took = begun.elapsed().as_millis() as u64;
                            self.longest_ms.fetch_max(took, Ordering::SeqCst);
                            return body;
                        }
                        207 | 429 | 500.. => {}
                        _ => panic!("{} {}: {status} {text}", command.method, command.path),
                    }
                }
            }
            self.retries.fetch_add(1, Ordering::SeqCst);
            assert!(
                begun.elapsed() < GIVE_UP,
                "{} {} was never answered",
                command.method,
                command.path
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The stream of an event.
pub fn stream_of(event: &Value) -> String {
    format!(
        "{}/{}",
        event["streamtype"].as_str().expect("a type"),
        event["streamid"].as_str().expect("an id")
    )
}

/// Whether the feed has as many events of every stream as were acknowledged, or more.
pub fn has_all(feed: &[Value], acknowledged: &Acknowledged) -> bool {
    let mut found: HashMap<String, usize> = HashMap::new();
    for event in feed {
        *found.entry(stream_of(event)).or_default() += 1;
    }
    let missing = |(stream, positions): (&String, &Vec<String>)| {
        found.get(stream).copied().unwrap_or(0) < positions.len()
    };
    !acknowledged.streams.iter().any(missing)
}

/// Laws 2, 5 and 7 over the whole feed: everything acknowledged is there exactly once, nothing
/// else is, and each stream's versions are 1, 2, 3, … in the feed's order.
pub fn check_feed(feed: &[Value], acknowledged: &Acknowledged) {
    let mut versions: HashMap<String, u64> = HashMap::new();
    let mut ids = HashSet::new();
    for event in feed {
        let stream = stream_of(event);
        let next = versions.entry(stream.clone()).or_default();
        *next += 1;
        assert_eq!(
            event["streamversion"], *next,
            "law 5: {stream} has a gap or a repeat"
        );
        assert!(
            ids.insert(event["id"].as_str().expect("an id")),
            "law 2: an event twice"
        );
    }
    for (stream, positions) in &acknowledged.streams {
        assert_eq!(
            versions.get(stream).copied().unwrap_or(0),
            positions.len() as u64,
            "law 2: {stream}: acknowledged and stored differ"
        );
    }
    let known: HashSet<&str> = acknowledged.streams.keys().map(String::as_str).collect();
    for stream in versions
        .keys()
        .filter(|s| s.starts_with("instance/") || s.starts_with("load/"))
    {
        assert!(
            known.contains(stream.as_str()),
            "{stream} was never acknowledged"
        );
    }
}

/// Law 9 over everything consumed: every event of the feed came, byte for byte (law 8), and the
/// first coming of each stream's versions is in order.
pub fn check_kafka(consumed: &[Consumed], feed: &[Value]) {
    let mut newest: HashMap<String, u64> = HashMap::new();
    let mut came: HashMap<String, Value> = HashMap::new();
    for message in consumed {
        let event: Value = serde_json::from_slice(&message.value).expect("an envelope");
        let (stream, version) = (
            stream_of(&event),
            event["streamversion"].as_u64().expect("n"),
        );
        let seen = newest.entry(stream.clone()).or_default();
        assert!(
            version <= *seen + 1,
            "law 9: {stream} {version} came right after {seen}"
        );
        *seen = (*seen).max(version);
        assert_eq!(
            message.headers["ce_id"],
            event["id"].as_str().expect("an id")
        );
        assert_eq!(message.key, stream);
        let topic = match event["streamtype"].as_str().expect("a type") {
            own @ ("database" | "class" | "instance") => format!("oms.{own}"),
            _ => "oms.stream".to_owned(),
        };
        assert_eq!(message.topic, topic);
        came.insert(event["id"].as_str().expect("an id").to_owned(), event);
    }
    for event in feed {
        let mut bare = event.clone();
        bare.as_object_mut().expect("an object").remove("position");
        let id = bare["id"].as_str().expect("an id");
        assert_eq!(
            came.get(id),
            Some(&bare),
            "law 9: {} did not come",
            event["position"]
        );
    }
}
