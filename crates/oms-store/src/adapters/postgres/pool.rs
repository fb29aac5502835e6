//! Builds a pool of connections from settings: URL, session settings, TLS.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::environment::Environment;
use super::connection::{self, CertificateFiles, Connection, Purpose, Refused};
use super::errors::invalid;
use crate::error::StoreError;

const CONNECT: &str = "connect";

/// Address of PostgreSQL and settings of its connections.
#[derive(Clone)]
pub struct PostgresSettings {
    /// A connection string of any form that [`connection`] knows.
    pub url: String,
    /// The schema that holds all tables; created if missing. `[a-z_][a-z0-9_]{0,62}`.
    pub schema: String,
    /// Connections at most.
    pub max_connections: usize,
    /// How long to wait for a connection to become free, and to be established.
    pub connect_timeout: Duration,
    /// How long one statement may take; the server cancels it then.
    pub statement_timeout: Duration,
    /// Certificates that are named outside of the URL.
    pub certificates: CertificateFiles,
    /// What fills in what the URL leaves open.
    pub environment: Environment,
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
            certificates: CertificateFiles::default(),
            environment: Environment::default(),
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
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

impl PostgresSettings {
    /// The connection that these settings describe.
    pub fn connection(&self, purpose: Purpose) -> Result<Connection, Refused> {
        Connection::of(&self.url, &self.certificates, &self.environment, purpose)
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
        let (mut config, tls) = connect(settings, Purpose::Own)?;
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
        fill(&mut config, settings, "oms");
        Ok(Self { config, tls })
    }

    /// For a database that is not ours: no session settings, because it may not know them.
    pub fn foreign(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let (mut config, tls) = connect(settings, Purpose::Source)?;
        fill(&mut config, settings, "oms import");
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
            .create_timeout(Some(self.patience(settings)))
            .recycle_timeout(Some(settings.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| invalid(CONNECT, e.to_string()))
    }

    /// How long a connection may take to be made: each of several hosts has its time, the last one
    /// some more to log in.
    fn patience(&self, settings: &PostgresSettings) -> Duration {
        let hosts = u32::try_from(self.config.get_hosts().len()).unwrap_or(u32::MAX);
        let each = self.config.get_connect_timeout();
        let each = each.copied().unwrap_or(settings.connect_timeout);
        let own_word = each != settings.connect_timeout;
        match hosts <= 1 && !own_word {
            true => each,
            false => each.saturating_mul(hosts.max(1)) + settings.connect_timeout,
        }
    }

    /// Whether the address names one host alone.
    pub fn has_one_host(&self) -> bool {
        self.config.get_hosts().len() <= 1
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

/// Reads the connection string, and the certificates that it names.
fn connect(
    settings: &PostgresSettings,
    purpose: Purpose,
) -> Result<(Config, Option<MakeRustlsConnect>), StoreError> {
    let refused = |refused: Refused| invalid(CONNECT, refused.to_string());
    let Connection { config, tls } = settings.connection(purpose).map_err(refused)?;
    let tls = tls.as_ref().map(connection::client).transpose();
    Ok((config, tls.map_err(refused)?))
}

/// Says what the connection string leaves open.
fn fill(config: &mut Config, settings: &PostgresSettings, name: &str) {
    if config.get_application_name().is_none() {
        config.application_name(name);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(settings.connect_timeout);
    }
    if config.get_dbname().is_none() {
        let user = config.get_user().unwrap_or("postgres").to_owned();
        config.dbname(user);
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
    fn a_url_is_never_quoted_and_a_schema_has_a_plain_name() {
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
