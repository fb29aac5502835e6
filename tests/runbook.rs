//! The runbook, run: every block that is marked `sh run`, in order, as an operator types them, and
//! the mode that the page says it is in afterwards. The alert rules: what they name exists.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "end_to_end/contract.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod contract;
#[path = "end_to_end/service.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod service;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;
use service::Service;

const RUNBOOK: &str = include_str!("../deploy/RUNBOOK.md");
const ALERTS: &str = include_str!("../deploy/alerts.yml");
const TRIALS: &str = include_str!("../deploy/alerts_test.yml");

/// What the page says and what is to be done, in order.
#[derive(Debug, PartialEq)]
enum Entry {
    /// A block to be run; the line it begins at.
    Run(usize, String),
    /// "It is now `STAGE`."; its line.
    Stage(usize, String),
}

fn entries(page: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut block: Option<(usize, bool, String)> = None;
    for (number, line) in (1..).zip(page.lines()) {
        if let Some((begun, run, mut text)) = block.take() {
            if line == "```" {
                if run {
                    found.push(Entry::Run(begun, text));
                }
            } else {
                text.push_str(line);
                text.push('\n');
                block = Some((begun, run, text));
            }
        } else if let Some(info) = line.strip_prefix("```") {
            block = Some((number, info == "sh run", String::new()));
        } else if let Some(stage) = line.strip_prefix("It is now `") {
            let stage = stage.strip_suffix("`.").expect("a stage and a full stop");
            found.push(Entry::Stage(number, stage.to_owned()));
        }
    }
    assert!(block.is_none(), "a block has no end");
    found
}

/// Anchors of the headings, as a browser knows them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut fenced = false;
    page.lines()
        .filter(|line| {
            fenced ^= line.starts_with("```");
            !fenced && line.starts_with('#')
        })
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            });
            kept.collect()
        })
        .collect()
}

async fn some_events(service: &Service) {
    for order in 0..40 {
        let path = format!("/api/v1/streams/order/{order}/events");
        let body = json!({ "events": [{ "type": "OrderPlaced", "data": { "number": order } }] });
        let (status, answer) = service.send("POST", &path, Some(body)).await;
        assert_eq!(status, 201, "{answer}");
    }
}

/// Runs a block as an operator would, `oms` being the binary under test.
async fn run(service: &Service, bin: &Path, script: &str) -> std::process::Output {
    let path = std::env::var("PATH").unwrap_or_default();
    tokio::process::Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(service.data_dir())
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("OMS_URL", &service.url)
        // `oms log` goes to the bucket itself and finds it here.
        .env("OMS__DATA_DIR", service.data_dir())
        .kill_on_drop(true)
        .output()
        .await
        .expect("bash runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_every_command_of_the_runbook_does_what_it_says() {
    // The two gates that ask for days, and the game day.
    let env = [
        ("OMS__MIGRATION__GATES__S3_LED_FOR", "0s"),
        ("OMS__MIGRATION__ARCHIVE_AFTER", "0s"),
        ("OMS__CHAOS__ENABLED", "true"),
    ];
    let service = Service::start(&env, &["--mode", "legacy"]).await;
    some_events(&service).await;
    let oms = Path::new(env!("CARGO_BIN_EXE_oms"));
    let bin = oms.parent().expect("a directory");
    let (mut blocks, mut stages) = (0, Vec::new());
    for entry in entries(RUNBOOK) {
        match entry {
            Entry::Run(line, script) => {
                let done = tokio::time::timeout(service::PATIENCE, run(&service, bin, &script));
                let done = done.await.unwrap_or_else(|_| panic!("line {line} hangs"));
                assert!(
                    done.status.success(),
                    "deploy/RUNBOOK.md:{line}: {}\n{script}\n{}{}",
                    done.status,
                    String::from_utf8_lossy(&done.stdout),
                    String::from_utf8_lossy(&done.stderr)
                );
                blocks += 1;
            }
            Entry::Stage(line, stage) => {
                let report = service.get("/api/v1/admin/migration").await;
                assert_eq!(report["stage"], stage, "deploy/RUNBOOK.md:{line}");
                assert_eq!(report["share_ahead"], 0.0, "deploy/RUNBOOK.md:{line}");
                stages.push(stage);
            }
        }
    }
    assert!(blocks >= 10, "the blocks are found");
    for stage in ["legacy", "dual_write/postgres", "dual_write/s3", "s3_only"] {
        assert!(stages.iter().any(|s| s == stage), "{stage} is walked to");
    }
    // And all of it is still there.
    let feed = service.whole_feed().await;
    let drilled = feed.iter().filter(|e| e["streamtype"] == "drill").count();
    assert!(drilled > 0, "the game day was held");
    let orders: Vec<_> = feed.iter().filter(|e| e["streamtype"] == "order").collect();
    assert_eq!(orders.len() + drilled, feed.len());
    let streams: BTreeSet<&str> = orders
        .iter()
        .filter_map(|e| e["subject"].as_str())
        .collect();
    assert_eq!((orders.len(), streams.len()), (40, 40));
}

#[test]
fn blocks_and_stages_are_found_in_their_order() {
    let page = "```sh run\na\n```\nIt is now `legacy`.\n```sh\nb\n```\n```sh run\nc\nd\n```\n";
    let expected = [
        Entry::Run(1, "a\n".into()),
        Entry::Stage(4, "legacy".into()),
        Entry::Run(8, "c\nd\n".into()),
    ];
    assert_eq!(entries(page), expected);
}

#[test]
fn links_within_the_runbook_lead_somewhere() {
    let anchors = anchors(RUNBOOK);
    let links: Vec<&str> = RUNBOOK
        .split("](#")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(!links.is_empty());
    for link in links {
        assert!(anchors.contains(link), "#{link}");
    }
}

/// Names of metrics in a text, without the endings that histograms get.
fn named(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("oms_") || word.starts_with("event_store_"))
        .map(|word| {
            let endings = ["_bucket", "_sum", "_count"];
            let whole = endings.iter().find_map(|end| word.strip_suffix(end));
            whole.unwrap_or(word)
        })
        .filter(|word| !word.ends_with('_'))
        .collect()
}

#[test]
fn every_metric_that_is_alerted_on_or_named_in_the_runbook_exists() {
    let declared: BTreeSet<&str> = oms::metrics::ALL.iter().map(|m| m.name).collect();
    let alerted = named(ALERTS);
    assert!(alerted.len() > 10, "the names are found");
    for name in alerted.union(&named(RUNBOOK)) {
        assert!(
            declared.contains(name),
            "{name} is not in oms::metrics::ALL"
        );
    }
}

/// What the trials themselves say is told by `promtool test rules`, which is not everywhere.
#[test]
fn every_alert_is_tried_until_it_fires() {
    let names = ALERTS
        .lines()
        .filter_map(|l| l.trim().strip_prefix("- alert: "));
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 30, "the rules are found");
    for name in names {
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels:");
        assert!(TRIALS.contains(&fires), "{name} is tried nowhere");
    }
}

#[test]
fn every_alert_says_what_to_do() {
    let anchors = anchors(RUNBOOK);
    let lines = || ALERTS.lines().map(str::trim);
    let alerts = lines().filter(|l| l.starts_with("- alert: ")).count();
    let runbooks: Vec<&str> = lines()
        .filter_map(|l| l.strip_prefix("runbook_url: "))
        .filter_map(|l| {
            Some(
                l.split_once("RUNBOOK.html#")?
                    .1
                    .trim_end_matches(['"', '\'']),
            )
        })
        .collect();
    assert!(alerts > 0);
    assert_eq!(alerts, runbooks.len(), "each alert names one section");
    for anchor in runbooks {
        assert!(anchors.contains(anchor), "#{anchor}");
    }
}

/// A selector of a rule: a metric, and the labels it must have.
#[derive(Debug, PartialEq)]
struct Selector {
    name: String,
    labels: Vec<(String, String)>,
}

/// The selectors in a rule whose growth it looks at: those with a range. Labels that must differ
/// (`!=`) narrow nothing that has to exist.
fn counted(rule: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    for (at, _) in rule.match_indices('[') {
        let before = rule[..at].trim_end();
        let (head, inside) = match before.strip_suffix('}') {
            Some(open) => open.split_once('{').map_or((open, ""), |_| {
                let brace = open.rfind('{').expect("a brace");
                (&open[..brace], &open[brace + 1..])
            }),
            None => (before, ""),
        };
        let name = head
            .rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .next();
        let equals = inside.split(',').filter_map(|label| label.split_once('='));
        let labels = equals
            .filter(|(key, _)| !key.ends_with('!'))
            .map(|(key, value)| (key.trim().to_owned(), value.trim_matches('"').to_owned()));
        found.push(Selector {
            name: name.unwrap_or_default().to_owned(),
            labels: labels.collect(),
        });
    }
    found
}

#[test]
fn selectors_are_found_with_their_labels() {
    let rule = r#"sum by (a) (rate(x_total{k="v",l!="w"}[5m])) > 0 and increase(y[1h]) == 0"#;
    let expected = [
        Selector {
            name: "x_total".into(),
            labels: vec![("k".into(), "v".into())],
        },
        Selector {
            name: "y".into(),
            labels: vec![],
        },
    ];
    assert_eq!(counted(rule), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_3_every_series_whose_growth_a_rule_watches_is_there_before_it_grows() {
    let service = Service::start(
        &[],
        &[
            "--set",
            "migration.sources.shop.preset=message-db",
            "--set",
            "migration.sources.shop.url=postgres://reader@127.0.0.1:1/shop",
        ],
    )
    .await;
    let answer = service.http.get(service.at("/metrics")).send().await;
    let text = answer.expect("an answer").text().await.expect("a text");
    let series: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let rules = ALERTS
        .lines()
        .filter_map(|l| l.trim().strip_prefix("expr: "));
    let watched: Vec<Selector> = rules.flat_map(counted).collect();
    assert!(watched.len() > 10, "the selectors are found: {watched:?}");
    for selector in watched {
        let is_there = series.iter().any(|line| {
            let rest = line.strip_prefix(selector.name.as_str());
            let named = rest.is_some_and(|r| r.starts_with('{') || r.starts_with(' '));
            let has =
                |(key, value): &(String, String)| line.contains(&format!("{key}=\"{value}\""));
            // Prometheus itself adds where a series is from.
            let ours = |(key, _): &&(String, String)| key != "job" && key != "instance";
            named && selector.labels.iter().filter(ours).all(has)
        });
        assert!(is_there, "{selector:?} is not there after a fresh start");
    }
    // Of each family every set of labels that can be known: one that is missed is a rule that
    // sleeps through the first time.
    for known in [
        r#"oms_actor_restarts_total{actor="projection",cause="panic"} 0"#,
        r#"oms_actor_escalations_total{actor="event_store"} 0"#,
        r#"oms_arbiter_restarts_total{arbiter="log"} 0"#,
        r#"oms_handoffs_total{store="s3",outcome="undone"} 0"#,
        r#"oms_switches_total{goal="s3_only",outcome="failed"} 0"#,
        r#"oms_mirror_failures_total{store="postgres",kind="corrupt"} 0"#,
        r#"oms_fallback_reads_total{from="s3",to="postgres",reason="unavailable"} 0"#,
        r#"oms_shadow_reads_total{outcome="differs"} 0"#,
        r#"oms_import_rows_total{source="shop",outcome="parked"} 0"#,
    ] {
        assert!(series.contains(&known), "{known} is not there");
    }
    // Nothing is mirrored, and nobody knows of any difference: gauges say so by their absence.
    for unknown in ["oms_unmirrored_commits", "oms_divergences", " NaN"] {
        assert!(!series.iter().any(|l| l.contains(unknown)), "{unknown}");
    }
}
