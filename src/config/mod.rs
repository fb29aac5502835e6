//! The configuration: defaults < `oms.toml` < environment < flags, validated as a whole. Every
//! default is a constant that says why; a section without an address selects the embedded part.
//!
//! * [`layers`]: the sources of values; [`legacy_env`]: variables of the service that this one
//!   replaces
//! * [`problems`]: collects everything that is wrong, to report it at once
//! * [`secret`]: values that are never shown; [`secret_files`]: secrets read from files
//! * [`endpoints`]: addresses of a running service
//! * one file for each section

pub mod actors;
pub mod audit;
pub mod auth;
pub mod chaos;
pub mod duration;
pub mod embedded;
pub mod endpoints;
pub mod http;
pub mod kafka;
mod kafka_options;
pub mod layers;
mod legacy_env;
pub mod log;
pub mod migration;
pub mod oidc;
pub mod postgres;
pub mod problems;
pub mod projection;
pub mod relay;
pub mod roles;
pub mod s3;
pub mod secret;
mod secret_files;
pub mod setting;
pub mod sources;
pub mod telemetry;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use figment::value::{Dict, Value};
use figment::{Figment, Profile, error::Kind};
use serde::{Deserialize, Serialize};

use self::layers::Sources;
use self::problems::{ConfigError, Problem, Problems};
use crate::store::adapters::postgres::connection::environment::Environment;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the embedded parts keep their data and `endpoints.json` is written.
    pub data_dir: PathBuf,
    /// The parts this process runs.
    pub roles: roles::Roles,
    /// The HTTP server.
    pub http: http::HttpConfig,
    /// Who may do what.
    pub auth: auth::AuthConfig,
    /// The audit trail: what administrators ordered, and who was turned away.
    pub audit: audit::AuditConfig,
    /// The event store's bucket.
    pub s3: s3::S3Config,
    /// How commits are formed and read.
    pub log: log::LogConfig,
    /// The outbox and the read model.
    pub postgres: postgres::PostgresConfig,
    /// Where events are published.
    pub kafka: kafka::KafkaConfig,
    /// From the outbox to Kafka.
    pub relay: relay::RelayConfig,
    /// From the log into the read model.
    pub projection: projection::ProjectionConfig,
    /// The embedded parts.
    pub embedded: embedded::EmbeddedConfig,
    /// Threads and limits of the actors.
    pub actors: actors::ActorsConfig,
    /// Failures on purpose, for tests.
    pub chaos: chaos::ChaosConfig,
    /// The migration: how it begins, what its gates ask, how fast history is copied.
    pub migration: migration::MigrationConfig,
    /// Logs and traces.
    pub telemetry: telemetry::TelemetryConfig,
    /// What PostgreSQL's own variables (`PGSSLMODE`, …) fill in.
    #[serde(skip)]
    pub(crate) environment: Environment,
}

/// Data directory if none is configured.
pub const DEFAULT_DATA_DIR: &str = "./oms-data";

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: DEFAULT_DATA_DIR.into(),
            roles: Default::default(),
            http: Default::default(),
            auth: Default::default(),
            audit: Default::default(),
            s3: Default::default(),
            log: Default::default(),
            postgres: Default::default(),
            kafka: Default::default(),
            relay: Default::default(),
            projection: Default::default(),
            embedded: Default::default(),
            actors: Default::default(),
            chaos: Default::default(),
            migration: Default::default(),
            telemetry: Default::default(),
            environment: Default::default(),
        }
    }
}

/// Type errors that are collected before the rest is left for the next attempt.
const MAX_TYPE_ERRORS: usize = 100;

impl Config {
    /// Reads and validates; the error lists everything that is wrong.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let figment = layers::assemble(sources, &mut problems);
        let mut config = Self::extract(&figment, &mut problems);
        let env = sources.env.iter();
        config.environment = Environment::of(env.map(|(name, value)| (&**name, &**value)));
        config.auth.read_file(&mut problems);
        config.check(&mut problems);
        if problems.0.is_empty() {
            return Ok(config);
        }
        for problem in &mut problems.0 {
            if problem.origin.is_none() {
                let source = figment.find_metadata(&problem.key);
                problem.origin = source.map(|m| m.name.to_string());
            }
        }
        Err(ConfigError {
            problems: problems.0,
        })
    }

    /// Deserializes the configuration. A value of the wrong type is recorded and removed, so that
    /// its default applies and the other values are still checked.
    fn extract(figment: &Figment, problems: &mut Problems) -> Self {
        let mut values = match figment::Provider::data(figment) {
            Ok(mut profiles) => profiles.remove(&Profile::Default).unwrap_or_default(),
            Err(error) => {
                problems.0.extend(error.into_iter().map(|e| describe(&e)));
                return Self::default();
            }
        };
        for _ in 0..MAX_TYPE_ERRORS {
            let layer = figment::providers::Serialized::defaults(&values);
            match Figment::from(layer).extract_lossy() {
                Ok(config) => return config,
                Err(error) => {
                    for error in error {
                        let problem = describe(&error);
                        let removed = remove(&mut values, &problem.key);
                        problems.0.push(problem);
                        if !removed {
                            return Self::default();
                        }
                    }
                }
            }
        }
        Self::default()
    }

    fn check(&self, problems: &mut Problems) {
        self.roles.check(problems);
        self.http.check(problems);
        self.auth.check(problems);
        self.audit.check(problems);
        self.s3.check(problems);
        self.log.check(problems);
        self.postgres.check(problems, &self.environment);
        self.kafka.check(problems);
        self.relay.check(problems);
        self.projection.check(problems);
        self.actors.check(problems);
        self.migration.check(problems, &self.environment);
        self.telemetry.check(problems);
        problems.require(
            !self.data_dir.as_os_str().is_empty(),
            "data_dir",
            "must not be empty",
        );
        problems.require(
            self.http.is_loopback() || self.auth.is_required(),
            "http.host",
            "is reachable from other machines: that needs auth.tokens, auth.tokens_file or auth.oidc; without these bind 127.0.0.1",
        );
        problems.require(
            !self.http.cors_origins.iter().any(|o| o == "*") || self.auth.is_required(),
            "http.cors_origins",
            "`*` needs auth.tokens or auth.oidc: without them every web page could do everything; name the origins",
        );
        problems.require(
            self.http.request_deadline >= self.log.append_deadline,
            "http.request_deadline",
            "must be at least log.append_deadline, or requests would give up on writes in flight",
        );
        problems.require(
            self.http.max_body_bytes.saturating_mul(2) <= self.log.batch_bytes,
            "http.max_body_bytes",
            "must be at most half of log.batch_bytes, or the largest command would not fit a commit",
        );
        problems.require(
            (1024..=self.log.batch_bytes / 2).contains(&self.migration.max_event_bytes),
            "migration.max_event_bytes",
            "must be at least 1024 and at most half of log.batch_bytes, or an imported event would not fit a commit",
        );
    }

    /// For each of S3, PostgreSQL and Kafka its address, or that it is embedded and why; for
    /// `config print` and the log at start.
    pub fn parts(&self) -> [(&'static str, String); 3] {
        let embedded = |why: &str| format!("embedded ({why} not set)");
        let s3 = match (&self.s3.endpoint, &self.s3.region) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(region)) => format!("AWS, {region}"),
            (None, None) => embedded("s3.endpoint and s3.region"),
        };
        let postgres = match &self.postgres.url {
            Some(url) => url.to_string(),
            None => embedded("postgres.url"),
        };
        let kafka = match &self.kafka.bootstrap {
            Some(bootstrap) => bootstrap.clone(),
            None => embedded("kafka.bootstrap"),
        };
        [("s3", s3), ("postgres", postgres), ("kafka", kafka)]
    }

    /// The configuration as TOML that can be read back, with secrets redacted.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut text = String::new();
        for (part, what) in self.parts() {
            text.push_str(&format!("# {part}: {what}\n"));
        }
        text.push('\n');
        text.push_str(&toml::to_string(self)?);
        Ok(text)
    }
}

/// Number of cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn describe(error: &figment::Error) -> Problem {
    let message = match &error.kind {
        Kind::UnknownField(_, expected) => {
            format!("there is no such key; there are: {}", expected.join(", "))
        }
        kind => kind.to_string(),
    };
    Problem {
        key: error.path.join("."),
        message,
        origin: None,
    }
}

/// Removes the value with a dotted key; the keys of a table may contain dots themselves.
fn remove(values: &mut Dict, key: &str) -> bool {
    if values.remove(key).is_some() {
        return true;
    }
    key.match_indices('.').any(|(at, _)| {
        let rest = &key[at + 1..];
        match values.get_mut(&key[..at]) {
            Some(Value::Dict(_, inner)) => remove(inner, rest),
            Some(Value::Array(_, items)) => {
                let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
                let item = index.parse().ok().and_then(|i: usize| items.get_mut(i));
                match item {
                    Some(Value::Dict(_, inner)) if !rest.is_empty() => remove(inner, rest),
                    // An element of a list is wrong: the whole list is removed.
                    Some(_) => values.remove(&key[..at]).is_some(),
                    None => false,
                }
            }
            _ => false,
        }
    })
}
