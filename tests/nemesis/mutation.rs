//! The validator's own test: every flaw that the service can be built with must be noticed by what
//! it was made to break, and without a flaw the same ordeals must leave nothing to notice.
//!
//! `OMS_NEMESIS_FLAW` runs the campaign of one flaw alone.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use oms::flaws::{Flaw, VARIABLE};

use crate::clients::{Patience, Shared};
use crate::cluster::Cluster;
use crate::collect::collect_within;
use crate::ordeal::Ordeal;
use crate::validator::{Verdict, judge};

/// Campaigns at a time.
const AT_ONCE: usize = 2;

const CLIENTS: usize = 4;
const SEED: u64 = 7;

/// Commands before and after the ordeal, and how long they are waited for: a broken service may
/// not serve them.
const COMMANDS: usize = 100;
const LOAD: Duration = Duration::from_secs(6);

/// A broken service is not waited for as long as a sound one.
const HASTE: Patience = Patience {
    answer: Duration::from_secs(2),
    command: Duration::from_secs(2),
};
const SETTLE: Duration = Duration::from_secs(5);

/// A sound one is, as long as it takes.
const SOUND_SETTLE: Duration = Duration::from_secs(45);

/// Beside those of every campaign: a put is given up before its client gives up.
const SETTINGS: [(&str, &str); 1] = [("OMS__LOG__APPEND_DEADLINE", "600ms")];

/// A campaign.
struct Trial {
    flaw: Option<Flaw>,
    mode: &'static str,
    nodes: usize,
    ordeals: &'static [Ordeal],
    /// The rules of which one must be broken.
    rules: &'static [&'static str],
}

/// How it went.
struct Outcome {
    trial: Trial,
    verdict: Verdict,
    unanswered: usize,
    commands: usize,
    took: Duration,
}

/// Every flaw with what makes it show and what must notice it.
fn trial(flaw: Flaw) -> Trial {
    use Flaw::*;
    let s3 = |nodes, ordeals, rules| Trial {
        flaw: Some(flaw),
        mode: "s3_only",
        nodes,
        ordeals,
        rules,
    };
    const LOAD: &[Ordeal] = &[Ordeal::Load];
    const KILL: &[Ordeal] = &[Ordeal::Kill];
    match flaw {
        SkipCopy => Trial {
            mode: "dual_write",
            ..s3(1, LOAD, &["law 1: places diverge"])
        },
        AcknowledgeUnwritten => s3(1, KILL, &["law 2: lost"]),
        ForgetKeys => s3(1, LOAD, &["law 2: two answers", "law 2: doubled"]),
        SwallowFailures => s3(
            1,
            &[Ordeal::Refused("s3.put_if_absent.before", 5)],
            &["law 5: chain broken"],
        ),
        DenyUnknown => s3(1, &[Ordeal::LostAnswers], &["law 4: not done, yet there"]),
        SkipVersion => s3(1, LOAD, &["law 5: version gap"]),
        OverwriteCommits => s3(2, LOAD, &["law 2: lost"]),
        AddEvents => s3(1, LOAD, &["law 2: doubled"]),
        IgnoreIfMatch => s3(1, &[Ordeal::Contention], &["law 7: If-Match ignored"]),
        AnswerStale => s3(2, LOAD, &["law 2: refused its own state", "stale read"]),
        ReencodeMessages => s3(1, LOAD, &["law 8: changed on its way"]),
        SettleUnacknowledged => s3(
            1,
            &[Ordeal::Refused("kafka.publish.before", 5)],
            &["law 9: not delivered"],
        ),
        ReorderMessages => s3(1, LOAD, &["law 9: out of order"]),
        AskPostgres => s3(
            1,
            &[Ordeal::WithoutPostgres],
            &["law 10: no write without PostgreSQL"],
        ),
        SkipProjection => s3(1, LOAD, &["law 11: read model differs"]),
        // Which of them sees it hangs on what comes first on a state that is short: a patch, a
        // command that names its version, or a read.
        RebuildShort => s3(
            1,
            KILL,
            &[
                "law 8: changed",
                "law 2: refused its own state",
                "read of what never was",
            ],
        ),
        AdmitAll => s3(1, &[Ordeal::Burst], &["law 13: none turned away"]),
        // The audit sees the record that was not heeded, whatever was lost by that.
        IgnoreFence => s3(
            2,
            &[Ordeal::HandOff],
            &["law 2: lost", "law 5: chain broken"],
        ),
        SkipGates => Trial {
            mode: "dual_write",
            ..s3(1, &[Ordeal::Unproven], &["law 15: no proof"])
        },
    }
}

/// No flaw, and every ordeal.
fn control() -> Trial {
    Trial {
        flaw: None,
        mode: "s3_only",
        nodes: 2,
        ordeals: &[
            Ordeal::Refused("s3.put_if_absent.before", 5),
            Ordeal::LostAnswers,
            Ordeal::Refused("kafka.publish.before", 5),
            Ordeal::Contention,
            Ordeal::Burst,
            Ordeal::Kill,
            Ordeal::WithoutPostgres,
            Ordeal::HandOff,
            Ordeal::Unproven,
        ],
        rules: &[],
    }
}

async fn run(trial: Trial) -> Outcome {
    let begun = Instant::now();
    let mut settings = crate::SETTINGS.to_vec();
    settings.extend(SETTINGS);
    settings.push(("OMS__MIGRATION__MODE", trial.mode));
    settings.extend(trial.flaw.map(|flaw| (VARIABLE, flaw.name())));
    let (patience, settle) = match trial.flaw {
        Some(_) => (HASTE, SETTLE),
        None => (Patience::LONG, SOUND_SETTLE),
    };
    let mut cluster = Cluster::start(trial.nodes, &settings).await;
    let urls = cluster.nodes.iter().map(|n| n.url.clone()).collect();
    let shared = Shared::with(patience, urls, cluster.http.clone());
    shared.prepare().await;
    let load = shared.start(CLIENTS, SEED);
    some_load(&shared).await;
    for ordeal in trial.ordeals {
        ordeal.run(&mut cluster, &shared).await;
        some_load(&shared).await;
    }
    shared.stop();
    for client in load {
        client.await.expect("a client");
    }
    let found = collect_within(&cluster, settle).await;
    let unanswered = shared.unanswered.lock().expect("lock").len();
    let verdict = judge(&shared.history(), &found);
    if !trial.is_as_it_must(&verdict, unanswered) {
        for node in &cluster.nodes {
            eprintln!("--- node {}\n{}", node.index, node.log_tail(40));
        }
    }
    Outcome {
        verdict,
        unanswered,
        commands: shared.done(),
        took: begun.elapsed(),
        trial,
    }
}

async fn some_load(shared: &Shared) {
    let (until, begun) = (shared.done() + COMMANDS, Instant::now());
    while shared.done() < until && begun.elapsed() < LOAD {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Trial {
    fn name(&self) -> &'static str {
        self.flaw.map_or("(none)", Flaw::name)
    }

    fn is_as_it_must(&self, verdict: &Verdict, unanswered: usize) -> bool {
        match self.flaw {
            Some(_) => self.rules.iter().any(|rule| verdict.broke(rule)),
            None => verdict.violations.is_empty() && unanswered == 0,
        }
    }
}

impl Outcome {
    fn row(&self) -> [String; 5] {
        let counts = self.verdict.counts();
        let noticed: Vec<String> = counts
            .iter()
            .map(|(rule, n)| {
                let meant = self.trial.rules.contains(rule);
                format!("{}{rule} ×{n}", if meant { "*" } else { "" })
            })
            .collect();
        [
            self.trial.name().to_owned(),
            self.trial
                .flaw
                .map_or("–".to_owned(), |f| f.law().to_string()),
            format!("{}", self.commands),
            format!("{:.1} s", self.took.as_secs_f64()),
            if noticed.is_empty() {
                "nothing".to_owned()
            } else {
                noticed.join(", ")
            },
        ]
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["flaw", "law", "commands", "took", "noticed by (* as meant)"]);
    for outcome in outcomes {
        table.add_row(outcome.row());
    }
    table.to_string()
}

/// Runs all of them, [`AT_ONCE`] at a time, each on threads of its own: a broker cannot be handed
/// from one to another.
fn run_all(trials: Vec<Trial>) -> Vec<Outcome> {
    let left = Mutex::new(VecDeque::from(trials));
    let next = || left.lock().expect("lock").pop_front();
    let work = || {
        std::iter::from_fn(next)
            .map(|trial| {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build();
                runtime.expect("a runtime").block_on(run(trial))
            })
            .collect::<Vec<Outcome>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let done = threads.into_iter().map(|t| t.join().expect("a campaign"));
        done.flatten().collect()
    })
}

#[test]
fn every_law_that_is_broken_on_purpose_is_noticed_and_a_sound_service_is_found_sound() {
    let only = std::env::var("OMS_NEMESIS_FLAW").ok();
    // The longest first.
    let trials = std::iter::once(control())
        .chain(Flaw::ALL.iter().copied().map(trial))
        .filter(|trial| only.as_deref().is_none_or(|name| name == trial.name()))
        .collect();
    let begun = Instant::now();
    let mut outcomes = run_all(trials);
    outcomes.sort_by_key(|o| o.trial.flaw.map_or(0, |flaw| flaw as usize + 1));
    eprintln!("{}", table(&outcomes));
    eprintln!("all in {:.1} s", begun.elapsed().as_secs_f64());
    let wrong: Vec<String> = outcomes
        .iter()
        .filter(|o| !o.trial.is_as_it_must(&o.verdict, o.unanswered))
        .map(|o| {
            format!(
                "{}: not noticed by {:?}; {} unanswered; {:#?}",
                o.trial.name(),
                o.trial.rules,
                o.unanswered,
                o.verdict.violations
            )
        })
        .collect();
    assert!(!outcomes.is_empty(), "there is no flaw {only:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_flaw_that_is_none_is_no_reason_to_start_without_one() {
    let output = Command::new(crate::OMS)
        .args(["serve", "--port", "0"])
        .env_clear()
        .env(VARIABLE, "skip_copies")
        .output()
        .expect("oms runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("OMS_FLAW=skip_copies is no flaw"), "{told}");
}
