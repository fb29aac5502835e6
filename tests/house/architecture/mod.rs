//! Who may know whom, as far as the compiler does not hold it: the crates of the workspace are walls
//! already. Reads the tokens of the sources, so that comments and texts count for nothing, and follows
//! `super::` and what `use` has given another name; what is under `#[cfg(test)]` is free.
//!
//! Also guards law 10 from afar: what cannot see PostgreSQL's adapter cannot wait for it.

mod circles;
mod sources;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sources::{begins_with, sources};

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
    // Whether a file was replaced.
    ("file_stamp", &[]),
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
            "file_stamp",
            "import::progress",
            "log::lead",
            "metrics",
            "migration",
            "service",
            "store::ports::audit_table",
            "store::ports::delivery",
            "store::failpoint",
            "store::ports::read_model",
            "store::traces",
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
            "log::lead",
            "migration",
            "store::adapters::kafka",
            "store::adapters::postgres",
            "store::adapters::s3",
            "store::adapters::tls",
        ],
    ),
    (
        "telemetry",
        &[
            "actors::supervision",
            "clock",
            "config",
            "metrics",
            "store::traces",
        ],
    ),
    // Usable by others: knows nothing of the service.
    ("embedded", &[]),
    // The composition root and the command line see everything.
];

/// Adapters: only their own kind, the composition root and the command line name them.
const ADAPTERS: &[&str] = &["store::adapters", "embedded"];
/// Rooms that may name adapters. `config` describes how to reach them.
const SEES_ADAPTERS: &[&str] = &["store", "embedded", "boot", "cli", "config", "main", "lib"];

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
/// Where the pure rooms may have a static: the scratch memory of pattern searches, on which no answer
/// depends.
const MAY_HAVE_STATICS: &[&str] = &["domain/property/pattern.rs"];

/// Which members of the workspace each of them may use.
const CRATES: &[(&str, &[&str])] = &[
    ("oms-core", &[]),
    ("oms-embedded", &[]),
    ("oms-store", &["oms-core"]),
    ("oms-testkit", &["oms-core", "oms-store"]),
];

/// The libraries of the workspace: where their sources are, by what name others know them, and what
/// stands before their modules when rooms are named.
const LIBRARIES: &[(&str, &str, &str)] = &[
    ("src", "oms", ""),
    ("crates/oms-core/src", "oms_core", ""),
    ("crates/oms-embedded/src", "oms_embedded", "embedded"),
    ("crates/oms-store/src", "oms_store", "store"),
];

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
        for path in &source.named.ours {
            let own = begins_with(path, &source.room);
            if !own && !allowed.iter().any(|a| begins_with(path, a)) {
                wrong.push(format!("{} uses {path}", source.path.display()));
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
        for path in &source.named.ours {
            if ADAPTERS.iter().any(|a| begins_with(path, a)) {
                wrong.push(format!("{} uses {path}", source.path.display()));
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
            // Hands the way of repair into the bucket on.
            "jobs" => &["RepairObjects::of", "LogObjects"],
            _ => &["RepairObjects", "LogObjects"],
        };
        seen += 1;
        for name in rooms {
            let named = source.named.written.iter().chain(&source.named.ours);
            if named.into_iter().any(|path| contains(path, name)) {
                wrong.push(format!("{} names {name}", source.path.display()));
            }
        }
    }
    assert!(seen > 100, "the sources are found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a path has these words in it, one after the other.
fn contains(path: &str, words: &str) -> bool {
    let path: Vec<&str> = path.split("::").collect();
    let words: Vec<&str> = words.split("::").collect();
    path.windows(words.len()).any(|window| window == words)
}

#[test]
fn the_core_is_pure() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for source in sources() {
        if !PURE.contains(&source.room.as_str()) {
            continue;
        }
        seen += 1;
        let path = source.path.display();
        for impure in IMPURE {
            if source.named.names(impure) {
                wrong.push(format!("{path} uses {impure}"));
            }
        }
        let written = &source.named.written;
        if written.contains("async") || written.contains("await") {
            wrong.push(format!("{path} is async"));
        }
        let may = MAY_HAVE_STATICS.iter().any(|f| source.path.ends_with(f));
        if written.contains("static") && !may {
            wrong.push(format!("{path} has a static"));
        }
    }
    assert!(seen > 50, "the sources are found");
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
            if !free.contains(&name) && source.named.names(name) {
                wrong.push(format!("{} uses {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_use_each_other_downwards_and_the_core_nothing_that_does_anything() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let found = fs::read_dir(&root).unwrap().count();
    assert_eq!(found, CRATES.len(), "say in CRATES what each may use");
    for (name, allowed) in CRATES {
        let manifest = fs::read_to_string(root.join(name).join("Cargo.toml")).unwrap();
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            let used = &line[..end];
            if !section.contains("dependencies") || used.is_empty() {
                continue;
            }
            let ours = used == "oms" || used.starts_with("oms-");
            assert!(!ours || allowed.contains(&used), "{name} uses {used}");
            let acts = IMPURE.contains(&used.replace('-', "_").as_str());
            assert!(*name != "oms-core" || !acts, "{name} uses {used}");
        }
    }
}

#[test]
fn the_service_is_built_without_what_its_tests_are_made_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let needs = |section: &str| {
        let (_, rest) = manifest.split_once(&format!("\n{section}\n")).unwrap();
        let section = rest.split("\n[").next().unwrap();
        section.lines().any(|line| line.starts_with("oms-testkit"))
    };
    assert!(needs("[dev-dependencies]") && !needs("[dependencies]"));
}
