//! Builds a pool of connections from settings: URL, session settings, TLS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::errors::invalid;
use crate::error::StoreError;

const CONNECT: &str = "connect";

/// Address of PostgreSQL and settings of its connections.
#[derive(Clone)]
pub struct PostgresSettings {
    /// `postgresql://user:password@host:port/database?sslmode=…`; a directory as `host` is a Unix
    /// socket. With `sslmode` `require`, `verify-ca` or `verify-full` the server's certificate is
    /// verified, name included; any other value means no TLS.
    pub url: String,
    /// The schema that holds all tables; created if missing. `[a-z_][a-z0-9_]{0,62}`.
    pub schema: String,
    /// Connections at most.
    pub max_connections: usize,
    /// How long to wait for a connection to become free, and to be established.
    pub connect_timeout: Duration,
    /// How long one statement may take; the server cancels it then.
    pub statement_timeout: Duration,
    /// PEM file of the certificates to trust instead of the public ones.
    pub tls_roots: Option<PathBuf>,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: "postgresql://postgres@127.0.0.1:5432/oms".into(),
            schema: "oms".into(),
            // Between the 4 that saturate a small server and the 16 that saturate two cores.
            max_connections: 8,
            connect_timeout: Duration::from_secs(3),
            // Far above any of our statements: one that takes longer is stuck.
            statement_timeout: Duration::from_secs(30),
            tls_roots: None,
        }
    }
}

impl std::fmt::Debug for PostgresSettings {
    /// Without the URL, which may contain a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("schema", &self.schema)
            .field("max_connections", &self.max_connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("tls_roots", &self.tls_roots)
            .finish_non_exhaustive()
    }
}

/// Opens connections, with or without TLS.
#[derive(Clone)]
pub(super) struct Connector {
    pub config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Connector {
    pub fn new(settings: &PostgresSettings) -> Result<Self, StoreError> {
        if !is_plain_identifier(&settings.schema) {
            return Err(invalid(
                CONNECT,
                "the schema's name must match [a-z_][a-z0-9_]{0,62}",
            ));
        }
        let mut config = parse(&settings.url)?;
        let tls = match config.get_ssl_mode() {
            SslMode::Require => Some(rustls_connector(settings.tls_roots.as_ref())?),
            _ => {
                config.ssl_mode(SslMode::Disable);
                None
            }
        };
        let own = format!(
            "-c search_path={} -c statement_timeout={}ms -c idle_in_transaction_session_timeout={}ms \
             -c random_page_cost=1.1",
            settings.schema,
            settings.statement_timeout.as_millis(),
            // A transaction that waits for its client keeps the whole server from vacuuming.
            settings.statement_timeout.as_millis() * 2,
            // As for any SSD. With the server's default of 4, a plan that was cached while a table
            // was small still reads all of it for one row when it has grown.
        );
        let options = match config.get_options() {
            Some(given) => format!("{given} {own}"),
            None => own,
        };
        config.options(options);
        if config.get_application_name().is_none() {
            config.application_name("oms");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(settings.connect_timeout);
        }
        if config.get_dbname().is_none() {
            let user = config.get_user().unwrap_or("postgres").to_owned();
            config.dbname(user);
        }
        Ok(Self { config, tls })
    }

    /// For a database that is not ours: no session settings, because it may not know them.
    pub fn foreign(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let mut config = parse(&settings.url)?;
        let tls = match config.get_ssl_mode() {
            SslMode::Require => Some(rustls_connector(settings.tls_roots.as_ref())?),
            _ => {
                config.ssl_mode(SslMode::Disable);
                None
            }
        };
        if config.get_application_name().is_none() {
            config.application_name("oms import");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(settings.connect_timeout);
        }
        if config.get_dbname().is_none() {
            let user = config.get_user().unwrap_or("postgres").to_owned();
            config.dbname(user);
        }
        Ok(Self { config, tls })
    }

    /// The pool; it connects on first use.
    pub fn pool(&self, settings: &PostgresSettings) -> Result<Pool, StoreError> {
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let config = self.config.clone();
        let manager = match &self.tls {
            Some(tls) => Manager::from_config(config, tls.clone(), recycling),
            None => Manager::from_config(config, NoTls, recycling),
        };
        Pool::builder(manager)
            .max_size(settings.max_connections.max(1))
            .wait_timeout(Some(settings.connect_timeout))
            .create_timeout(Some(settings.connect_timeout))
            .recycle_timeout(Some(settings.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| invalid(CONNECT, e.to_string()))
    }

    /// A connection outside the pool, to another database of the same server. Its driver runs until
    /// the client is dropped.
    pub async fn connect_to(
        &self,
        database: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config = self.config.clone();
        config.dbname(database);
        self.connect_with(config).await
    }

    /// A connection outside the pool.
    pub async fn connect(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        self.connect_with(self.config.clone()).await
    }

    async fn connect_with(
        &self,
        config: Config,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        match &self.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                drive(connection);
                Ok(client)
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                drive(connection);
                Ok(client)
            }
        }
    }
}

fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL ended");
        }
    });
}

fn is_plain_identifier(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit()
}

/// Parses the URL. tokio-postgres only knows `require`; libpq's stricter modes are what we do in
/// any case. The parser's own message is left out, because it may quote the URL.
fn parse(url: &str) -> Result<Config, StoreError> {
    url.replace("sslmode=verify-full", "sslmode=require")
        .replace("sslmode=verify-ca", "sslmode=require")
        .replace("sslmode=allow", "sslmode=disable")
        .parse()
        .map_err(|_| invalid(CONNECT, "the URL of PostgreSQL is not valid"))
}

fn rustls_connector(roots: Option<&PathBuf>) -> Result<MakeRustlsConnect, StoreError> {
    let mut store = RootCertStore::empty();
    match roots {
        None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let unusable = |e: &dyn std::fmt::Display| {
                invalid(
                    CONNECT,
                    format!("trusted certificates in {}: {e}", path.display()),
                )
            };
            let pem = std::fs::read(path).map_err(|e| unusable(&e))?;
            for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
                let certificate = certificate.map_err(|e| unusable(&e))?;
                store.add(certificate).map_err(|e| unusable(&e))?;
            }
            if store.is_empty() {
                return Err(unusable(&"none found"));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| invalid(CONNECT, format!("TLS: {e}")))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(url: &str, schema: &str) -> Result<Connector, StoreError> {
        Connector::new(&PostgresSettings {
            url: url.into(),
            schema: schema.into(),
            ..PostgresSettings::default()
        })
    }

    #[test]
    fn urls_of_every_kind_are_understood_and_never_quoted() {
        let plain = connector("postgresql://u@h/db?sslmode=prefer", "oms").unwrap();
        assert!(plain.tls.is_none());
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgresql://u@h/db?sslmode={mode}");
            assert!(connector(&url, "oms").unwrap().tls.is_some(), "{mode}");
        }
        let refused = connector("postgresql://u:geheim@h:port/db", "oms");
        assert!(refused.is_err_and(|e| !e.to_string().contains("geheim")));
        for bad in ["", "a b", "A", "1a", "a;drop"] {
            assert!(connector("postgresql://u@h/db", bad).is_err(), "{bad:?}");
        }
        let own = connector("postgresql://u@h/db?options=-c%20jit%3Doff", "mine").unwrap();
        let options = own.config.get_options().unwrap();
        assert!(options.starts_with("-c jit=off ") && options.contains("search_path=mine"));
    }
}
