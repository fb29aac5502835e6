//! What goes wrong, when, and how it is put right: decided by the seed, a few at a time, so that
//! every one of them meets a service that has something to lose.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use oms_testkit::proxy::Link;
use oms_testkit::service::PATIENCE;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::cluster::{Cluster, Dependency};

/// Faults outstanding at once at most: with more there would be nobody left to be wrong.
const OUTSTANDING: usize = 3;

/// Kills of one actor of one node in a minute at most: below its limit, beyond which the process
/// ends or goes on without it by design.
const KILLS_A_MINUTE: usize = 7;

/// Threads of a node ended in a minute at most.
const THREADS_A_MINUTE: usize = 2;

/// Exit code of a process whose actor failed beyond its limit.
const ESCALATED: i32 = oms::actors::supervision::policy::EXIT_ESCALATED;

/// Seconds by which a clock leaps at most: two days, so that every age the service knows is passed.
const MAX_LEAP: i64 = 2 * 24 * 3600;

/// Where modes are switched; versions without it are not asked twice.
const MODE: &str = "/api/v1/admin/migration/mode";

/// Actors that are always there; a version without one of them says 404.
const ACTORS: [&str; 7] = [
    "event_store/0",
    "event_store/1",
    "outbox",
    "relay",
    "projection",
    "migration_mode",
    "mirror",
];

/// Something under way that has to be put right.
#[derive(Debug)]
enum Wound {
    /// No process until then.
    Down { node: usize, until: Instant },
    /// Told to end; it is started again when it has.
    Ending { node: usize, deadline: Instant },
    /// Starting; not ready yet.
    Starting { node: usize, deadline: Instant },
    /// Stopped by signal until then.
    Frozen { node: usize, until: Instant },
    /// A broken link until then.
    Link {
        node: usize,
        dependency: Dependency,
        until: Instant,
    },
    /// A clock that is wrong until then, or until the process is started again.
    Clock { node: usize, until: Instant },
}

impl Wound {
    fn process_of(&self) -> Option<usize> {
        match self {
            Self::Down { node, .. }
            | Self::Ending { node, .. }
            | Self::Starting { node, .. }
            | Self::Frozen { node, .. } => Some(*node),
            Self::Link { .. } | Self::Clock { .. } => None,
        }
    }
}

/// The one who breaks things.
pub struct Nemesis {
    rng: StdRng,
    wounds: Vec<Wound>,
    kills: HashMap<(usize, String), Vec<Instant>>,
    has_modes: bool,
    switches: Vec<tokio::task::JoinHandle<(String, u16, String)>>,
    /// Faults so far, by kind.
    pub injected: BTreeMap<String, usize>,
    /// What the service did that no fault explains.
    pub wrong: Vec<String>,
    log: Vec<String>,
    begun: Instant,
}

impl Nemesis {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            wounds: vec![],
            kills: HashMap::new(),
            has_modes: true,
            switches: vec![],
            injected: BTreeMap::new(),
            wrong: vec![],
            log: vec![],
            begun: Instant::now(),
        }
    }

    /// Breaks things for as long as is said, then puts everything right and waits until all nodes
    /// serve.
    pub async fn run(&mut self, cluster: &mut Cluster, for_: Duration) {
        let end = Instant::now() + for_;
        let mut next = Instant::now();
        while Instant::now() < end {
            self.tend(cluster, false).await;
            if self.wounds.len() < OUTSTANDING && Instant::now() >= next {
                self.inject(cluster).await;
                next = Instant::now() + Duration::from_millis(self.rng.random_range(50..300));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.wounds.is_empty() && Instant::now() < deadline {
            self.tend(cluster, true).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for node in &mut cluster.nodes {
            node.links.heal();
            node.until_ready(&cluster.http).await;
        }
    }

    /// What was done, a line each.
    pub fn story(&self) -> String {
        self.log.join("\n")
    }

    fn note(&mut self, kind: String, detail: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        self.log.push(format!("{at:8.3} s  {kind} {detail}"));
        *self.injected.entry(kind).or_default() += 1;
    }

    fn soon(&mut self, millis: std::ops::Range<u64>) -> Instant {
        Instant::now() + Duration::from_millis(self.rng.random_range(millis))
    }

    async fn inject(&mut self, cluster: &mut Cluster) {
        let node = self.rng.random_range(0..cluster.nodes.len());
        let process_is_hurt = self.wounds.iter().any(|w| w.process_of().is_some());
        match self.rng.random_range(0..100) {
            0..24 => self.kill_actor(cluster, node).await,
            24..30 => self.shift_clock(cluster, node).await,
            30..48 => self.arm(cluster, node).await,
            48..54 if !process_is_hurt => {
                cluster.nodes[node].kill_9();
                let until = self.soon(0..800);
                self.wounds.push(Wound::Down { node, until });
                self.note("SIGKILL".into(), &format!("node {node}"));
            }
            54..58 if !process_is_hurt => {
                cluster.nodes[node].signal(Signal::SIGTERM);
                let deadline = Instant::now() + PATIENCE;
                self.wounds.push(Wound::Ending { node, deadline });
                self.note("SIGTERM".into(), &format!("node {node}"));
            }
            58..65 if !process_is_hurt => {
                cluster.nodes[node].signal(Signal::SIGSTOP);
                let until = self.soon(300..3_000);
                self.wounds.push(Wound::Frozen { node, until });
                self.note("SIGSTOP".into(), &format!("node {node}"));
            }
            65..88 => self.break_link(cluster, node),
            88.. if self.has_modes => self.switch_mode(cluster, node),
            _ => {}
        }
    }

    async fn kill_actor(&mut self, cluster: &Cluster, node: usize) {
        if self.wounds.iter().any(|w| w.process_of() == Some(node)) {
            return;
        }
        let path = match self.rng.random_range(0..10) {
            0 => format!("aggregate/ledger/{}", self.rng.random_range(0..4)),
            1 => format!("aggregate/shared/{}", self.rng.random_range(0..3)),
            2 => "aggregate/class/nemesis/Thing".to_owned(),
            _ => ACTORS[self.rng.random_range(0..ACTORS.len())].to_owned(),
        };
        let how = match self.rng.random_range(0..20) {
            0..8 => "panic",
            8..13 => "stop",
            13..17 => "abort",
            17..19 => "hang",
            _ => "arbiter",
        };
        let past = self.kills.entry((node, path.clone())).or_default();
        past.retain(|at| at.elapsed() < Duration::from_secs(60));
        let limit = if path.starts_with("aggregate") {
            3
        } else {
            KILLS_A_MINUTE
        };
        if past.len() >= limit {
            return;
        }
        past.push(Instant::now());
        if how == "arbiter" {
            // It takes its neighbours along, each of whom counts it as a failure.
            let threads = self.kills.entry((node, "threads".into())).or_default();
            threads.retain(|at| at.elapsed() < Duration::from_secs(60));
            if threads.len() >= THREADS_A_MINUTE {
                return;
            }
            threads.push(Instant::now());
        }
        let body = json!({"path": path, "how": how});
        let answer = cluster.nodes[node]
            .send(
                &cluster.http,
                reqwest::Method::POST,
                "/api/v1/admin/actors/kill",
                Some(&body),
            )
            .await;
        let kind = path.split('/').next().unwrap_or_default();
        match answer {
            // 404: an entity that is not in memory at the moment.
            Some((202, _)) => self.note(format!("actor {kind}: {how}"), &format!("node {node}")),
            Some((404, _)) if matches!(kind, "aggregate" | "mirror") => {}
            // It is just being started again.
            Some((409, _)) => {}
            other => self.wrong.push(format!("kill {path} on {node}: {other:?}")),
        }
    }

    /// Arms one of the fail points that somebody came by.
    async fn arm(&mut self, cluster: &Cluster, node: usize) {
        const PATH: &str = "/api/v1/admin/actors/failpoints";
        let (http, node) = (&cluster.http, &cluster.nodes[node]);
        if self
            .wounds
            .iter()
            .any(|w| w.process_of() == Some(node.index))
        {
            return;
        }
        let Some((200, known)) = node.send(http, reqwest::Method::GET, PATH, None).await else {
            return;
        };
        let points = known["points"].as_object().cloned().unwrap_or_default();
        let Some(name) = points
            .keys()
            .nth(self.rng.random_range(0..points.len().max(1)))
        else {
            return;
        };
        // Where the commit point is, more often than elsewhere.
        let name = if self.rng.random_bool(0.4) {
            ["s3.put_if_absent.before", "s3.put_if_absent.after"][self.rng.random_range(0..2)]
        } else {
            name
        };
        let action = match self.rng.random_range(0..10) {
            0..5 => "error",
            5..8 => "delay",
            _ => "panic",
        };
        let past = (self.kills)
            .entry((node.index, "panics at fail points".into()))
            .or_default();
        past.retain(|at| at.elapsed() < Duration::from_secs(60));
        if action == "panic" {
            if past.len() >= 4 {
                return;
            }
            past.push(Instant::now());
        }
        let times = if action == "panic" {
            1
        } else {
            self.rng.random_range(1..5)
        };
        let body = json!({"name": name, "action": action, "times": times,
            "delay_ms": self.rng.random_range(1..1_500)});
        let answer = node
            .send(http, reqwest::Method::POST, PATH, Some(&body))
            .await;
        let detail = format!("node {}: {name}, {times} times", node.index);
        match answer {
            Some((202, _)) => {
                let dependency = name.split('.').next().unwrap_or_default();
                self.note(format!("fail point {dependency}: {action}"), &detail);
            }
            other => self.wrong.push(format!("arm {detail}: {other:?}")),
        }
    }

    /// Lets a clock leap by up to two days, either way.
    async fn shift_clock(&mut self, cluster: &Cluster, node: usize) {
        let wrong = |w: &Wound| matches!(w, Wound::Clock { node: n, .. } if *n == node);
        if self
            .wounds
            .iter()
            .any(|w| w.process_of() == Some(node) || wrong(w))
        {
            return;
        }
        let seconds = self.rng.random_range(-MAX_LEAP..=MAX_LEAP);
        let until = self.soon(300..3_000);
        match set_clock(cluster, node, seconds).await {
            Some((200, _)) => {
                self.wounds.push(Wound::Clock { node, until });
                self.note("clock leaps".into(), &format!("node {node}: {seconds} s"));
            }
            // A version without it.
            Some((404 | 405, _)) => {}
            other => self.wrong.push(format!("clock of {node}: {other:?}")),
        }
    }

    fn break_link(&mut self, cluster: &Cluster, node: usize) {
        let dependency = Dependency::ALL[self.rng.random_range(0..3)];
        let broken = |w: &Wound| matches!(w, Wound::Link { node: n, dependency: d, .. } if *n == node && *d == dependency);
        if self.wounds.iter().any(broken) {
            return;
        }
        let (link, name, long) = match self.rng.random_range(0..6) {
            0 => {
                let by = Duration::from_millis(self.rng.random_range(20..300));
                (Link::Slow(by), "slow", 1_200)
            }
            1 => (Link::Throttled(64 << 10), "throttled", 1_200),
            2 => (Link::Cut, "cut", 1_500),
            3 => (Link::HalfOpen, "half-open", 4_000),
            4 => (Link::Mute, "answers lost", 1_000),
            _ => (Link::Reset, "reset", 500),
        };
        cluster.nodes[node].links.of(dependency).set(link);
        let until = self.soon(50..long);
        self.wounds.push(Wound::Link {
            node,
            dependency,
            until,
        });
        self.note(format!("{dependency:?} {name}"), &format!("node {node}"));
    }

    /// Orders a switch and goes on: it may take longer than the faults around it.
    fn switch_mode(&mut self, cluster: &Cluster, node: usize) {
        let mode = ["legacy", "dual_write", "s3_only"][self.rng.random_range(0..3)];
        let lead = ["postgres", "s3"][self.rng.random_range(0..2)];
        let mut body = json!({"mode": mode, "reason": "nemesis", "force": true});
        if mode == "dual_write" && self.rng.random_bool(0.7) {
            body["lead"] = json!(lead);
        }
        let url = format!("{}{MODE}", cluster.nodes[node].url);
        let request = cluster.http.post(url).json(&body);
        self.switches.push(tokio::spawn(async move {
            let kind = format!("switch to {mode}");
            let Ok(answer) = request.send().await else {
                return (kind, 0, String::new());
            };
            let status = answer.status().as_u16();
            let body: serde_json::Value = answer.json().await.unwrap_or_default();
            let text = [&body["status"], &body["code"], &body["switch"]["error"]];
            let text = text.map(|t| t.as_str().unwrap_or_default()).join(" ");
            (kind, status, text)
        }));
    }

    async fn answers_of_switches(&mut self) {
        for switch in std::mem::take(&mut self.switches) {
            if !switch.is_finished() {
                self.switches.push(switch);
                continue;
            }
            match switch.await.expect("no panic") {
                (_, 404 | 405, _) => self.has_modes = false,
                (kind, 0, _) => self.note(format!("{kind}: no answer"), ""),
                (kind, status, text) => self.note(format!("{kind}: {status}"), &text),
            }
        }
    }

    /// When all is whole again, the whole road is open: to every mode, without an undoing.
    pub async fn walk_home(&mut self, cluster: &Cluster) {
        if !self.has_modes {
            return;
        }
        let (http, node) = (&cluster.http, &cluster.nodes[0]);
        let body = json!({"mode": "s3_only", "reason": "the end", "force": true});
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = node
                .send(http, reqwest::Method::POST, MODE, Some(&body))
                .await;
            match answer {
                Some((404 | 405, _)) => return,
                Some((200, _)) => break,
                other if Instant::now() > deadline => {
                    self.wrong
                        .push(format!("cannot walk to s3_only: {other:?}"));
                    return;
                }
                _ => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
        self.note("the walk home".into(), "");
    }

    /// Puts right what is due, or everything when `all`.
    async fn tend(&mut self, cluster: &mut Cluster, all: bool) {
        self.find_the_dead(cluster);
        self.answers_of_switches().await;
        let now = Instant::now();
        for wound in std::mem::take(&mut self.wounds) {
            match wound {
                Wound::Down { node, until } if all || now >= until => {
                    cluster.nodes[node].spawn();
                    let deadline = now + PATIENCE;
                    self.wounds.push(Wound::Starting { node, deadline });
                }
                Wound::Ending { node, deadline } => match cluster.nodes[node].has_ended() {
                    Some(code) => {
                        if code != 0 {
                            let log = cluster.nodes[node].log_tail(15);
                            self.wrong
                                .push(format!("node {node} ended with {code}:\n{log}"));
                        }
                        self.wounds.push(Wound::Down { node, until: now });
                    }
                    None if now > deadline => {
                        let log = cluster.nodes[node].log_tail(15);
                        self.wrong.push(format!("node {node} does not end:\n{log}"));
                        cluster.nodes[node].kill_9();
                        self.wounds.push(Wound::Down { node, until: now });
                    }
                    None => self.wounds.push(Wound::Ending { node, deadline }),
                },
                Wound::Starting { node, deadline } => {
                    if cluster.nodes[node].is_ready(&cluster.http).await {
                        continue;
                    }
                    if now > deadline {
                        let log = cluster.nodes[node].log_tail(15);
                        self.wrong
                            .push(format!("node {node} is not ready again:\n{log}"));
                    } else {
                        self.wounds.push(Wound::Starting { node, deadline });
                    }
                }
                Wound::Frozen { node, until } if all || now >= until => {
                    cluster.nodes[node].signal(Signal::SIGCONT);
                }
                Wound::Link {
                    node,
                    dependency,
                    until,
                } if all || now >= until => {
                    cluster.nodes[node].links.of(dependency).set(Link::Pass);
                }
                Wound::Clock { node, until } if all || now >= until => {
                    let hurt = self.wounds.iter().any(|w| w.process_of() == Some(node));
                    let healed =
                        !hurt && matches!(set_clock(cluster, node, 0).await, Some((200, _)));
                    if !healed {
                        self.wounds.push(Wound::Clock { node, until });
                    }
                }
                later => self.wounds.push(later),
            }
        }
    }

    /// A process that ends by itself is started again; why it ended is told.
    fn find_the_dead(&mut self, cluster: &mut Cluster) {
        for index in 0..cluster.nodes.len() {
            let ending = |w: &Wound| matches!(w, Wound::Ending { node, .. } if *node == index);
            if self.wounds.iter().any(ending) {
                continue;
            }
            let Some(code) = cluster.nodes[index].has_ended() else {
                continue;
            };
            self.note(
                format!("ended by itself with {code}"),
                &format!("node {index}"),
            );
            if code != ESCALATED {
                let log = cluster.nodes[index].log_tail(15);
                self.wrong
                    .push(format!("node {index} ended by itself with {code}:\n{log}"));
            }
            self.wounds.retain(|w| w.process_of() != Some(index));
            let until = Instant::now();
            self.wounds.push(Wound::Down { node: index, until });
        }
    }
}

async fn set_clock(
    cluster: &Cluster,
    node: usize,
    seconds: i64,
) -> Option<(u16, serde_json::Value)> {
    let path = "/api/v1/admin/chaos/clock";
    let body = json!({"offset_seconds": seconds});
    cluster.nodes[node]
        .send(&cluster.http, reqwest::Method::PUT, path, Some(&body))
        .await
}
