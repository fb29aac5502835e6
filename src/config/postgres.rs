//! PostgreSQL: the outbox and the read model.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::duration;
use super::problems::Problems;
use super::secret::{REDACTED, Secret, TextVisitor};
use crate::store::adapters::postgres::PostgresSettings;
use crate::store::adapters::postgres::connection::environment::Environment;
use crate::store::adapters::postgres::connection::written::Written;
use crate::store::adapters::postgres::connection::{CertificateFiles, Purpose};

/// A connection string. `Debug`, `Display` and `Serialize` omit the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString(String);

impl ConnectionString {
    /// Accepts a URL (`postgres://user:password@host/db`) or key-value pairs (`host=… user=…`), as
    /// [`connection`](crate::store::adapters::postgres::connection) reads them.
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
        let Ok(written) = Written::parse(&self.0) else {
            return f.write_str(REDACTED);
        };
        let places = written.places();
        if let (Some(service), true) = (written.get("service"), places.is_empty()) {
            return write!(f, "service={service}");
        }
        f.write_str("postgres://")?;
        if let Some(user) = written.get("user") {
            f.write_str(user)?;
            if written.get("password").is_some() {
                write!(f, ":{REDACTED}")?;
            }
            f.write_str("@")?;
        }
        f.write_str(&places.join(","))?;
        match written.get("dbname") {
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
    /// PEM file of the authorities that the server's certificate may come from, as `sslrootcert` in
    /// `url`; without it those of the system.
    pub ca: Option<PathBuf>,
    /// PEM file of a certificate to log in with, as `sslcert` in `url`; goes with `client_key`.
    pub client_cert: Option<PathBuf>,
    /// PEM file of its key, unencrypted, as `sslkey` in `url`.
    pub client_key: Option<PathBuf>,
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
            ca: None,
            client_cert: None,
            client_key: None,
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
        let (text, password) = (url.expose().trim(), password.expose());
        Some(ConnectionString::new(if Written::is_url(text) {
            let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
            let sign = if text.contains('?') { '&' } else { '?' };
            format!("{text}{sign}password={password}")
        } else {
            let password = password.replace('\\', r"\\").replace('\'', r"\'");
            format!("{text} password='{password}'")
        }))
    }

    /// Settings of the client; `None` for the embedded server. What `url` leaves open comes from
    /// `environment`.
    pub fn settings(&self, environment: &Environment) -> Option<PostgresSettings> {
        Some(PostgresSettings {
            url: self.connection()?.expose().to_owned(),
            certificates: CertificateFiles {
                ca: self.ca.clone(),
                client_cert: self.client_cert.clone(),
                client_key: self.client_key.clone(),
            },
            environment: environment.clone(),
            ..self.limits()
        })
    }

    /// What holds for the embedded server too.
    pub fn limits(&self) -> PostgresSettings {
        PostgresSettings {
            schema: self.schema.clone(),
            max_connections: self.max_connections,
            statement_timeout: self.statement_timeout,
            ..PostgresSettings::default()
        }
    }

    fn check_address(&self, problems: &mut Problems, environment: &Environment) {
        let Some(url) = &self.url else {
            for (key, is_given) in [
                ("postgres.password", self.password.is_some()),
                ("postgres.ca", self.ca.is_some()),
                ("postgres.client_cert", self.client_cert.is_some()),
                ("postgres.client_key", self.client_key.is_some()),
            ] {
                problems.require(!is_given, key, "goes with postgres.url");
            }
            return;
        };
        let written = Written::parse(url.expose());
        let has_password = written.is_ok_and(|url| url.get("password").is_some());
        problems.require(
            self.password.is_none() || !has_password,
            "postgres.password",
            "is in postgres.url too: once is enough",
        );
        let settings = self.settings(environment);
        let connection = settings.map(|settings| settings.connection(Purpose::Own));
        if let Some(Err(refused)) = connection {
            problems.add("postgres.url", refused.to_string());
        }
    }

    pub(super) fn check(&self, problems: &mut Problems, environment: &Environment) {
        self.check_address(problems, environment);
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
            "jdbc:postgresql://db.example/app?user=me",
            "jdbc:postgresql:app?user=me",
            "postgres://me@db.example/app\n",
            "host=db.example user=me application_name='a://b'",
            "service=shop user=me",
        ] {
            let config = PostgresConfig {
                url: Some(ConnectionString::new(url)),
                password: Some(Secret::new(password)),
                ..PostgresConfig::default()
            };
            let whole = config.connection().unwrap();
            let parsed = Written::parse(whole.expose()).unwrap();
            assert_eq!(parsed.get("password"), Some(password), "{url}");
            assert_eq!(parsed.get("user"), Some("me"));
            assert!(!format!("{config:?}").contains("p@ss"));
        }
        let mut problems = Problems::default();
        let twice = PostgresConfig {
            url: Some(ConnectionString::new("postgres://me:x@db/app")),
            password: Some(Secret::new("y")),
            ..PostgresConfig::default()
        };
        twice.check(&mut problems, &Environment::default());
        let alone = PostgresConfig {
            password: Some(Secret::new("y")),
            ..PostgresConfig::default()
        };
        alone.check(&mut problems, &Environment::default());
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
        for (text, shown) in [
            (
                "postgres://me@[::1]/app?sslmode=verify-full",
                "postgres://me@[::1]:5432/app",
            ),
            (
                "postgres://a:1,b/x?target_session_attrs=primary",
                "postgres://a:1,b:5432/x",
            ),
            (
                "jdbc:postgresql://h/d?user=me&password=hunter2",
                "postgres://me:[redacted]@h:5432/d",
            ),
            ("service=shop", "service=shop"),
        ] {
            assert_eq!(ConnectionString::new(text).to_string(), shown);
        }
        let broken = ConnectionString::new("postgres://me:hunter2@[");
        assert_eq!(format!("{broken:?}"), REDACTED);
    }
}
