//! Who may know whom. Reads the paths that the sources name; code under `#[cfg(test)]` is free.
//!
//! Also guards law 10 from afar: what cannot see PostgreSQL's adapter cannot wait for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may use of the others, as the beginnings of paths. A room always sees itself.
const ALLOWED: &[(&str, &[&str])] = &[
    // The pure core.
    ("domain", &[]),
    ("log", &["domain"]),
    ("migration", &["domain", "log"]),
    ("projection", &["domain", "log"]),
    ("proof", &["domain", "log", "migration"]),
    ("import", &["domain"]),
    // The machine's clock; what is below is given one.
    ("clock", &["domain"]),
    // Laws broken on purpose, in test builds; only what has promises to keep asks there.
    ("flaws", &[]),
    // The ports and their adapters.
    ("metrics", &["domain", "log", "migration", "store::error"]),
    (
        "store",
        &[
            "domain",
            "flaws",
            "import",
            "log",
            "metrics",
            "migration",
            "projection",
            "proof",
        ],
    ),
    (
        "jobs",
        &[
            "clock",
            "domain",
            "log",
            "metrics",
            "migration",
            "proof",
            "store",
        ],
    ),
    (
        "actors",
        &[
            "clock",
            "domain",
            "flaws",
            "import",
            "log",
            "metrics",
            "migration",
            "projection",
            "store",
        ],
    ),
    (
        "service",
        &[
            "actors",
            "clock",
            "domain",
            "flaws",
            "jobs",
            "import",
            "log",
            "metrics",
            "migration",
            "store",
        ],
    ),
    // HTTP knows the service and the words it speaks: what it is asked for and what it answers
    // with, wherever they are defined, but nothing that does anything.
    (
        "http",
        &[
            "actors::supervision::tree",
            "clock",
            "domain",
            "import::progress",
            "metrics",
            "migration",
            "service",
            "store::audit_table",
            "store::delivery",
            "store::failpoint",
            "store::read_model",
        ],
    ),
    // The defaults are those of whoever works by them: there is one set of each.
    (
        "config",
        &[
            "actors::relay",
            "domain",
            "embedded::S3Endpoint",
            "import",
            "migration",
            "store::kafka",
            "store::postgres",
            "store::s3",
        ],
    ),
    ("telemetry", &["actors::supervision", "config", "metrics"]),
    // Usable by others: knows nothing of the service.
    ("embedded", &[]),
    // The composition root and the command line see everything.
];

/// Adapters: only their own kind, the composition root and the command line name them.
const ADAPTERS: &[&str] = &["store::s3", "store::postgres", "store::kafka", "embedded"];
/// Rooms that may name adapters. `config` describes how to reach them.
const SEES_ADAPTERS: &[&str] = &["store", "embedded", "boot", "cli", "config", "main"];

/// Rooms without actors, HTTP, async or I/O.
const PURE: &[&str] = &[
    "domain",
    "import",
    "log",
    "migration",
    "projection",
    "proof",
];
/// What the pure rooms must not name.
const IMPURE: &[&str] = &[
    "actix",
    "actix_web",
    "actix_rt",
    "tokio",
    "futures_util",
    "async_trait",
    "reqwest",
    "tokio_postgres",
    "rdkafka",
    "s3",
    "std::fs",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

struct Source {
    path: PathBuf,
    room: String,
    code: String,
}

fn collect(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The sources without tests and comments.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let sources = paths.into_iter().filter_map(|path| {
        let inside = path.strip_prefix(&root).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name == "tests" || name.ends_with("_tests") || name == "testing" {
            return None;
        }
        let first = inside.components().next().unwrap().as_os_str();
        let room = first.to_str().unwrap().trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let production = text.split("#[cfg(test)]").next().unwrap();
        let lines = production
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n");
        Some(Source { path, room, code })
    });
    sources.collect()
}

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every path in `code` that begins with `start::`, without `start`; groups in braces are taken
/// apart.
fn paths_after(code: &str, start: &str) -> Vec<String> {
    let needle = format!("{start}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&needle) {
        if code[..at]
            .chars()
            .next_back()
            .is_some_and(|c| is_ident(c) || c == ':')
        {
            continue;
        }
        expand(String::new(), &code[at + needle.len()..], &mut found);
    }
    found
}

fn expand(prefix: String, rest: &str, found: &mut Vec<String>) {
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else {
        let end = rest
            .find(|c| !is_ident(c) && c != ':')
            .unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches(':');
        let tail = &rest[end..];
        if rest[..end].ends_with("::") && tail.starts_with('{') {
            expand(format!("{prefix}{path}::"), tail, found);
        } else {
            found.push(format!("{prefix}{path}"));
        }
        return;
    };
    let mut depth = 0;
    let mut start = 0;
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                if !group[start..i].trim().is_empty() {
                    expand(prefix.clone(), &group[start..i], found);
                }
                start = i + 1;
                if c == '}' {
                    return;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

fn begins_with(path: &str, beginning: &str) -> bool {
    path.strip_prefix(beginning)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn paths_are_found_in_every_form() {
    let code =
        "use crate::a::b;\nuse crate::{c::d, e::{f, g::h}};\nlet x = crate::i::j(1); not_crate::k;";
    assert_eq!(
        paths_after(code, "crate"),
        ["a::b", "c::d", "e::f", "e::g::h", "i::j"]
    );
}

#[test]
fn every_room_uses_only_what_it_may() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(allowed) = allowed.get(source.room.as_str()) else {
            let free = ["boot", "cli", "main", "lib"];
            let room = source.room.as_str();
            assert!(free.contains(&room), "say in ALLOWED what {room} may use");
            continue;
        };
        for path in paths_after(&source.code, "crate") {
            let own = begins_with(&path, &source.room);
            if !own && !allowed.iter().any(|a| begins_with(&path, a)) {
                wrong.push(format!("{} uses crate::{path}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_composition_root_sees_adapters() {
    let mut wrong = Vec::new();
    for source in sources() {
        if SEES_ADAPTERS.contains(&source.room.as_str()) {
            continue;
        }
        for path in paths_after(&source.code, "crate") {
            if ADAPTERS.iter().any(|a| begins_with(&path, a)) {
                wrong.push(format!("{} uses crate::{path}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn law_5_only_the_composition_root_hands_out_the_log_for_writing() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for source in sources() {
        let rooms: &[&str] = match source.room.as_str() {
            // Divides the bucket, and gives each part to its owner.
            "boot" | "store" => continue,
            // Hands the custody on to the bucket's custodian.
            "jobs" => &["LogCustody::of", "LogObjects"],
            _ => &["LogCustody", "LogObjects"],
        };
        seen += 1;
        for name in rooms {
            if source.code.contains(name) {
                wrong.push(format!("{} names {name}", source.path.display()));
            }
        }
    }
    assert!(seen > 100, "the sources are found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !PURE.contains(&source.room.as_str()) {
            continue;
        }
        for impure in IMPURE {
            let (first, rest) = impure.split_once("::").unwrap_or((impure, ""));
            let named = paths_after(&source.code, first);
            if named
                .iter()
                .any(|p| rest.is_empty() || begins_with(p, rest))
            {
                wrong.push(format!("{} uses {impure}", source.path.display()));
            }
        }
        if source.code.contains("async fn") || source.code.contains(".await") {
            wrong.push(format!("{} is async", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn actix_stays_in_its_rooms() {
    let mut wrong = Vec::new();
    for source in sources() {
        let free: &[&str] = match source.room.as_str() {
            "http" | "boot" | "main" | "cli" => continue,
            "actors" | "service" | "telemetry" => &["actix", "actix_rt"],
            _ => &[],
        };
        for name in ["actix", "actix_rt", "actix_web"] {
            if !free.contains(&name) && !paths_after(&source.code, name).is_empty() {
                wrong.push(format!("{} uses {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
