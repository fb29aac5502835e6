//! The policy on dependencies: each is there for a reason that stands beside it, comes from
//! crates.io, and has a licence we may ship.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Licences that ask for no more than to be named, and MPL-2.0, which asks for its own files only.
const ALLOWED: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {errors}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    packages
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

#[test]
fn every_licence_is_one_we_may_ship() {
    let refused: Vec<String> = packages()
        .iter()
        .filter(|p| !Licence::of(text(p, "license")).is_allowed())
        .map(|p| {
            format!(
                "{} {}: {}",
                text(p, "name"),
                text(p, "version"),
                p["license"]
            )
        })
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn every_dependency_comes_from_the_registry() {
    for package in packages() {
        let source = text(&package, "source");
        let name = text(&package, "name");
        assert!(
            name == "oms"
                || (source.starts_with("registry+") && source.ends_with("/crates.io-index")),
            "{name} comes from {source}"
        );
    }
}

#[test]
fn every_direct_dependency_says_why_it_is_there() {
    let mut section = "";
    let mut direct = 0;
    for line in include_str!("../Cargo.toml").lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies") && !line.is_empty() && !line.starts_with('#') {
            direct += 1;
            let reason = line.rsplit_once(" # ").map(|(_, reason)| reason.trim());
            assert!(reason.is_some_and(|r| r.len() >= 5), "no reason: {line}");
        }
    }
    assert!(direct > 30, "found only {direct} direct dependencies");
}

#[test]
fn no_direct_dependency_is_named_twice_in_different_versions() {
    let packages = packages();
    let oms = packages.iter().find(|p| p["name"] == "oms").unwrap();
    let mut seen = BTreeSet::new();
    for dependency in oms["dependencies"].as_array().unwrap() {
        let key = (text(dependency, "name"), text(dependency, "req"));
        seen.insert(key);
    }
    let names: BTreeSet<&str> = seen.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), seen.len(), "{seen:?}");
}

/// An SPDX expression: `OR` of `AND`s of licences and parenthesised expressions.
#[derive(Debug, PartialEq)]
enum Licence {
    One(String),
    All(Vec<Licence>),
    Any(Vec<Licence>),
}

impl Licence {
    fn of(expression: &str) -> Self {
        // The old spelling of OR.
        let spaced = expression.replace('/', " OR ");
        let spaced = spaced.replace('(', " ( ").replace(')', " ) ");
        let mut words = spaced.split_whitespace().peekable();
        let licence = Self::any(&mut words);
        assert!(words.next().is_none(), "cannot read {expression:?}");
        licence
    }

    fn any<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> Self {
        let mut parts = vec![Self::all(words)];
        while words.next_if_eq(&"OR").is_some() {
            parts.push(Self::all(words));
        }
        Self::Any(parts)
    }

    fn all<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> Self {
        let mut parts = vec![Self::one(words)];
        while words.next_if_eq(&"AND").is_some() {
            parts.push(Self::one(words));
        }
        Self::All(parts)
    }

    fn one<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> Self {
        if words.next_if_eq(&"(").is_some() {
            let inside = Self::any(words);
            assert_eq!(words.next(), Some(")"));
            return inside;
        }
        let mut name = words.next().unwrap_or("no licence").to_owned();
        if words.next_if_eq(&"WITH").is_some() {
            name = format!("{name} WITH {}", words.next().unwrap_or_default());
        }
        Self::One(name)
    }

    fn is_allowed(&self) -> bool {
        match self {
            Self::One(name) => ALLOWED.contains(&name.as_str()),
            Self::All(parts) => parts.iter().all(Self::is_allowed),
            Self::Any(parts) => parts.iter().any(Self::is_allowed),
        }
    }
}

#[test]
fn licence_expressions_are_read_as_they_are_meant() {
    for (expression, allowed) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("MIT/Apache-2.0", true),
        ("ISC AND (GPL-3.0-only OR MIT)", true),
        ("(MIT OR Apache-2.0) AND AGPL-3.0-only", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0 WITH Other-exception", false),
        ("", false),
    ] {
        assert_eq!(
            Licence::of(expression).is_allowed(),
            allowed,
            "{expression}"
        );
    }
}
