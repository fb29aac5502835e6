//! The clients: few, seeded, and stubborn: each repeats a command under its key, at any node, until
//! it knows what became of it ([`crate::calls`]). What they do is decided by the seed; only the times are not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::calls::{Request, Stubborn};
use crate::history::{Asked, History, Outcome, Read, ReadKind};

pub const DB: &str = "nemesis";
pub const CLASS: &str = "Thing";

/// How long a client waits.
#[derive(Clone, Copy)]
pub struct Patience {
    /// For an answer; then the try is of unknown outcome.
    pub answer: Duration,
    /// For the outcome of a command, over all its tries.
    pub command: Duration,
}

impl Patience {
    /// For an answer less than what the service allows itself, so that late answers really happen;
    /// for a command far above the longest fault.
    pub const LONG: Self = Self {
        answer: Duration::from_secs(4),
        command: Duration::from_secs(90),
    };
}

/// Streams that all clients contend for.
const SHARED: usize = 3;

/// Pause between commands: the point is interleaving, not throughput.
const THINK: std::ops::Range<u64> = 0..15;

/// What all clients share.
pub struct Shared {
    pub urls: Vec<String>,
    pub http: reqwest::Client,
    pub patience: Patience,
    begun: Instant,
    stop: AtomicBool,
    rest: AtomicBool,
    /// Clients that are doing something.
    busy: AtomicUsize,
    pub history: Mutex<History>,
    /// What is known of the shared streams' versions.
    versions: Mutex<[u64; SHARED]>,
    /// Tries that failed and were repeated.
    pub retries: AtomicU64,
    /// Longest time until a command's outcome was known, in microseconds.
    pub longest: AtomicU64,
    /// Answers by status.
    pub answers: Mutex<BTreeMap<u16, u64>>,
    /// Commands that nobody answered within [`Patience::command`].
    pub unanswered: Mutex<Vec<String>>,
}

/// An instance of one client's own.
#[derive(Clone)]
struct Own {
    id: String,
    version: u64,
    alive: bool,
    position: String,
}

/// One client.
pub struct Client {
    pub shared: Arc<Shared>,
    pub number: usize,
    pub rng: StdRng,
    commands: u64,
    ledger: u64,
    instances: Vec<Own>,
}

impl Shared {
    pub fn new(urls: Vec<String>, http: reqwest::Client) -> Arc<Self> {
        Self::with(Patience::LONG, urls, http)
    }

    /// With another patience.
    pub fn with(patience: Patience, urls: Vec<String>, http: reqwest::Client) -> Arc<Self> {
        Arc::new(Self {
            urls,
            http,
            patience,
            begun: Instant::now(),
            stop: AtomicBool::new(false),
            rest: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            history: Mutex::default(),
            versions: Mutex::default(),
            retries: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            answers: Mutex::default(),
            unanswered: Mutex::default(),
        })
    }

    /// Makes what the load writes into.
    pub async fn prepare(self: &Arc<Self>) {
        let mut client = Client::new(self.clone(), usize::MAX, 0);
        client
            .call(
                "database/nemesis".into(),
                Asked::Prepare,
                Request::post("/api/v1/databases".into(), json!({"name": DB})),
                None,
                true,
            )
            .await;
        let class = json!({"id": CLASS, "label": "Thing", "properties": [
            {"name": "n", "type": "integer", "required": true},
            {"name": "by", "type": "string"}, {"name": "note", "type": "string"}]});
        client
            .call(
                format!("class/{DB}/{CLASS}"),
                Asked::Prepare,
                Request::post(format!("/api/v1/databases/{DB}/classes"), class),
                None,
                true,
            )
            .await;
    }

    /// Starts the clients.
    pub fn start(self: &Arc<Self>, clients: usize, seed: u64) -> Vec<tokio::task::JoinHandle<()>> {
        (0..clients)
            .map(|number| tokio::spawn(Client::new(self.clone(), number, seed).run()))
            .collect()
    }

    /// Ends the load after the commands that are under way.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Has the load rest, or go on; answers when it does.
    pub async fn rest(&self, rest: bool) {
        self.rest.store(rest, Ordering::SeqCst);
        while rest && self.busy.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Commands whose outcome is known so far.
    pub fn done(&self) -> usize {
        self.history.lock().expect("lock").calls.len()
    }

    /// What was seen.
    pub fn history(&self) -> History {
        self.history.lock().expect("lock").clone()
    }

    /// Microseconds on the campaign's clock.
    pub fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }
}

impl Client {
    /// The client of this number, which decides by this seed.
    pub fn new(shared: Arc<Shared>, number: usize, seed: u64) -> Self {
        let mix = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            shared,
            number,
            rng: StdRng::seed_from_u64(seed ^ mix),
            commands: 0,
            ledger: 0,
            instances: Vec::new(),
        }
    }

    async fn run(mut self) {
        while !self.shared.stop.load(Ordering::SeqCst) {
            self.shared.busy.fetch_add(1, Ordering::SeqCst);
            if !self.shared.rest.load(Ordering::SeqCst) {
                self.something().await;
            }
            self.shared.busy.fetch_sub(1, Ordering::SeqCst);
            let pause = self.rng.random_range(THINK);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn something(&mut self) {
        match self.rng.random_range(0..100) {
            0..22 => self.append_to_own().await,
            22..40 => self.append_to_shared().await,
            40..48 => drop(self.append_once(&self.number.to_string()).await),
            48..62 => self.create().await,
            62..80 => self.patch().await,
            80..86 => self.delete().await,
            _ => self.read().await,
        }
    }

    /// A key of its own for the next command.
    pub fn key(&mut self) -> String {
        self.commands += 1;
        match self.number {
            usize::MAX => format!("prepare-{}", self.commands),
            number => format!("c{number}-{}", self.commands),
        }
    }

    /// Events whose text tells whether it was kept byte for byte.
    fn events(&mut self, key: u64) -> Vec<(String, String)> {
        let count = self.rng.random_range(1..4);
        (0..count)
            .map(|i| {
                let n = self.rng.random_range(0..1000);
                let data = format!(r#"{{"key":{key}, "i":{i},"amount":{n}.50,"s":"ä\u00e4"}}"#);
                (["Ticked", "Tocked"][i % 2].to_owned(), data)
            })
            .collect()
    }

    async fn append(
        &mut self,
        stream: (&str, String),
        expected: Option<u64>,
        private: bool,
        stubborn: Stubborn,
    ) -> (u64, Outcome, Option<u64>) {
        let next = self.commands + 1;
        let events = self.events(next);
        let count = events.len() as u64;
        let texts: Vec<String> = events
            .iter()
            .map(|(kind, data)| format!(r#"{{"type":"{kind}","data":{data}}}"#))
            .collect();
        let (kind, id) = stream;
        let request = Request::with(
            reqwest::Method::POST,
            format!("/api/v1/streams/{kind}/{id}/events"),
            format!(r#"{{"events":[{}]}}"#, texts.join(",")),
        );
        let (outcome, actual) = self
            .call_with(
                format!("{kind}/{id}"),
                Asked::Append(events),
                request,
                expected,
                private,
                stubborn,
            )
            .await;
        (count, outcome, actual)
    }

    async fn append_to_own(&mut self) {
        let expected = self.rng.random_bool(0.5).then_some(self.ledger);
        let id = self.number.to_string();
        let (count, outcome, _) = self
            .append(("ledger", id), expected, true, Stubborn::UntilKnown)
            .await;
        if matches!(outcome, Outcome::Acknowledged { .. }) {
            self.ledger += count;
        }
    }

    async fn append_to_shared(&mut self) {
        let which = self.rng.random_range(0..SHARED);
        let known = self.shared.versions.lock().expect("lock")[which];
        let (_, outcome, actual) = self
            .append(
                ("shared", which.to_string()),
                Some(known),
                false,
                Stubborn::UntilKnown,
            )
            .await;
        let version = match outcome {
            Outcome::Acknowledged { version, .. } => Some(version),
            _ => actual,
        };
        let mut versions = self.shared.versions.lock().expect("lock");
        versions[which] = versions[which].max(version.unwrap_or(0));
    }

    /// Appends to a stream where nothing is expected, and takes the first answer or none.
    pub async fn append_once(&mut self, id: &str) -> Outcome {
        let stream = ("scratch", id.to_owned());
        self.append(stream, None, false, Stubborn::Once).await.1
    }

    /// Appends to a stream that has events as if it had none, and takes the first answer or none.
    pub async fn append_anew(&mut self, shared: &str) -> Outcome {
        let stream = ("shared", shared.to_owned());
        self.append(stream, Some(0), false, Stubborn::Once).await.1
    }

    async fn create(&mut self) {
        // Now and then one that was deleted comes back.
        let dead = self.instances.iter().position(|i| !i.alive);
        let place = match dead {
            Some(place) if self.rng.random_bool(0.5) => place,
            _ => {
                self.instances.push(Own {
                    id: format!("{}-{}", self.number, self.instances.len()),
                    version: 0,
                    alive: false,
                    position: String::new(),
                });
                self.instances.len() - 1
            }
        };
        let id = self.instances[place].id.clone();
        let data = json!({"n": self.rng.random_range(0..1_000_000_000), "by": format!("c{}", self.number)});
        let body = json!({"id": id, "data": data});
        let request = Request::post(instances(), body);
        self.change(place, Asked::Create(data), request, None).await;
    }

    async fn patch(&mut self) {
        let Some(place) = self.alive() else {
            return;
        };
        let note = self.rng.random_bool(0.5).then_some("noted");
        let patch = json!({"n": self.rng.random_range(0..1_000_000_000), "note": note});
        let path = format!("{}/{}", instances(), self.instances[place].id);
        let request = Request::with(reqwest::Method::PATCH, path, patch.to_string());
        let expected = self.maybe_version(place);
        self.change(place, Asked::Patch(patch), request, expected)
            .await;
    }

    async fn delete(&mut self) {
        let Some(place) = self.alive() else {
            return;
        };
        let request = Request {
            method: reqwest::Method::DELETE,
            path: format!("{}/{}", instances(), self.instances[place].id),
            body: None,
        };
        let expected = self.maybe_version(place);
        self.change(place, Asked::Delete, request, expected).await;
    }

    fn maybe_version(&mut self, place: usize) -> Option<u64> {
        let version = self.instances[place].version;
        self.rng.random_bool(0.5).then_some(version)
    }

    fn alive(&mut self) -> Option<usize> {
        if self.instances.is_empty() {
            return None;
        }
        let place = self.rng.random_range(0..self.instances.len());
        self.instances[place].alive.then_some(place)
    }

    async fn change(
        &mut self,
        place: usize,
        asked: Asked,
        request: Request,
        expected: Option<u64>,
    ) {
        let stream = format!("instance/{DB}/{CLASS}/{}", self.instances[place].id);
        let lives = asked != Asked::Delete;
        let outcome = self.call(stream, asked, request, expected, true).await;
        if let Outcome::Acknowledged {
            version, position, ..
        } = outcome
        {
            let own = &mut self.instances[place];
            own.version = version;
            own.alive = lives;
            own.position = position;
        }
    }

    async fn read(&mut self) {
        if self.instances.is_empty() {
            return;
        }
        let place = self.rng.random_range(0..self.instances.len());
        let own = self.instances[place].clone();
        let kind = if self.rng.random_bool(0.5) && !own.position.is_empty() {
            ReadKind::OwnWrites
        } else {
            ReadKind::Strong
        };
        let node = self.rng.random_range(0..self.shared.urls.len());
        let path = format!("{}{}/{}", self.shared.urls[node], instances(), own.id);
        let mut request = self
            .shared
            .http
            .get(path)
            .timeout(self.shared.patience.answer);
        if kind == ReadKind::OwnWrites {
            request = request
                .query(&[("consistency", "read_model")])
                .header("X-Min-Position", &own.position);
        }
        let invoked = self.shared.now();
        let Ok(answer) = request.send().await else {
            return;
        };
        let status = answer.status().as_u16();
        self.count(status);
        let seen = match (status, answer.json::<Value>().await) {
            (200, Ok(body)) => Some((body["version"].as_u64().unwrap_or(0), body["data"].clone())),
            (404, Ok(_)) => None,
            // Nothing was promised.
            _ => return,
        };
        let read = Read {
            client: self.number,
            stream: format!("instance/{DB}/{CLASS}/{}", own.id),
            kind,
            invoked,
            seen,
        };
        self.shared.history.lock().expect("lock").reads.push(read);
    }
}

fn instances() -> String {
    format!("/api/v1/databases/{DB}/classes/{CLASS}/instances")
}
