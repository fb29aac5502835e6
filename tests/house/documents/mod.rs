//! The documents: the generated pages are those of today's sources, every link leads somewhere, the
//! README is short, and what pages name exists: tests, flaws, functions, metrics, keys, commands.
//!
//! `OMS_WRITE_DOCS=1 cargo test --test house` writes the generated pages anew.

mod cli;
mod configuration;
mod facts;
mod guarantees;
mod links;
mod metrics;
mod sources;
mod style;

use std::fs;
use std::path::PathBuf;

/// Has the generated pages written instead of compared.
const WRITE: &str = "OMS_WRITE_DOCS";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Holds the committed page to the text that it would be generated as now, or writes it.
fn generated(path: &str, text: &str) {
    let file = root().join(path);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&file, text).unwrap_or_else(|e| panic!("{path}: {e}"));
        return;
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    if committed == text {
        return;
    }
    let same = |(old, new): &(&str, &str)| old == new;
    let line = committed.lines().zip(text.lines()).take_while(same).count();
    let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
    panic!(
        "{path} is old, from line {} on:\n  it has     {}\n  it must be {}\nwrite it anew by\n  \
         {WRITE}=1 cargo test --test house",
        line + 1,
        at(&committed),
        at(text),
    );
}

#[test]
fn the_page_of_the_configuration_is_up_to_date() {
    generated("docs/CONFIGURATION.md", &configuration::page());
}

#[test]
fn the_page_of_the_command_line_is_up_to_date() {
    generated("docs/CLI.md", &cli::page());
}

#[test]
fn the_page_of_the_metrics_is_up_to_date() {
    generated("docs/METRICS.md", &metrics::page());
}

#[test]
fn the_description_of_the_api_is_up_to_date() {
    let document = oms::http::openapi::document();
    let text = serde_json::to_string_pretty(&document).expect("JSON");
    generated("docs/openapi.json", &(text + "\n"));
}
