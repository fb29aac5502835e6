//! The text for a job that is over or paused.

use serde_json::Value;

use crate::cli::output::{field, table};

/// Differences of a report that are shown; `--json` has them all.
const MAX_SHOWN: usize = 20;

pub(super) fn describe(kind: &str, job: &Value) -> String {
    let report = &job["report"];
    match job["state"].as_str() {
        Some("failed") => return format!("the {kind} failed: {}", field(job, "error")),
        Some("done") => {}
        _ => {
            return format!(
                "the {kind} is {}; `oms {kind} --resume` lets a paused one go on",
                field(job, "state")
            );
        }
    }
    match kind {
        "verify" => describe_verify(report),
        "repair" => describe_repair(report),
        "backfill" => describe_backfill(report),
        _ => describe_any(report),
    }
}

fn rows<'a>(list: &'a Value, columns: &'a [&'a str]) -> impl Iterator<Item = Vec<String>> + 'a {
    let items = list.as_array().into_iter().flatten();
    items.map(move |item| columns.iter().map(|c| field(item, c)).collect())
}

fn sized<const N: usize>(row: Vec<String>) -> [String; N] {
    let mut cells = row.into_iter();
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

fn describe_verify(report: &Value) -> String {
    let columns = [
        "partition",
        "lead",
        "objects",
        "events",
        "streams",
        "unmirrored",
        "divergences",
        "digest",
    ];
    let partitions = rows(&report["partitions"], &columns).map(|mut row| {
        if let Some(digest) = row.last_mut() {
            digest.truncate(16);
        }
        sized(row)
    });
    let mut text = table(columns, partitions);
    let rate = report["rate"].as_f64().unwrap_or_default();
    let seconds = report["seconds"].as_f64().unwrap_or_default();
    text.push_str(&format!(
        "\n{} events in {} objects compared in {seconds:.1} s ({rate:.0} events/s)\n",
        field(report, "events"),
        field(report, "objects"),
    ));
    if report["clean"] == true {
        text.push_str("PostgreSQL and S3 hold the same log as far as both reach\n");
        return text;
    }
    let ahead = report["copies_ahead"].as_array().into_iter().flatten();
    for ahead in ahead.filter_map(Value::as_str) {
        text.push_str(&format!("{ahead}\n\n"));
    }
    text.push_str(&format!(
        "DIVERGENT: {} divergences, {} streams\n\n",
        field(report, "divergences_total"),
        field(report, "divergent_streams"),
    ));
    let columns = [
        "partition",
        "offset",
        "kind",
        "stream",
        "version",
        "right",
        "repair",
        "why",
    ];
    let listed = rows(&report["divergences"], &columns);
    text.push_str(&table(columns, listed.take(MAX_SHOWN).map(sized)));
    more(report, "divergences", &mut text);
    text
}

fn describe_repair(report: &Value) -> String {
    let columns = [
        "partition",
        "offset",
        "kind",
        "stream",
        "repair",
        "outcome",
        "reason",
    ];
    let listed = rows(&report["results"], &columns);
    let mut text = table(columns, listed.take(MAX_SHOWN).map(sized));
    more(report, "results", &mut text);
    let needs_order = report["needs_order"].as_u64().unwrap_or_default();
    text.push_str(&format!(
        "\nrepaired {}, would repair {}, needs an order {needs_order}, gone {}, not repairable {}\n",
        field(report, "repaired"),
        field(report, "would_repair"),
        field(report, "gone"),
        field(report, "not_repairable"),
    ));
    let results = report["results"].as_array().into_iter().flatten();
    let needed: Vec<&str> = results.filter_map(|r| r["needed"].as_str()).collect();
    if !needed.is_empty() {
        text.push_str(
            "\nIn the log that leads nothing is touched that was not named. Look at each \
             (`oms log cat PARTITION/OFFSET`), then name those that are to be replaced or brought \
             back:\n  oms repair",
        );
        for order in needed.iter().take(MAX_SHOWN) {
            text.push_str(&format!(" \\\n    --replace-in-leader {order}"));
        }
        text.push('\n');
    }
    text
}

fn more(report: &Value, key: &str, text: &mut String) {
    let listed = report[key].as_array().map_or(0, Vec::len);
    if listed > MAX_SHOWN {
        text.push_str(&format!("… and {} more: see --json\n", listed - MAX_SHOWN));
    }
}

/// Rows that an import has parked, over all its runs.
pub(super) fn parked(report: &Value) -> u64 {
    report["parked"].as_u64().unwrap_or_default()
}

/// What an import did, and where its parked rows can be seen.
fn describe_backfill(report: &Value) -> String {
    let mut text = describe_any(report);
    let rows = parked(report);
    if rows > 0 {
        let source = field(report, "source").replace('\'', "''");
        let list = field(report, "parked_in");
        text.push_str(&format!(
            "\n{rows} rows are PARKED with their reasons, and what follows them in their streams:\n  \
             SELECT key, foreign_stream, version, reason, detail FROM {list}\n  \
             WHERE source = '{source}' AND reason <> 'after_parked' ORDER BY id;\n\
             Once their cause is gone: oms backfill --source {source} --restart\n"
        ));
    }
    text
}

/// Every member of a report that is a plain value.
fn describe_any(report: &Value) -> String {
    let members = report.as_object().into_iter().flatten();
    let plain = members.filter(|(_, value)| !value.is_array() && !value.is_object());
    table(
        ["what", "value"],
        plain.map(|(key, _)| [key.clone(), field(report, key)]),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verification() -> Value {
        let answer = include_str!("../../../tests/fixtures/answers/verify.json");
        serde_json::from_str(answer).unwrap()
    }

    #[test]
    fn a_verification_shows_what_was_compared() {
        insta::assert_snapshot!(describe("verify", &verification()));
    }

    #[test]
    fn a_verification_shows_what_differs_which_place_is_right_and_what_a_repair_would_do() {
        let mut job = verification();
        let report = &mut job["report"];
        report["clean"] = json!(false);
        report["divergences_total"] = json!(2);
        report["divergent_streams"] = json!(1);
        report["divergences"] = json!([
            { "partition": 1, "offset": 3, "kind": "missing", "right": "postgres",
              "repair": "copy", "why": "S3 lacks the object" },
            { "partition": 1, "offset": 4, "kind": "differs", "stream": "instance/quakes/Quake/q1",
              "version": 2, "right": "postgres", "repair": "replace", "why": "PostgreSQL leads" },
        ]);
        insta::assert_snapshot!(describe("verify", &job));
    }

    #[test]
    fn a_job_that_did_not_end_says_what_to_do() {
        let paused = json!({ "state": "paused", "report": null });
        let failed = json!({ "state": "failed", "error": "the bucket is away", "report": null });
        insta::assert_snapshot!(describe("backfill", &paused), @"the backfill is paused; `oms backfill --resume` lets a paused one go on");
        insta::assert_snapshot!(describe("verify", &failed), @"the verify failed: the bucket is away");
    }
}
