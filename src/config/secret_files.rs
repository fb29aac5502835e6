//! Secrets from files, as container platforms mount them: the key of a secret with `_file` appended
//! names a file that holds the value. Works in the configuration file, in variables
//! (`OMS__S3__SECRET_KEY_FILE`, and `…_FILE` of the old service's variables) and with `--set`.

use std::fs;

use super::problems::{Problem, Problems};
use super::setting::{PREFIX, Setting, key_of};

/// Appended to a key.
const SUFFIX: &str = "_file";

/// Appended to one of the old service's variables.
const VARIABLE_SUFFIX: &str = "_FILE";

/// Keys of secrets; for the last one the file holds JSON, as a variable does.
const KEYS: [&str; 6] = [
    "s3.access_key",
    "s3.secret_key",
    "s3.session_token",
    "postgres.url",
    "postgres.password",
    "kafka.options",
];

/// Every option of librdkafka may be a secret.
const OPTIONS: &str = "kafka.options.";

/// The old service's variables that hold secrets.
pub(super) const VARIABLES: [&str; 4] = [
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "POSTGRES_URL",
    "POSTGRES_PASSWORD",
];

/// The key of the secret, if `key` names a file.
fn secret_of(key: &str) -> Option<&str> {
    let secret = key.strip_suffix(SUFFIX)?;
    let is_source = secret.starts_with("migration.sources.") && secret.ends_with(".url");
    let is_option = secret.len() > OPTIONS.len() && secret.starts_with(OPTIONS);
    (KEYS.contains(&secret) || is_source || is_option).then_some(secret)
}

/// Whether a variable of this name names a file with one of the old service's secrets.
pub(super) fn is_variable(name: &str) -> bool {
    name.strip_suffix(VARIABLE_SUFFIX)
        .is_some_and(|secret| VARIABLES.contains(&secret))
}

/// The content of a file without the final newline.
fn read(path: &str) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("cannot read {path}: {e}"))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(format!("{path} is empty"));
    }
    Ok(text.to_owned())
}

/// Replaces a setting that names a file with one that holds the file's content.
pub(super) fn in_setting(setting: Setting, problems: &mut Problems) -> Option<Setting> {
    if let Some(secret) = secret_of(&setting.key) {
        return match read(&setting.value) {
            Ok(value) => Some(Setting {
                key: secret.to_owned(),
                value,
                origin: setting.origin,
            }),
            Err(message) => {
                problems.0.push(Problem {
                    key: setting.key,
                    message,
                    origin: Some(setting.origin),
                });
                None
            }
        };
    }
    // A table of options in JSON.
    if format!("{}.", setting.key) == OPTIONS
        && let Ok(serde_json::Value::Object(options)) = serde_json::from_str(&setting.value)
        && let Ok(mut table) = toml::Table::try_from(options)
    {
        in_table(&setting.key, &mut table, problems);
        if let Ok(value) = serde_json::to_string(&table) {
            return Some(Setting { value, ..setting });
        }
    }
    Some(setting)
}

/// [`in_setting`] for a table of the configuration file, whose key is `prefix`.
pub(super) fn in_table(prefix: &str, table: &mut toml::Table, problems: &mut Problems) {
    let keys: Vec<String> = table.keys().cloned().collect();
    for name in keys {
        let key = match prefix {
            "" => name.clone(),
            _ => format!("{prefix}.{name}"),
        };
        if let Some(toml::Value::Table(inner)) = table.get_mut(&name) {
            in_table(&key, inner, problems);
            continue;
        }
        let Some(secret) = secret_of(&key) else {
            continue;
        };
        let short = name.trim_end_matches(SUFFIX).to_owned();
        let value = match table.remove(&name) {
            Some(toml::Value::String(path)) => read(&path),
            _ => Err("must be the name of a file".to_owned()),
        };
        if table.contains_key(&short) {
            let message = format!("goes without {secret}: one of them is enough");
            problems.add(key, message);
            continue;
        }
        match value.map(|text| from_text(secret, text)) {
            Ok(value) => {
                table.insert(short, value);
            }
            Err(message) => problems.add(key, message),
        }
    }
}

/// Parses tables as JSON.
fn from_text(secret: &str, text: String) -> toml::Value {
    let json = || serde_json::from_str::<toml::Value>(&text).ok();
    match secret {
        "kafka.options" => json().unwrap_or(toml::Value::String(text)),
        _ => toml::Value::String(text),
    }
}

/// The environment, with the old service's secrets read from their files.
pub(super) fn in_environment(
    env: &[(String, String)],
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let mut all = env.to_vec();
    for (name, path) in env.iter().filter(|(n, v)| is_variable(n) && !v.is_empty()) {
        let secret = name.trim_end_matches(VARIABLE_SUFFIX);
        let problem = if env.iter().any(|(n, v)| n == secret && !v.is_empty()) {
            format!("goes without {secret}: one of them is enough")
        } else {
            match read(path) {
                Ok(value) => {
                    // An empty variable counts as not set.
                    all.retain(|(n, _)| n != secret);
                    all.push((secret.to_owned(), value));
                    continue;
                }
                Err(message) => message,
            }
        };
        problems.add(name.clone(), problem);
    }
    // Which of our own two variables wins must not depend on their order.
    let is_set = |name: &str| env.iter().any(|(n, v)| n == name && !v.is_empty());
    for (name, _) in env.iter().filter(|(_, value)| !value.is_empty()) {
        let secret = name.strip_suffix(VARIABLE_SUFFIX).unwrap_or_default();
        if secret.starts_with(PREFIX) && is_set(secret) && secret_of(&key_of(name)).is_some() {
            let message = format!("goes without {secret}: one of them is enough");
            problems.add(name.clone(), message);
        }
    }
    all
}
