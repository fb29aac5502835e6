//! The nemesis: a seeded campaign of faults against real nodes under load, and a validator that
//! knows the laws.
//!
//! ```text
//!   seed ─▶ clients ─▶ nodes (behind proxies) ─▶ S3, PostgreSQL, Kafka
//!       └─▶ nemesis ──▲──────▲                        │
//!              history ──────┴───▶ validator ◀────────┘ what is there in the end
//! ```
//!
//! A campaign is repeated with `OMS_NEMESIS_SEED`; `OMS_NEMESIS_SECONDS` makes it longer, and
//! `OMS_NEMESIS_CLIENTS` and `OMS_NEMESIS_NODES` larger. The seed decides what is done and broken;
//! when exactly each answer comes is the machine's affair.
//!
//! A binary of its own: faults last for seconds by the clock while nodes are under load, and a suite
//! beside it would take the processors that the load needs. The feature `flaws` builds it alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "histories carry more than one check looks at")]

mod calls;
mod clients;
mod cluster;
mod collect;
mod copies;
mod faults;
mod history;
#[cfg(feature = "flaws")]
mod mutation;
#[cfg(feature = "flaws")]
mod ordeal;
mod overload;
mod proof;
mod report;
mod roles;
mod rolling;
mod two_nodes;
mod validator;
mod validator_tests;

use std::time::{Duration, Instant};

use oms_testkit::service::PATIENCE;

use clients::Shared;
use cluster::Cluster;
use faults::Nemesis;

/// The binary under test.
const OMS: &str = env!("CARGO_BIN_EXE_oms");

/// The campaign that is run when nobody names another: it begins in `legacy`. By hand, take any:
/// `OMS_NEMESIS_SEED=$RANDOM`.
const SEED: u64 = 102;

/// Long enough in CI for a dozen faults of every family.
const SECONDS: u64 = 14;
const CLIENTS: usize = 6;
const NODES: usize = 2;

/// Small enough that what happens rarely (checkpoints, snapshots, passivation, eviction) happens
/// all the time.
const SETTINGS: [(&str, &str); 5] = [
    ("OMS__LOG__CHECKPOINT_COMMITS", "40"),
    ("OMS__ACTORS__SNAPSHOT_EVERY", "5"),
    ("OMS__ACTORS__IDLE_AFTER", "700ms"),
    ("OMS__ACTORS__MAX_LIVE_AGGREGATES", "40"),
    ("OMS__LOG__BATCH_EVENTS", "8"),
];

/// In two of four campaigns the broker holds the relays' fences.
const FENCED: (&str, &str) = ("OMS__KAFKA__TRANSACTIONS", "true");

/// In every other campaign a put is given up before its client gives up, who then is told whether
/// something was done; in the others the client gives up first, and the answer comes too late.
const SOON_GIVEN_UP: (&str, &str) = ("OMS__LOG__APPEND_DEADLINE", "1s");

fn knob(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => otherwise,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laws_1_to_13_nothing_is_lost_doubled_reordered_or_invented_whatever_is_broken() {
    let seed = knob("OMS_NEMESIS_SEED", SEED);
    let seconds = knob("OMS_NEMESIS_SECONDS", SECONDS);
    let clients = knob("OMS_NEMESIS_CLIENTS", CLIENTS as u64) as usize;
    let nodes = knob("OMS_NEMESIS_NODES", NODES as u64) as usize;
    eprintln!("OMS_NEMESIS_SEED={seed} OMS_NEMESIS_SECONDS={seconds}");
    let begun = Instant::now();
    // A store begins in any of the modes.
    let mode = ["legacy", "dual_write", "s3_only"][(seed % 3) as usize];
    let mut settings = SETTINGS.to_vec();
    settings.push(("OMS__MIGRATION__MODE", mode));
    if seed.is_multiple_of(2) {
        settings.push(SOON_GIVEN_UP);
    }
    if seed % 4 < 2 {
        settings.push(FENCED);
    }
    let mut cluster = Cluster::start(nodes, &settings).await;
    let urls = cluster.nodes.iter().map(|n| n.url.clone()).collect();
    let shared = Shared::new(urls, cluster.http.clone());
    shared.prepare().await;
    let started = begun.elapsed();
    let load = shared.start(clients, seed);
    let mut nemesis = Nemesis::new(seed);
    nemesis
        .run(&mut cluster, Duration::from_secs(seconds))
        .await;
    // After everything is whole again the service must be as good as before.
    let done = shared.done();
    let healed = Instant::now();
    while shared.done() < done + 10 * clients && healed.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let recovered = healed.elapsed();
    nemesis.walk_home(&cluster).await;
    shared.stop();
    for client in load {
        client.await.expect("a client");
    }
    // Long campaigns have more to be read, compared and audited in the end.
    let settle = collect::SETTLE + Duration::from_secs(seconds) / 10;
    let found = collect::collect_within(&cluster, settle).await;
    let history = shared.history();
    let verdict = validator::judge(&history, &found);
    let report = report::Report {
        seed,
        started,
        recovered,
        total: begun.elapsed(),
        waits: &found.took,
        shared: &shared,
        nemesis: &nemesis,
        verdict: &verdict,
    };
    eprintln!("{report}");
    for node in &cluster.nodes {
        for error in node.internal_errors() {
            eprintln!("node {}: {error}", node.index);
        }
    }
    let unanswered = shared.unanswered.lock().expect("lock").clone();
    let sound = verdict.violations.is_empty() && nemesis.wrong.is_empty() && unanswered.is_empty();
    if !sound {
        eprintln!("{}", nemesis.story());
        for node in &cluster.nodes {
            eprintln!("--- node {}\n{}", node.index, node.log_tail(80));
            for path in ["/api/v1/admin/migration", "/api/v1/admin/actors"] {
                let told = node
                    .send(&cluster.http, reqwest::Method::GET, path, None)
                    .await;
                let told = told.map(|(_, body)| body.to_string());
                eprintln!("--- node {} {path}: {told:?}", node.index);
            }
        }
    }
    assert!(
        sound,
        "seed {seed}:\n{:#?}\n{:#?}\nunanswered {unanswered:#?}",
        verdict.violations, nemesis.wrong
    );
}
