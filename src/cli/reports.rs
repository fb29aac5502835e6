//! Reports of jobs, for a person.

use serde_json::Value;

use super::output::{field, table};

/// Differences shown of a report; `--json` has them all.
const MAX_SHOWN: usize = 20;

/// Rows that an import could not take, of all its runs.
pub(super) fn parked(report: &Value) -> u64 {
    report["parked"].as_u64().unwrap_or_default()
}

/// What an import did, and where what it could not take is.
pub(super) fn describe_backfill(report: &Value) -> String {
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

fn rows<'a>(list: &'a Value, columns: &'a [&'a str]) -> impl Iterator<Item = Vec<String>> + 'a {
    let items = list.as_array().into_iter().flatten();
    items.map(move |item| columns.iter().map(|c| field(item, c)).collect())
}

fn sized<const N: usize>(row: Vec<String>) -> [String; N] {
    let mut cells = row.into_iter();
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

pub(super) fn describe_verify(report: &Value) -> String {
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

pub(super) fn describe_repair(report: &Value) -> String {
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
    text.push_str(&format!(
        "\nrepaired {}, would repair {}, gone {}, not repairable {}\n",
        field(report, "repaired"),
        field(report, "would_repair"),
        field(report, "gone"),
        field(report, "not_repairable"),
    ));
    text
}

fn more(report: &Value, key: &str, text: &mut String) {
    let listed = report[key].as_array().map_or(0, Vec::len);
    if listed > MAX_SHOWN {
        text.push_str(&format!("… and {} more: see --json\n", listed - MAX_SHOWN));
    }
}

/// Whatever is a plain value.
pub(super) fn describe_any(report: &Value) -> String {
    let members = report.as_object().into_iter().flatten();
    let plain = members.filter(|(_, value)| !value.is_array() && !value.is_object());
    table(
        ["what", "value"],
        plain.map(|(key, _)| [key.clone(), field(report, key)]),
    )
}
