//! What pages name exists: metrics, keys of the configuration, commands with their arguments.

use std::collections::BTreeSet;

use clap::CommandFactory;

use super::links::documents;
use super::{configuration, read};

/// What stands in backticks outside of fences.
fn quoted(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

#[test]
fn metrics_that_pages_name_exist() {
    let declared: BTreeSet<&str> = oms::metrics::ALL.iter().map(|m| m.name).collect();
    let mut seen = 0;
    for path in documents() {
        for word in quoted(&read(&path)) {
            let name = word.split('{').next().unwrap_or_default();
            if name.starts_with("oms_") || name.starts_with("event_store_") {
                let endings = ["_bucket", "_sum", "_count"];
                let whole = endings.iter().find_map(|end| name.strip_suffix(end));
                seen += 1;
                assert!(
                    declared.contains(name) || whole.is_some_and(|name| declared.contains(name)),
                    "{path} names {name}, which is no metric"
                );
            }
        }
    }
    assert!(seen > 100, "the names are found");
}

#[test]
fn keys_of_the_configuration_that_pages_name_exist() {
    let page = configuration::page();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let keys: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    let sections: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'))
        .collect();
    let mut seen = 0;
    for path in documents() {
        for word in quoted(&read(&path)) {
            let key = word.split([' ', '=']).next().unwrap_or_default();
            let Some((section, _)) = key.split_once('.') else {
                continue;
            };
            let is_path = key.contains('/')
                || [".rs", ".toml", ".json", ".md"]
                    .iter()
                    .any(|e| key.ends_with(e));
            if !sections.contains(section) || is_path || key.contains('…') {
                continue;
            }
            seen += 1;
            let known = keys.contains(key)
                || sections.contains(key)
                || key.starts_with("kafka.options.")
                || key
                    .strip_suffix("_file")
                    .is_some_and(|key| keys.contains(key));
            assert!(known, "{path} names {key}, which is no key");
        }
    }
    assert!(seen > 100, "the keys are found");
}

/// The words of a command line, as a shell takes it apart, up to a comment or another command.
fn words(line: &str) -> Vec<String> {
    let (mut found, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => found.extend(word.take()),
            (None, '#' | '&' | '|' | '>') if word.is_none() => return found,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word);
    found
}

#[test]
fn commands_that_pages_show_are_taken() {
    let mut seen = 0;
    for path in documents() {
        let page = read(&path);
        let mut shell = false;
        for (number, line) in (1..).zip(page.lines()) {
            if let Some(info) = line.strip_prefix("```") {
                shell = info.starts_with("sh");
            }
            for command in line.split("&& ").filter(|_| shell) {
                let command = command.trim_start_matches("target/dev-release/");
                // Variables of the environment stand before it.
                let Some(at) = command.find("oms ").filter(|at| {
                    let before = command[..*at].trim();
                    before.is_empty() || before.split(' ').all(|word| word.contains('='))
                }) else {
                    continue;
                };
                // What is left out is no argument.
                let words = words(&command[at..]).into_iter().filter(|word| word != "…");
                seen += 1;
                if let Err(e) = oms::cli::Cli::command().try_get_matches_from(words) {
                    let help = e.exit_code() == 0;
                    assert!(help, "{path}:{number}: {command}\n{e}");
                }
            }
        }
    }
    assert!(seen > 50, "the commands are found: {seen}");
}

#[test]
fn a_command_line_is_taken_apart_as_a_shell_does() {
    let line = "oms mode legacy --reason 'OPS-7: back' # why";
    assert_eq!(
        words(line),
        ["oms", "mode", "legacy", "--reason", "OPS-7: back"]
    );
    assert_eq!(words("oms status | head"), ["oms", "status"]);
}
