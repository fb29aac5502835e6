//! `docs/METRICS.md`: every metric. Name, kind, unit and meaning are the declarations'; the labels are
//! those with which the sources set it.

use std::collections::{BTreeMap, BTreeSet};

use oms::metrics::{ALL, Kind, Metric};

use super::sources::{Source, rust_files};

const HEAD: &str = "\
# Metrics

<!-- Generated from the sources. Write it anew by: OMS_WRITE_DOCS=1 cargo test --test house -->

`GET /metrics` answers in Prometheus' text format; it needs no token. Histograms are exported as `_bucket`, `_sum` and
`_count`. A gauge of which nothing is known is absent rather than 0; a counter whose labels are known beforehand is
there with 0 from the start. No label is unbounded: ids of streams never become labels, and types of streams and events
that are not the ontology's own are `stream` and `other`.

Rules that alert on them are in [deploy/alerts.yml](../deploy/alerts.yml); what to do then is in the
[runbook](../deploy/RUNBOOK.md). Dashboards that show them: [Grafana](OPERATIONS.md#grafana).

| metric | kind | unit | labels | meaning |
|---|---|---|---|---|
";

/// Functions that set a metric that they are given, and the label they set it with.
const SETTERS: [(&str, &str); 2] = [
    ("partition_gauge(", "partition"),
    ("known_gauge(", "partition"),
];

/// Writes what the system says of the process as text, and with which label.
const TEXT: (&str, &str) = ("src/metrics/process.rs", "{{thread=");

/// The page.
pub fn page() -> String {
    let files = rust_files(&["src", "crates"]);
    let constants = constants(&files);
    let labels = labels(&files);
    let mut page = String::from(HEAD);
    for Metric {
        name,
        kind,
        unit,
        help,
    } in ALL
    {
        let constant = &constants[*name];
        let labels = labels
            .get(constant)
            .unwrap_or_else(|| panic!("nothing in the sources sets {constant}, {name}"));
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let unit = unit.as_str();
        let labels = labels.join(", ");
        page.push_str(&format!(
            "| `{name}` | {kind} | {unit} | {labels} | {help} |\n"
        ));
    }
    page
}

/// The constant of each metric's name, from the table that declares them.
fn constants(files: &[Source]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in files {
        for line in file.text.lines() {
            if let Some((constant, rest)) = line.trim().split_once(" = \"")
                && let Some((name, rest)) = rest.split_once('"')
                && [", Counter,", ", Gauge,", ", Histogram,"]
                    .iter()
                    .any(|k| rest.starts_with(k))
            {
                found.insert(name.to_owned(), constant.to_owned());
            }
        }
    }
    assert_eq!(found.len(), ALL.len(), "the table of the metrics is found");
    found
}

/// The labels with which each constant is set, anywhere.
fn labels(files: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        if file.path.ends_with(TEXT.0) {
            written_as_text(file, &mut found);
        }
        for call in ["counter!(", "gauge!(", "histogram!("] {
            for (at, _) in file.text.match_indices(call) {
                let arguments = arguments(&file.text[at + call.len()..]);
                let Some(constant) = constant(arguments) else {
                    continue;
                };
                let named = found.entry(constant).or_default();
                named.extend(labels_in(arguments, " =>"));
                if arguments.contains("&labels") {
                    // They are in an array above.
                    let above = &file.text[..at];
                    let begin = above.rfind("let labels = [").expect("an array of labels");
                    named.extend(labels_in(&above[begin..], ","));
                }
            }
        }
        for (call, label) in SETTERS {
            for (at, _) in file.text.match_indices(call) {
                if let Some(constant) = constant(arguments(&file.text[at + call.len()..])) {
                    found.entry(constant).or_default().insert(label.to_owned());
                }
            }
        }
    }
    found
}

/// Constants that are written into the exporter's text, each after a parenthesis or a quote.
fn written_as_text(file: &Source, found: &mut BTreeMap<String, BTreeSet<String>>) {
    for (at, _) in file.text.match_indices("(PROCESS_") {
        if let Some(constant) = constant(&file.text[at + 1..]) {
            found.entry(constant).or_default();
        }
    }
    for (at, _) in file.text.match_indices(TEXT.1) {
        let name = file.text[..at].rsplit('{').next().unwrap_or_default();
        let label = TEXT.1.trim_matches(['{', '=']).to_owned();
        let constant = name.trim_end_matches('}').to_owned();
        found.entry(constant).or_default().insert(label);
    }
}

/// What stands before the parenthesis that closes a call.
fn arguments(text: &str) -> &str {
    let mut open = 1;
    let end = text.find(|c| {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        open == 0
    });
    &text[..end.unwrap_or(text.len())]
}

/// The first argument, if it is a constant.
fn constant(arguments: &str) -> Option<String> {
    let first = arguments.split(',').next()?.trim();
    let name = first.rsplit("::").next()?;
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    (!name.is_empty() && name.chars().all(fits)).then(|| name.to_owned())
}

/// The quoted words that are followed by `mark`.
fn labels_in(text: &str, mark: &str) -> Vec<String> {
    let quoted: Vec<&str> = text.split('"').collect();
    let pairs = quoted.windows(2).skip(1).step_by(2);
    pairs
        .filter(|pair| pair[1].starts_with(mark))
        .map(|pair| pair[0].to_owned())
        .collect()
}
