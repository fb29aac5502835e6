//! `docs/CONFIGURATION.md`: every key. Keys and defaults are the program's, types and meanings those
//! of the sources (`src/config`): the comment of a key is its description.

use std::collections::{BTreeMap, BTreeSet};

use oms::config::Config;
use oms::config::layers::{Sources, is_ours};
use oms::config::problems::Problem;
use oms::config::setting::Setting;

use super::read;
use super::sources::rust_files;

const HEAD: &str = "\
# Configuration

<!-- Generated from the sources. Write it anew by: OMS_WRITE_DOCS=1 cargo test --test house -->

Where a value comes from, weakest first: the default, `oms.toml` (or `--config FILE`), the predecessor's environment
variables, `OMS__SECTION__KEY`, flags (`--set section.key=value`, and those of [`oms serve`](CLI.md#oms-serve)).

* Everything is validated at once at start; each error names its key and where the value came from. `oms config check`
  does the same without starting.
* `oms config print` shows every key with its value, secrets redacted, and which of S3, PostgreSQL and Kafka are
  embedded.
* Durations are texts with units: `\"500ms\"`, `\"10s\"`, `\"1m 30s\"`. A bare number is refused.
* In the environment and in flags lists and tables are written as JSON. An empty variable counts as not set.
* A key of `kafka.options` may be given alone: `--set kafka.options.compression.codec=gzip`.
* A key that is not here is refused, by its name.

**Secrets out of files.** A key that is marked with † takes `_file` behind its name, also in the environment
(`OMS__S3__SECRET_KEY_FILE=/run/secrets/s3`): the value is then what the file holds, without its last line end. Of
`kafka.options` the file holds JSON. The same goes for the predecessor's `MINIO_ACCESS_KEY`,
`MINIO_SECRET_KEY`, `POSTGRES_URL` and `POSTGRES_PASSWORD` (`…_FILE`).

A file that has an embedded stack, reached from other machines:

```toml
data_dir = \"/var/lib/oms\"

[http]
host = \"0.0.0.0\"

[[auth.tokens]]              # `oms config token NAME` prints one, with its hash
name = \"ops\"
roles = [\"read\", \"write\", \"admin\"]
sha256 = \"…64 hex digits…\"
```
";

const TAIL: &str = "
## The predecessor's variables

They keep working, and are weaker than `OMS__…`. `MESSAGE_RELAY_POLL_INTERVAL` as a bare number is in seconds. Without
`POSTGRES_URL` the five `POSTGRES_…` parts make one. `ENABLE_S3_EVENT_STORE` with `ENABLE_DUAL_WRITE` chooses
`migration.mode`: anything but `true` in the first means `legacy`; `true` means `dual_write`, and `s3_only` where the
second is there and not `true`. An `OMS_PORT` or `POSTGRES_PORT` of the form `tcp://…` is what Kubernetes tells of a
service of that name, and is ignored. The `OTEL_…` variables are OpenTelemetry's own and go the same way.

| variable | key |
|---|---|
";

/// The predecessor's variables and what they set. `legacy_env.rs` decides; the test below holds this
/// list to its names.
const PREDECESSOR: [(&str, &str); 21] = [
    ("MINIO_ENDPOINT_URL", "s3.endpoint"),
    ("MINIO_ACCESS_KEY", "s3.access_key"),
    ("MINIO_SECRET_KEY", "s3.secret_key"),
    ("EVENT_STORE_BUCKET", "s3.bucket"),
    ("POSTGRES_URL", "postgres.url"),
    ("POSTGRES_HOST", "postgres.url"),
    ("POSTGRES_PORT", "postgres.url"),
    ("POSTGRES_USER", "postgres.url"),
    ("POSTGRES_PASSWORD", "postgres.url"),
    ("POSTGRES_DB", "postgres.url"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka.bootstrap"),
    ("MESSAGE_RELAY_BATCH_SIZE", "relay.batch_size"),
    ("MESSAGE_RELAY_POLL_INTERVAL", "relay.poll_interval"),
    ("LOG_LEVEL", "telemetry.log_level"),
    ("OMS_PORT", "http.port"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("OTEL_TRACES_SAMPLER_ARG", "telemetry.traces_ratio"),
    ("AWS_CA_BUNDLE", "s3.ca"),
    ("OTEL_SERVICE_NAME", "telemetry.service_name"),
    ("ENABLE_S3_EVENT_STORE", "migration.mode"),
    ("ENABLE_DUAL_WRITE", "migration.mode"),
];

/// A field of a struct of the configuration, as written.
struct Field {
    name: String,
    kind: String,
    doc: String,
}

/// Structs with public fields, by name.
type Structs = BTreeMap<String, Vec<Field>>;

/// A key, complete.
struct Key {
    name: String,
    kind: String,
    default: String,
    doc: String,
}

/// The page.
pub fn page() -> String {
    let scanned = Scanned::new();
    let mut page = String::from(HEAD);
    let (sections, top): (Vec<_>, Vec<_>) = scanned.structs["Config"]
        .iter()
        .partition(|field| scanned.structs.contains_key(&field.kind));
    let top: Vec<Key> = top.iter().map(|field| scanned.key("", field)).collect();
    page.push_str("\n## Top\n\n");
    table(&top, &mut page);
    for section in sections {
        scanned.section(&section.name, &section.kind, &section.doc, &mut page);
    }
    page.push_str(TAIL);
    for (variable, key) in PREDECESSOR {
        page.push_str(&format!("| {variable} | `{key}` |\n"));
    }
    page
}

fn table(keys: &[Key], page: &mut String) {
    page.push_str("| key | type | default | environment | meaning |\n|---|---|---|---|---|\n");
    for Key {
        name,
        kind,
        default,
        doc,
    } in keys
    {
        // Items of a list are given with the whole of it.
        let variable = match name.contains(".N.") {
            true => "–".to_owned(),
            false => format!("`OMS__{}`", name.replace('.', "__").to_uppercase()),
        };
        let file = if is_secret(name) { " †" } else { "" };
        page.push_str(&format!(
            "| `{name}`{file} | {kind} | {default} | {variable} | {doc} |\n"
        ));
    }
}

/// What the sources say.
struct Scanned {
    structs: Structs,
    /// Expressions by which defaults follow the machine, by field.
    cores: BTreeMap<String, String>,
    defaults: toml::Table,
}

impl Scanned {
    fn new() -> Self {
        let files = rust_files(&["src/config"]);
        let mut structs = Structs::new();
        let mut cores = BTreeMap::new();
        for file in &files {
            structures(&file.text, &mut structs);
            for line in file.text.lines() {
                // `workers: (cores() / 2).max(1),`
                if let Some((field, rest)) = line.trim().split_once(": (cores() / 2).max(") {
                    let least = rest.trim_end_matches("),");
                    let text = format!("half the cores, at least {least}");
                    cores.insert(field.to_owned(), text);
                }
            }
        }
        Self {
            structs,
            cores,
            defaults: toml::Table::try_from(Config::default()).expect("a table"),
        }
    }

    /// A section and those within it.
    fn section(&self, path: &str, structure: &str, doc: &str, page: &mut String) {
        let fields = &self.structs[structure];
        let told: BTreeSet<String> = known(path).into_iter().collect();
        let written: BTreeSet<String> = fields.iter().map(|field| field.name.clone()).collect();
        assert_eq!(
            told, written,
            "the keys of `{path}`, as the program and its sources have them"
        );
        page.push_str(&format!("\n## `{path}`\n\n{doc}\n\n"));
        let (inner, own): (Vec<&Field>, Vec<&Field>) =
            fields.iter().partition(|field| self.inner(field).is_some());
        let listed = fields.iter().filter(|field| {
            own.iter().any(|own| own.name == field.name) || generic(&field.kind).is_some()
        });
        let keys: Vec<Key> = listed.map(|field| self.key(path, field)).collect();
        if !keys.is_empty() {
            table(&keys, page);
        }
        for field in inner {
            let (structure, place) = self.inner(field).expect("a section");
            let path = format!("{path}.{}{place}", field.name);
            self.section(&path, &structure, &field.doc, page);
        }
    }

    /// The struct that a field holds, and what its keys have between them and the field's.
    fn inner(&self, field: &Field) -> Option<(String, &'static str)> {
        let kind = field.kind.as_str();
        let (structure, place) = match generic(kind) {
            Some(("BTreeMap", arguments)) => (arguments.split(", ").nth(1)?, ".NAME"),
            Some(("Vec", argument)) => (argument, ".N"),
            _ => (kind, ""),
        };
        let known = self.structs.contains_key(structure);
        known.then(|| (structure.to_owned(), place))
    }

    fn key(&self, section: &str, field: &Field) -> Key {
        let name = match section {
            "" => field.name.clone(),
            section => format!("{section}.{}", field.name),
        };
        let default = match (self.cores.get(&field.name), self.default(&name)) {
            (Some(text), _) => text.clone(),
            (None, Some(value)) => shown(&field.name, &value),
            (None, None) => "–".to_owned(),
        };
        Key {
            kind: self.kind(&name, &field.kind),
            default,
            doc: field.doc.clone(),
            name,
        }
    }

    fn default(&self, key: &str) -> Option<toml::Value> {
        let mut parts = key.split('.');
        let first = self.defaults.get(parts.next()?)?.clone();
        parts.try_fold(first, |value, part| value.get(part).cloned())
    }

    /// A type in words.
    fn kind(&self, key: &str, kind: &str) -> String {
        let words = match generic(kind) {
            Some(("Option", inner)) => return self.kind(key, inner),
            Some(("Vec", "String")) => "list of texts",
            Some(("Vec", item)) if self.structs.contains_key(item) => "list of tables",
            Some(("Vec", _)) => return format!("list of {}", variants(key)),
            Some(("BTreeMap", pair))
                if self
                    .structs
                    .contains_key(pair.rsplit(", ").next().unwrap_or(pair)) =>
            {
                "table of tables, by name"
            }
            Some(("BTreeMap", "String, String")) => "table of texts",
            Some(other) => panic!("{key} has a type without words: {other:?}"),
            None => match kind {
                "usize" | "u64" | "u32" | "u16" | "i32" | "i64" => "integer",
                "f64" => "number",
                "bool" => "`true`, `false`",
                "String" => "text",
                "PathBuf" => "path",
                "Duration" => "duration",
                "Timestamp" => "moment, as in RFC 3339",
                "Secret" => "secret",
                "ConnectionString" => "URL, or `key=value` pairs",
                "KafkaOptions" => "table",
                "Roles" => return format!("list of {}", variants(key)),
                _ => return variants(key),
            },
        };
        words.to_owned()
    }
}

/// `Vec<String>` as `Vec` and `String`.
fn generic(kind: &str) -> Option<(&str, &str)> {
    kind.strip_suffix('>')?.split_once('<')
}

/// A default as it would be written, with sizes that a person can read.
fn shown(name: &str, value: &toml::Value) -> String {
    let text = match value {
        toml::Value::String(text) if text.is_empty() => return "–".to_owned(),
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let hours = text.strip_suffix('h').and_then(|h| h.parse::<u64>().ok());
    if let Some(hours) = hours.filter(|h| *h > 24 && h % 24 == 0) {
        return format!("`{text}` ({} days)", hours / 24);
    }
    match value {
        toml::Value::Integer(bytes) if name.contains("bytes") && *bytes > 0 => match bytes {
            b if b % (1 << 20) == 0 => format!("`{text}` ({} MiB)", b >> 20),
            b if b % (1 << 10) == 0 => format!("`{text}` ({} KiB)", b >> 10),
            _ => format!("`{text}`"),
        },
        _ => format!("`{text}`"),
    }
}

/// Every struct with public fields: names, types, and comments with the line breaks taken out.
fn structures(text: &str, found: &mut Structs) {
    let (mut current, mut doc) = (None, Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            current = rest.strip_suffix(" {").map(str::to_owned);
        } else if line == "}" {
            current = None;
        }
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("///") {
            doc.push(comment.trim().to_owned());
        } else if let (Some(name), Some(field)) = (&current, line.strip_prefix("pub ")) {
            if let Some((field, kind)) = field.trim_end_matches(',').split_once(": ") {
                let kind = kind.rsplit("::").next().unwrap_or(kind);
                let doc = doc.join(" ").replace('|', "\\|");
                found.entry(name.clone()).or_default().push(Field {
                    name: field.to_owned(),
                    kind: kind.to_owned(),
                    doc,
                });
            }
            doc.clear();
        } else if !line.starts_with("#[") && !line.ends_with(')') && !line.ends_with(']') {
            // Anything but an attribute, which may be broken over lines.
            if !line.ends_with(',') {
                doc.clear();
            }
        }
    }
}

/// What is wrong with a configuration in which one key has this value.
fn problems(key: &str, value: &str) -> Vec<Problem> {
    let sources = Sources {
        flags: vec![Setting::flag(key, "--set", value)],
        ..Sources::default()
    };
    Config::load(&sources)
        .err()
        .map_or(Vec::new(), |e| e.problems)
}

/// The keys of a section, as the program tells whoever names one that is not there.
fn known(section: &str) -> Vec<String> {
    const WRONG: &str = "no_such_key";
    let problems = match section.strip_suffix(".N") {
        Some(list) => problems(list, &format!("[{{\"{WRONG}\": 1}}]")),
        None => problems(&format!("{section}.{WRONG}"), "1"),
    };
    let told = problems
        .iter()
        .find_map(|problem| problem.message.split_once("there are: "))
        .unwrap_or_else(|| panic!("no keys of {section}: {problems:?}"));
    told.1.split(", ").map(str::to_owned).collect()
}

/// What a key with a choice may be, as the program tells whoever chooses something else.
fn variants(key: &str) -> String {
    const WRONG: &str = "no such choice";
    let problems = match key.split_once(".N.") {
        Some((list, field)) => problems(list, &format!("[{{\"{field}\": [\"{WRONG}\"]}}]")),
        None => problems(key, WRONG),
    };
    let message = problems
        .iter()
        .find_map(|p| {
            p.message
                .split_once("expected ")
                .filter(|(before, _)| before.contains(WRONG))
        })
        .unwrap_or_else(|| panic!("no choices of {key}: {problems:?}"));
    let quoted: Vec<&str> = message.1.split('`').collect();
    let names: Vec<String> = quoted
        .iter()
        .filter(|word| {
            !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        })
        .map(|word| format!("`{word}`"))
        .collect();
    assert!(!names.is_empty(), "no choices of {key}: {}", message.1);
    names.join(", ")
}

/// Whether the value may be in a file that is named instead.
fn is_secret(key: &str) -> bool {
    let nowhere = "/no/such/file";
    let problems = problems(&format!("{key}_file"), nowhere);
    problems
        .iter()
        .any(|problem| problem.message.contains("cannot read"))
}

#[test]
fn the_predecessors_variables_are_all_told() {
    let names: BTreeSet<&str> = PREDECESSOR.iter().map(|(name, _)| *name).collect();
    let source = read("src/config/legacy_env.rs");
    let quoted: BTreeSet<&str> = source
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|word| is_ours(word) && !word.ends_with("_FILE"))
        .collect();
    assert_eq!(names, quoted);
    for (variable, key) in PREDECESSOR {
        let simple = format!("(\"{variable}\", \"{key}\")");
        let set = format!("Setting::variable(\"{key}\"");
        assert!(
            source.contains(&simple) || source.contains(&set),
            "{variable}"
        );
    }
}
