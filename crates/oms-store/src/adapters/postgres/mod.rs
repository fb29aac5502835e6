//! PostgreSQL: a pool whose calls run on the I/O runtime with a deadline, are counted and timed,
//! and find the schema in place.
//!
//! The service starts, and writes, with PostgreSQL down (law 10): nothing here connects before its
//! first call, which also creates the schema. A database that was dropped while the service runs is
//! created again in the same way (law 11).

pub mod audit;
mod certificates;
pub mod commits;
pub mod connection;
mod errors;
pub mod import_journal;
pub mod inspect;
pub mod jobs;
mod leases;
pub mod log_repair;
mod marks;
mod migrate;
pub mod migration;
pub mod outbox;
mod pool;
pub mod read_model;
mod rows;
pub mod source;
mod source_sql;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError};
use futures_util::future::BoxFuture;

pub use pool::PostgresSettings;

use self::certificates::Outlook;
use self::errors::STORE;
use self::migrate::MigrationFailed;
use self::pool::Connector;
use crate::error::StoreError;
use crate::health::Health;
use crate::io_runtime::IoRuntime;
use crate::metered::measured;
use crate::metrics;

/// Whether the service can work on a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fitness {
    /// It can, or the database will be made.
    Fit,
    /// Connecting fails because of its server's certificate, and will until a setting is changed.
    Untrusted(String),
}

/// The future of work on a connection.
pub type Work<'c, T> = BoxFuture<'c, Result<T, tokio_postgres::Error>>;

/// How much longer than one statement a call may take: several statements and their round trips.
const CALL_MARGIN: Duration = Duration::from_secs(10);

/// A PostgreSQL database with the service's schema in it. Cheap to clone.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
    io: IoRuntime,
    health: Arc<Health>,
}

struct Inner {
    settings: PostgresSettings,
    connector: Connector,
    pool: Pool,
    /// Whether the schema is known to be up to date.
    migrated: AtomicBool,
    migrating: tokio::sync::Mutex<()>,
}

impl Postgres {
    /// Connects on first use. Fails only if the settings are invalid.
    pub fn new(
        settings: PostgresSettings,
        io: IoRuntime,
        health: Arc<Health>,
    ) -> Result<Self, StoreError> {
        let connector = Connector::new(&settings)?;
        let pool = connector.pool(&settings)?;
        let inner = Arc::new(Inner {
            settings,
            connector,
            pool,
            migrated: AtomicBool::new(false),
            migrating: tokio::sync::Mutex::new(()),
        });
        Ok(Self { inner, io, health })
    }

    /// Runs `work` on a connection of the pool, on the I/O runtime. The schema is in place and
    /// `search_path` points to it. A transaction that `work` drops is rolled back.
    ///
    /// ```ignore
    /// let n: i64 = postgres
    ///     .run("count", move |client| Box::pin(async move {
    ///         client.query_one("SELECT count(*) FROM outbox", &[]).await?.try_get(0)
    ///     }))
    ///     .await?;
    /// ```
    ///
    /// Without a connection the error is determinate; once work has begun, a lost connection or a
    /// deadline is indeterminate, and what the server refused is determinate. Serialization
    /// failures and deadlocks are [`Conflict`](crate::error::StoreErrorKind::Conflict)s.
    pub async fn run<T, W>(&self, operation: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut Object) -> Work<'c, T> + Send + 'static,
    {
        let inner = self.inner.clone();
        let call = async move { inner.call(operation, work).await };
        measured(
            STORE,
            operation,
            &self.health,
            self.io.run(STORE, operation, call),
        )
        .await
    }

    /// Connections at most.
    pub fn max_connections(&self) -> usize {
        self.inner.settings.max_connections.max(1)
    }

    /// The schema that holds everything.
    pub fn schema(&self) -> &str {
        &self.inner.settings.schema
    }

    /// Checks that the database, if it exists, can be used: refused as
    /// [`Invalid`](crate::error::StoreErrorKind::Invalid) if its server is too old or its encoding
    /// another than UTF-8. Creates and changes nothing.
    pub async fn check_fitness(&self) -> Result<Fitness, StoreError> {
        const OPERATION: &str = "check";
        let inner = self.inner.clone();
        let call = async move { inner.check_fitness(OPERATION).await };
        measured(
            STORE,
            OPERATION,
            &self.health,
            self.io.run(STORE, OPERATION, call),
        )
        .await
    }

    /// The health of the database, according to the calls made.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// The runtime its calls run on.
    pub fn io(&self) -> &IoRuntime {
        &self.io
    }

    /// Exports how many connections are idle, in use and waited for.
    pub fn measure(&self) {
        let pool = self.inner.pool.status();
        let in_use = pool.size.saturating_sub(pool.available);
        metrics::postgres_connections(pool.available, in_use, pool.max_size, pool.waiting);
    }

    /// Closes every connection that is not in use; later calls fail with `Closed`.
    pub fn close(&self) {
        self.inner.pool.close();
    }
}

impl Inner {
    async fn call<T, W>(&self, operation: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut Object) -> Work<'c, T> + Send + 'static,
    {
        let mut client = self.acquire(operation).await?;
        let limit = self.settings.statement_timeout + CALL_MARGIN;
        match tokio::time::timeout(limit, work(&mut client)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => {
                if errors::is_schema_missing(&e) {
                    self.migrated.store(false, Ordering::Release);
                }
                let error = errors::working(operation, &e);
                if error.is_indeterminate() {
                    // The connection is lost or about to be; it must not be reused.
                    drop(Object::take(client));
                }
                Err(error)
            }
            Err(_) => {
                // The connection is in the middle of work that was given up.
                drop(Object::take(client));
                Err(errors::timed_out(operation))
            }
        }
    }

    /// A connection to a database whose schema is up to date.
    async fn acquire(&self, operation: &'static str) -> Result<Object, StoreError> {
        if !self.migrated.load(Ordering::Acquire) {
            self.migrate(operation).await?;
        }
        match self.pool.get().await {
            Ok(client) => Ok(client),
            Err(PoolError::Backend(e)) if errors::is_schema_missing(&e) => {
                self.migrated.store(false, Ordering::Release);
                self.migrate(operation).await?;
                let again = self.pool.get().await;
                again.map_err(|e| errors::connecting(operation, &e))
            }
            Err(e) => Err(errors::connecting(operation, &e)),
        }
    }

    async fn check_fitness(&self, operation: &'static str) -> Result<Fitness, StoreError> {
        let client = match self.pool.get().await {
            Ok(client) => client,
            // It will be created.
            Err(PoolError::Backend(e)) if errors::is_schema_missing(&e) => {
                return Ok(Fitness::Fit);
            }
            Err(e) => {
                if let PoolError::Backend(error) = &e
                    && let Some(problem) = certificates::problem(error)
                    && problem.outlook == Outlook::Lasting
                    // Of several hosts only the last is told of: another may come back.
                    && self.connector.has_one_host()
                {
                    return Ok(Fitness::Untrusted(problem.message));
                }
                return Err(errors::connecting(operation, &e));
            }
        };
        let checking = migrate::check_fitness(&**client);
        match tokio::time::timeout(self.settings.connect_timeout, checking).await {
            Ok(Ok(())) => Ok(Fitness::Fit),
            Ok(Err(MigrationFailed::Refused(refused))) => Err(refused),
            Ok(Err(MigrationFailed::Database(e))) => Err(errors::working(operation, &e)),
            Err(_) => {
                // The connection is in the middle of work that was given up.
                drop(Object::take(client));
                Err(errors::timed_out(operation))
            }
        }
    }

    async fn migrate(&self, operation: &'static str) -> Result<(), StoreError> {
        let _one_at_a_time = self.migrating.lock().await;
        if self.migrated.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut client = match self.pool.get().await {
            Ok(client) => client,
            Err(PoolError::Backend(e)) if errors::is_schema_missing(&e) => {
                migrate::create_database(&self.connector).await?;
                let again = self.pool.get().await;
                again.map_err(|e| errors::connecting(operation, &e))?
            }
            Err(e) => return Err(errors::connecting(operation, &e)),
        };
        match migrate::migrate(&mut client, &self.settings.schema).await {
            Ok(()) => {
                self.migrated.store(true, Ordering::Release);
                Ok(())
            }
            Err(MigrationFailed::Refused(refused)) => Err(refused),
            // The operation itself was not started; the next call finds the migration done or not.
            Err(MigrationFailed::Database(e)) => Err(StoreError {
                determinacy: crate::error::Determinacy::Determinate,
                ..errors::working(operation, &e)
            }),
        }
    }
}
