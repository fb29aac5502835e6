//! Links within the repository: the file is there, and the heading in it too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{read, root};

/// Documents that are in no folder of documents.
const SINGLE: [&str; 5] = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "deploy/RUNBOOK.md",
];

/// Folders all of whose pages are documents.
const FOLDERS: [&str; 3] = ["docs", "docs/decisions", "examples"];

/// The index of the records of decisions.
const DECISIONS: &str = "docs/decisions/README.md";

/// Every document, beneath the repository.
pub fn documents() -> Vec<String> {
    let mut found: Vec<String> = SINGLE.iter().map(|path| (*path).to_owned()).collect();
    for folder in FOLDERS {
        let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
        for entry in entries {
            let name = entry.expect("an entry").file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".md") {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    found.sort();
    assert!(found.len() > 15, "the documents are found: {found:?}");
    found
}

/// The lines that are prose: not in a fence, and without what stands in backticks.
fn prose(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The same without code.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Anchors of the headings as code hosts and mdBook make them: lower case, words joined by hyphens,
/// the second of one name numbered.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in prose(page).iter().filter(|line| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        });
        let anchor: String = kept.collect();
        let again = (1..).map(|n| format!("{anchor}-{n}"));
        let free = std::iter::once(anchor.clone()).chain(again);
        let free = free.into_iter().find(|a| !found.contains(a));
        found.extend(free);
    }
    found
}

/// Where the links of a page lead, in its own words: `[…](target)` and `[name]: target`.
fn targets(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    // A link's text may be broken over two lines.
    let text = prose(page).join("\n");
    for (at, _) in text.match_indices("](") {
        let target = text[at + 2..].split(')').next().unwrap_or_default();
        found.push(target.to_owned());
    }
    for line in prose(page) {
        if line.starts_with('[')
            && let Some((_, target)) = line.split_once("]: ")
        {
            found.push(target.trim().to_owned());
        }
    }
    found
}

/// Names that links use, `[text][name]` or `[name]` alone, and those that lines `[name]: target`
/// define.
fn references(page: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut used, mut defined) = (BTreeSet::new(), BTreeSet::new());
    for line in prose(page).iter().filter(|line| !line.starts_with('#')) {
        if line.starts_with('[')
            && let Some((name, _)) = line[1..].split_once("]: ")
        {
            defined.insert(name.to_owned());
            continue;
        }
        let line = without_code(line);
        for (at, _) in line.match_indices('[') {
            // What is followed by `(` or `[` is a link's text.
            if let Some((name, rest)) = line[at + 1..].split_once(']')
                && !rest.starts_with(['(', '['])
                && !name.contains('[')
            {
                used.insert(name.to_owned());
            }
        }
    }
    (used, defined)
}

/// A path without `..`, as far as it stays within the repository.
fn resolved(page: &str, target: &str) -> PathBuf {
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    let mut path = PathBuf::new();
    for part in folder.join(target).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{page}: {target} leaves the repository"),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = Vec::new();
    let mut seen = 0;
    for page in documents() {
        let text = read(&page);
        for target in targets(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, anchor) = match target.split_once('#') {
                Some((file, anchor)) => (file, Some(anchor)),
                None => (target.as_str(), None),
            };
            let path = match file {
                "" => PathBuf::from(&page),
                file => resolved(&page, file),
            };
            let there = root().join(&path).exists();
            let heading = anchor.is_none_or(|anchor| {
                let file = path.to_string_lossy();
                there && file.ends_with(".md") && anchors(&read(&file)).contains(anchor)
            });
            if !there || !heading {
                dead.push(format!("{page}: {target}"));
            }
        }
        let (used, defined) = references(&text);
        dead.extend(
            used.difference(&defined)
                .map(|name| format!("{page}: [{name}] is not defined")),
        );
        dead.extend(
            defined
                .difference(&used)
                .map(|name| format!("{page}: [{name}] is not used")),
        );
    }
    assert!(seen > 50, "the links are found");
    assert!(
        dead.is_empty(),
        "links that lead nowhere:\n{}",
        dead.join("\n")
    );
}

#[test]
fn every_page_is_in_the_index_and_in_the_book() {
    let own = ["docs/README.md", "docs/SUMMARY.md", "docs/RUNBOOK.md"];
    for index in ["docs/README.md", DECISIONS, "docs/SUMMARY.md"] {
        let named: BTreeSet<PathBuf> = targets(&read(index))
            .iter()
            .map(|target| resolved(index, target.split('#').next().unwrap_or_default()))
            .collect();
        for page in documents().iter().filter(|page| page.starts_with("docs/")) {
            let is_record = page.starts_with("docs/decisions/") && page != DECISIONS;
            let belongs_there = match index {
                "docs/README.md" => !is_record,
                DECISIONS => is_record,
                _ => true,
            };
            let is_named = named.contains(Path::new(page)) || own.contains(&page.as_str());
            assert!(is_named || !belongs_there, "{index} does not name {page}");
        }
    }
}

#[test]
fn links_and_anchors_are_read_as_code_hosts_read_them() {
    let page = "# A title: with `code`, twice\n## B\n## B\n```\n# none\n[a](b)\n```\n[a\nb](c#d) [e][f] [h] `[i]`\n[f]: g\n[h]: k\n";
    let expected = ["a-title-with-code-twice", "b", "b-1"].map(str::to_owned);
    assert_eq!(anchors(page), BTreeSet::from(expected));
    assert_eq!(targets(page), ["c#d", "g", "k"]);
    let names = BTreeSet::from(["f", "h"].map(str::to_owned));
    assert_eq!(references(page), (names.clone(), names));
}
