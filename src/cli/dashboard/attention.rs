//! What needs somebody: what it is, and where the runbook says what to do.

use jiff::Timestamp;
use serde_json::Value;

use super::seen::{Part, Seen};
use super::words::{age, duration, number, store};
use crate::cli::output::field;

/// Commits that the copy may lack before it is told.
const LACKS: u64 = 1_000;

/// Something that needs somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Whether writes are refused, or something is wrong for good.
    pub is_bad: bool,
    pub what: String,
    /// The section of the runbook.
    pub section: &'static str,
}

/// What needs somebody, as the health and the figures tell, the worst first.
pub fn attention(seen: &Seen, now: Timestamp) -> Vec<Item> {
    let health = &seen.health;
    let mut items = Vec::new();
    let mut add = |is_bad, what: String, section| {
        items.push(Item {
            is_bad,
            what,
            section,
        });
    };
    let leads = health["lead"].as_str();
    for (name, state) in health["dependencies"].as_object().into_iter().flatten() {
        if state["state"] == "down" {
            let is_leader = leads == Some(name);
            let section = match name.as_str() {
                "s3" => "S3 is down",
                "postgres" => "PostgreSQL is down",
                _ => "Kafka is down",
            };
            let consequence = match is_leader {
                true => "; it leads, so writes are refused",
                false => "",
            };
            let since = age(&state["since"], now);
            let what = format!("{} is down for {since}{consequence}", store(name));
            add(is_leader, what, section);
        }
    }
    if health["reason"] == "storage_full" {
        let what = "no room on the disk: writes are refused".to_owned();
        add(true, what, "The disk is full");
    }
    let not_ready: Vec<String> = texts(&health["not_ready"]);
    if !not_ready.is_empty() {
        let what = format!("partition {} is not open", not_ready.join(", "));
        add(true, what, "Something is halted");
    }
    for halt in health["halted"].as_array().into_iter().flatten() {
        let place = match halt["partition"].as_u64() {
            Some(partition) => format!(" of partition {partition}"),
            None => String::new(),
        };
        let (what, reason) = (field(halt, "what"), field(halt, "reason"));
        let since = age(&halt["since"], now);
        let what = format!("{what}{place} halted for {since}: {reason}");
        add(true, what, "Something is halted");
    }
    for copy in texts(&health["copies"]) {
        add(true, copy, "A copy is not of this log");
    }
    let down = texts(&health["actors_down"]);
    if !down.is_empty() {
        add(
            true,
            format!("actors down: {}", down.join(", ")),
            "An actor escalated",
        );
    }
    let lacking = seen.partitions().filter_map(|p| p["unmirrored"].as_u64());
    let lacking: u64 = lacking.filter(|lacks| *lacks > LACKS).sum();
    if lacking > 0 {
        add(
            false,
            format!("the copy lacks {lacking} commits"),
            "The copy lags",
        );
    }
    let some = |name| seen.latest(name).filter(|n| *n > 0.0);
    if let Some(dead) = some("dead_letters") {
        let what = format!("{} dead letters", number(Some(dead)));
        add(false, what, "Dead letters");
    }
    if let Some(parked) = some("projection_parked") {
        let what = format!("the read model parked {} events", number(Some(parked)));
        add(false, what, "The read model");
    }
    let verified = &seen.part(Part::Verification)["report"];
    if verified["clean"] == false && verified["dry_run"] != true {
        let what = "the last verification found that the stores differ".to_owned();
        add(true, what, "The stores differ");
    }
    if let Some(waits) = seen.latest("outbox_oldest").filter(|s| *s > 60.0) {
        let what = format!(
            "the oldest event waits for {} to be published",
            duration(Some(waits))
        );
        add(false, what, "Kafka is down");
    }
    items.sort_by_key(|item| !item.is_bad);
    items
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|item| {
        item.as_str()
            .map_or_else(|| item.to_string(), str::to_owned)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::seen::Look;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_worst_is_told_first_and_each_has_its_section() {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let mut seen = Seen::default();
        assert_eq!(attention(&seen, now), []);
        let health = json!({
            "lead": "s3", "reason": "storage_full", "not_ready": [1, 2],
            "dependencies": {
                "kafka": { "state": "down", "since": "2026-01-02T03:00:05Z" },
                "s3": { "state": "down", "since": "2026-01-02T03:04:00Z" },
                "postgres": { "state": "up" },
            },
            "halted": [{ "what": "projection", "partition": 3, "since": "2026-01-02T03:04:00Z",
                "reason": "postgres is away" }],
            "copies": ["the outbox is of another log"], "actors_down": ["relay"],
        });
        let metrics = json!({ "times": ["t"],
            "figures": [{ "name": "dead_letters", "values": [2.0] }] });
        seen.add(Look {
            health,
            answers: [(Part::Metrics, metrics)].into(),
            untold: None,
        });
        let items = attention(&seen, now);
        let told: Vec<&str> = items.iter().map(|item| item.what.as_str()).collect();
        assert_eq!(
            told,
            [
                "S3 is down for 5.0 s; it leads, so writes are refused",
                "no room on the disk: writes are refused",
                "partition 1, 2 is not open",
                "projection of partition 3 halted for 5.0 s: postgres is away",
                "the outbox is of another log",
                "actors down: relay",
                "Kafka is down for 4 min",
                "2 dead letters",
            ]
        );
        let runbook = include_str!("../../../deploy/RUNBOOK.md");
        for item in items {
            let heading = format!("# {}\n", item.section);
            assert!(runbook.contains(&heading), "{} is no section", item.section);
        }
    }
}
