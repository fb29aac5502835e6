//! `docs/GUARANTEES.md`: the tests and the flaws that it names exist, the tests where it says, and it
//! names every flaw. `docs/SECURITY.md`: its tests exist. The functions that `docs/ARCHITECTURE.md` names exist.

use std::collections::BTreeSet;

use oms::flaws::Flaw;

use super::read;
use super::sources::rust_files;

const PAGE: &str = "docs/GUARANTEES.md";

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a word looks like the name of a test: they are sentences, and no metrics.
fn is_test(word: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.matches('_').count() >= 3 && word.chars().all(fits) && !word.starts_with("oms_")
}

#[test]
fn every_test_that_guards_a_promise_exists() {
    tests_exist(PAGE, 30);
}

#[test]
fn every_test_that_shows_a_defence_exists() {
    tests_exist("docs/SECURITY.md", 25);
}

/// At least so many tests are named on this page, and each of them is where it is said to be.
fn tests_exist(name_of_page: &str, at_least: usize) {
    let page = read(name_of_page);
    let named: BTreeSet<&str> = quoted(&page).filter(|word| is_test(word)).collect();
    assert!(named.len() >= at_least, "the names are found: {named:?}");
    let files = rust_files(&["src", "crates", "tests"]);
    for name in named {
        let declaration = format!("fn {name}(");
        let place = place(&page, name);
        let is_there = files
            .iter()
            .any(|file| file.path.contains(place) && file.text.contains(&declaration));
        assert!(
            is_there,
            "{name_of_page} names {name} ({place}), which is no test there"
        );
    }
}

/// Where the page says that a test is, in parentheses after its name; anywhere, if it does not say.
fn place<'p>(page: &'p str, name: &str) -> &'p str {
    let (_, after) = page.split_once(&format!("`{name}`")).unwrap_or_default();
    let told = after.trim_start().strip_prefix('(').unwrap_or_default();
    told.split([',', ')']).next().unwrap_or_default()
}

#[test]
fn the_guide_tells_every_type_of_property_and_its_constraints_as_the_sources_do() {
    let files = rust_files(&["src", "crates"]);
    let file = files
        .iter()
        .find(|file| file.path.ends_with("domain/property/mod.rs"));
    let rows: Vec<&str> = file
        .expect("the types of properties")
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("//! "))
        .filter(|line| line.starts_with("| `"))
        .collect();
    assert!(rows.len() >= 17, "the table is found: {rows:?}");
    let guide = read("docs/HTTP.md");
    for row in rows {
        assert!(
            guide.lines().any(|line| line == row),
            "docs/HTTP.md lacks {row}"
        );
    }
}

#[test]
fn every_function_that_the_walks_through_the_code_name_exists() {
    let page = read("docs/ARCHITECTURE.md");
    let named: BTreeSet<&str> = quoted(&page)
        .filter_map(|word| word.strip_suffix("()"))
        .collect();
    assert!(named.len() >= 10, "the names are found: {named:?}");
    let files = rust_files(&["src", "crates"]);
    for name in named {
        let begins = [format!("fn {name}("), format!("fn {name}<")];
        let is_there = files
            .iter()
            .any(|file| begins.iter().any(|b| file.text.contains(b)));
        assert!(
            is_there,
            "docs/ARCHITECTURE.md names {name}(), which is no function"
        );
    }
}

#[test]
fn every_promise_has_a_row_and_every_flaw_is_in_the_row_of_what_it_breaks() {
    let page = read(PAGE);
    for number in 1..=15 {
        let head = format!("## {number}. ");
        let (_, section) = page
            .split_once(&format!("\n{head}"))
            .unwrap_or_else(|| panic!("{PAGE} has no section {head}"));
        let section = section.split("\n## ").next().unwrap_or_default();
        let words: BTreeSet<&str> = quoted(section).collect();
        assert!(words.iter().any(|w| is_test(w)), "{head} names no test");
        for flaw in Flaw::ALL.iter().filter(|flaw| flaw.law() == number) {
            assert!(
                words.contains(flaw.name()),
                "{head} does not name {}",
                flaw.name()
            );
        }
    }
}
