//! PostgreSQL: the outbox and the read model.

use std::fmt;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio_postgres::config::Host;

use super::duration;
use super::problems::Problems;
use super::secret::{REDACTED, Secret, TextVisitor};
use crate::store::adapters::postgres::PostgresSettings;

/// A connection string. `Debug`, `Display` and `Serialize` omit the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString(String);

impl ConnectionString {
    /// Accepts a URL (`postgres://user:password@host/db`) or key-value pairs (`host=… user=…`).
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The string including the password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(config) = self.0.parse::<tokio_postgres::Config>() else {
            return f.write_str(REDACTED);
        };
        let hosts: Vec<String> = config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(i, host)| {
                let ports = config.get_ports();
                let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
                match host {
                    Host::Tcp(name) => format!("{name}:{port}"),
                    Host::Unix(path) => format!("{}:{port}", path.display()),
                }
            })
            .collect();
        f.write_str("postgres://")?;
        if let Some(user) = config.get_user() {
            f.write_str(user)?;
            if config.get_password().is_some() {
                write!(f, ":{REDACTED}")?;
            }
            f.write_str("@")?;
        }
        f.write_str(&hosts.join(","))?;
        match config.get_dbname() {
            Some(name) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ConnectionString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConnectionString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(TextVisitor)
            .map(ConnectionString)
    }
}

/// Without `url` the service runs a private server in the data directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresConfig {
    /// Address and credentials of the server. Without it the service runs a server of its own.
    pub url: Option<ConnectionString>,
    /// The password, when it is not in `url`.
    pub password: Option<Secret>,
    /// Schema of all tables of the service; created if missing.
    pub schema: String,
    /// Most connections of this process.
    pub max_connections: usize,
    /// The server ends a statement that runs this long.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        let settings = PostgresSettings::default();
        Self {
            url: None,
            password: None,
            schema: settings.schema,
            max_connections: settings.max_connections,
            statement_timeout: settings.statement_timeout,
        }
    }
}

impl PostgresConfig {
    /// Whether the service runs its own server.
    pub fn is_embedded(&self) -> bool {
        self.url.is_none()
    }

    /// The connection string including the password; `None` for the embedded server.
    pub fn connection(&self) -> Option<ConnectionString> {
        let url = self.url.as_ref()?;
        let Some(password) = &self.password else {
            return Some(url.clone());
        };
        let (text, password) = (url.expose(), password.expose());
        Some(ConnectionString::new(if text.contains("://") {
            let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
            let sign = if text.contains('?') { '&' } else { '?' };
            format!("{text}{sign}password={password}")
        } else {
            let password = password.replace('\\', r"\\").replace('\'', r"\'");
            format!("{text} password='{password}'")
        }))
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if self.password.is_some() {
            let parsed = self.url.as_ref().map(|url| url.expose().parse());
            match parsed {
                None => problems.add("postgres.password", "goes with postgres.url"),
                Some(Ok(url)) if tokio_postgres::Config::get_password(&url).is_some() => {
                    problems.add(
                        "postgres.password",
                        "is in postgres.url too: once is enough",
                    );
                }
                Some(_) => {}
            }
        }
        if let Some(url) = &self.url {
            // The parser's own message is left out: it may quote the string, and with it the
            // password.
            match url.expose().parse::<tokio_postgres::Config>() {
                Ok(parsed) if !parsed.get_hosts().is_empty() => {}
                Ok(_) => problems.add("postgres.url", "names no host"),
                Err(_) => problems.add(
                    "postgres.url",
                    "must be a URL such as postgres://user:password@host:5432/db, or key=value pairs",
                ),
            }
        }
        let bytes = self.schema.as_bytes();
        let fit = bytes.len() <= 63
            && bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_');
        problems.require(
            fit && !self.schema.starts_with("pg_"),
            "postgres.schema",
            "must be a lower-case name of at most 63 letters, digits and `_` that does not begin with pg_",
        );
        problems.require(
            (2..=1000).contains(&self.max_connections),
            "postgres.max_connections",
            "must be between 2 and 1000",
        );
        problems.require(
            self.statement_timeout >= Duration::from_millis(100),
            "postgres.statement_timeout",
            "must be at least 100ms",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_of_its_own_goes_into_every_kind_of_string() {
        let password = r"p@ss/w:rd' \&?=";
        for url in [
            "postgres://me@db.example/app",
            "postgres://me@db.example:5433/app?sslmode=require",
            "host=db.example user=me dbname=app",
        ] {
            let config = PostgresConfig {
                url: Some(ConnectionString::new(url)),
                password: Some(Secret::new(password)),
                ..PostgresConfig::default()
            };
            let whole = config.connection().unwrap();
            let parsed: tokio_postgres::Config = whole.expose().parse().unwrap();
            assert_eq!(parsed.get_password(), Some(password.as_bytes()), "{url}");
            assert_eq!(parsed.get_user(), Some("me"));
            assert!(!format!("{config:?}").contains("p@ss"));
        }
        let mut problems = Problems::default();
        let twice = PostgresConfig {
            url: Some(ConnectionString::new("postgres://me:x@db/app")),
            password: Some(Secret::new("y")),
            ..PostgresConfig::default()
        };
        twice.check(&mut problems);
        let alone = PostgresConfig {
            password: Some(Secret::new("y")),
            ..PostgresConfig::default()
        };
        alone.check(&mut problems);
        assert_eq!(problems.0.len(), 2);
    }

    #[test]
    fn a_connection_string_is_shown_without_its_password() {
        for text in [
            "postgres://me:hunter2@db.example:5433/app",
            "host=db.example port=5433 user=me password='hunter2' dbname=app",
        ] {
            let shown = ConnectionString::new(text).to_string();
            assert_eq!(shown, "postgres://me:[redacted]@db.example:5433/app");
        }
        let broken = ConnectionString::new("postgres://me:hunter2@[");
        assert_eq!(format!("{broken:?}"), REDACTED);
    }
}
