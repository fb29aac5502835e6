//! Where values come from, weakest first: the file, the variables of the service that this one
//! replaces, our own variables, flags. Each value remembers its origin, so that an error can name
//! it.

use std::path::{Path, PathBuf};

use figment::providers::Serialized;
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::problems::{Problem, Problems};
use super::setting::{PREFIX, Setting, key_of};
use super::{kafka_options, legacy_env, secret_files};

/// The file that is read if none is named and it exists.
pub const DEFAULT_FILE: &str = "oms.toml";

/// All inputs of a configuration; the defaults come with the types.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file to read. `None`: [`DEFAULT_FILE`] if it exists.
    pub file: Option<PathBuf>,
    /// The environment's variables.
    pub env: Vec<(String, String)>,
    pub flags: Vec<Setting>,
}

impl Sources {
    /// The environment of this process, without file and flags.
    pub fn process() -> Self {
        let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
        let env = std::env::vars_os();
        Self {
            env: env.map(|(name, value)| (text(name), text(value))).collect(),
            ..Self::default()
        }
    }
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.key, value_of(&self.value));
        let mut dict = nested.into_dict().unwrap_or_default();
        kafka_options::flatten(&mut dict);
        Ok(Profile::Default.collect(dict))
    }
}

/// Texts stay texts, so that a key made of digits keeps its zeros; fields of a numeric type parse
/// the text. Lists and tables are parsed as JSON.
fn value_of(text: &str) -> Value {
    if text.starts_with(['[', '{'])
        && let Ok(json) = serde_json::from_str(text)
    {
        return from_json(json);
    }
    Value::from(text)
}

fn from_json(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Empty(Tag::Default, figment::value::Empty::None),
        Json::Bool(b) => Value::from(b),
        Json::Number(n) => Value::from(n.to_string()),
        Json::String(s) => Value::from(s),
        Json::Array(items) => Value::from(items.into_iter().map(from_json).collect::<Vec<_>>()),
        Json::Object(members) => Value::from(
            members
                .into_iter()
                .map(|(k, v)| (k, from_json(v)))
                .collect::<Dict>(),
        ),
    }
}

/// Whether an environment variable of this name affects the configuration.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) || legacy_env::NAMES.contains(&name) || secret_files::is_variable(name)
}

/// Merges the layers. Values that cannot be read are recorded as problems.
pub(super) fn assemble(sources: &Sources, problems: &mut Problems) -> Figment {
    let mut figment = Figment::new();
    let file = match &sources.file {
        Some(path) => Some(path.as_path()),
        None => Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists()),
    };
    if let Some(path) = file {
        match read_file(path) {
            Ok(mut table) => {
                secret_files::in_table("", &mut table, problems);
                figment = figment.merge(File { path, table });
            }
            Err(message) => problems.0.push(Problem {
                key: path.display().to_string(),
                message,
                origin: None,
            }),
        }
    }
    let own = sources.env.iter();
    let own = own
        .filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(name, value)| Setting::variable(key_of(name), name, value));
    let legacy = secret_files::in_environment(&sources.env, problems);
    for setting in legacy_env::settings(&legacy)
        .into_iter()
        .chain(own)
        .filter(|setting| !setting.value.is_empty())
        .chain(sources.flags.iter().cloned())
    {
        if let Some(setting) = secret_files::in_setting(setting, problems) {
            figment = figment.merge(setting);
        }
    }
    figment
}

/// Leaves out the parser's own message, because it quotes the line of the error, which may hold a
/// secret.
fn read_file(path: &Path) -> Result<toml::Table, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"))?;
    text.parse::<toml::Table>().map_err(|e| {
        let upto = e.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..upto]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        format!("line {line}: {}", e.message())
    })
}

struct File<'a> {
    path: &'a Path,
    table: toml::Table,
}

impl Provider for File<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("file {}", self.path.display()))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut layers = Serialized::defaults(&self.table).data()?;
        layers.values_mut().for_each(kafka_options::flatten);
        Ok(layers)
    }
}
