//! What a server, a database and the service's schema in it are like, for whoever checks an
//! installation. Changes nothing: what is written to try it is rolled back, and no statement has a
//! name, so that it works behind a pooler too.

mod rights;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Row, SimpleQueryMessage};

pub use self::rights::{Rights, Tried};

use super::errors;
use super::migrate::{self, MIGRATIONS};
use super::pool::{Connector, PostgresSettings};
use crate::error::StoreError;

const OPERATION: &str = "look at the database";

/// Statements of which the median time is taken, and of each of two sessions when looking for a
/// pooler.
const ROUNDS: usize = 5;

/// All that one statement can tell.
const SERVER: &str = "
SELECT current_setting('server_version_num')::int4, current_setting('server_version'),
       current_setting('server_encoding'), current_database()::text, current_user::text,
       pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',
       current_setting('synchronous_commit'), current_setting('fsync'),
       current_setting('full_page_writes'), current_setting('autovacuum'),
       current_setting('max_connections')::int4
         - current_setting('superuser_reserved_connections')::int4
         - coalesce(current_setting('reserved_connections', true)::int4, 0),
       -- Not every account may see the type of a backend; those of clients have an account.
       (SELECT count(*)::int4 FROM pg_stat_activity WHERE usesysid IS NOT NULL
               AND pid <> pg_backend_pid()),
       (SELECT count(*)::int4 FROM pg_stat_activity WHERE application_name = 'oms'
               AND datname = current_database() AND pid <> pg_backend_pid()),
       coalesce((SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), -1),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
       current_setting('search_path'),
       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)";

/// The server's clock.
const CLOCK: &str = "SELECT extract(epoch FROM clock_timestamp())::float8";

/// What was found.
#[derive(Debug, Clone)]
pub enum Found {
    /// The server has no such database.
    NoDatabase(String),
    /// The database is there.
    Database(Box<Inspection>),
}

/// What a database is like.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// How long connecting took.
    pub connected_in: Duration,
    /// Median time of a statement.
    pub statement: Duration,
    /// Version, settings and limits.
    pub server: Server,
    /// Why version or encoding rule the database out.
    pub unfit: Option<String>,
    /// Seconds that the server's clock is ahead of `now`.
    pub clock_ahead: f64,
    /// The processes that served two sessions in turns; `None`: a second session was not to be had.
    pub served_by: Option<[Vec<String>; 2]>,
    /// The schema and its tables.
    pub schema: Schema,
    /// What this account may do there; `None`: not tried.
    pub rights: Option<Rights>,
}

/// Version, settings and limits of a server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Version, as text.
    pub version: String,
    /// The database.
    pub database: String,
    /// The account.
    pub user: String,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Whether transactions are read-only unless they say otherwise.
    pub read_only: bool,
    /// `synchronous_commit` of this session.
    pub synchronous_commit: String,
    /// `fsync`.
    pub fsync: String,
    /// `full_page_writes`.
    pub full_page_writes: String,
    /// `autovacuum`.
    pub autovacuum: String,
    /// Connections for accounts without privileges.
    pub max_connections: i32,
    /// Connections in use.
    pub connections: i32,
    /// Of those, the ones of this service in this database.
    pub own_connections: i32,
    /// Limit of the account; negative: none.
    pub role_limit: i32,
    /// Limit of the database; negative: none.
    pub database_limit: i32,
    /// `search_path` of this session.
    pub search_path: String,
    /// Whether the server itself sees TLS.
    pub tls: bool,
}

/// The service's schema.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// Whether it exists.
    pub exists: bool,
    /// Whether this account may create schemas in the database.
    pub may_create: bool,
    /// Steps applied.
    pub applied: usize,
    /// Steps of this program that are not applied, as `number name`.
    pub pending: Vec<String>,
    /// Why this program may not work on it.
    pub refused: Option<String>,
}

/// Looks at the database of these settings. `write`: also tries to write, and rolls that back.
pub async fn inspect(
    settings: &PostgresSettings,
    now: fn() -> jiff::Timestamp,
    write: bool,
) -> Result<Found, StoreError> {
    let connector = Connector::new(settings)?;
    let begun = Instant::now();
    let client = match connect(&connector, settings).await? {
        Ok(client) => client,
        Err(e) if e.code() == Some(&SqlState::UNDEFINED_DATABASE) => {
            let name = connector.config.get_dbname().unwrap_or_default();
            return Ok(Found::NoDatabase(name.to_owned()));
        }
        Err(e) => return Err(errors::connecting_directly(OPERATION, &e)),
    };
    let connected_in = begun.elapsed();
    let failed = |e: Error| errors::working(OPERATION, &e);
    let row = client.query_typed_one(SERVER, &[]).await.map_err(failed)?;
    let server = server(&row).map_err(failed)?;
    let fit = migrate::check_server(
        row.try_get(0).map_err(failed)?,
        &server.version,
        row.try_get(2).map_err(failed)?,
        &server.database,
    );
    let (clock_ahead, statement) = clock(&client, now).await.map_err(failed)?;
    let schema = schema(&client, &settings.schema).await.map_err(failed)?;
    let rights = match write {
        true => Some(rights::rights(&client, &settings.schema, &schema).await),
        false => None,
    };
    let served_by = served_by(&client, &connector, settings).await?;
    Ok(Found::Database(Box::new(Inspection {
        connected_in,
        statement,
        server,
        unfit: fit.err(),
        clock_ahead,
        served_by,
        schema,
        rights: rights.transpose().map_err(failed)?,
    })))
}

/// Connects within the time that the settings give.
async fn connect(
    connector: &Connector,
    settings: &PostgresSettings,
) -> Result<Result<Client, Error>, StoreError> {
    // tokio-postgres bounds the connection, not the greeting.
    let connecting = tokio::time::timeout(settings.connect_timeout * 2, connector.connect());
    connecting.await.map_err(|_| errors::timed_out("connect"))
}

fn server(row: &Row) -> Result<Server, Error> {
    Ok(Server {
        version: row.try_get(1)?,
        database: row.try_get(3)?,
        user: row.try_get(4)?,
        in_recovery: row.try_get(5)?,
        read_only: row.try_get(6)?,
        synchronous_commit: row.try_get(7)?,
        fsync: row.try_get(8)?,
        full_page_writes: row.try_get(9)?,
        autovacuum: row.try_get(10)?,
        max_connections: row.try_get(11)?,
        connections: row.try_get(12)?,
        own_connections: row.try_get(13)?,
        role_limit: row.try_get(14)?,
        database_limit: row.try_get(15)?,
        search_path: row.try_get(16)?,
        tls: row.try_get(17)?,
    })
}

/// By how many seconds the server's clock is ahead at least, and the median time of a statement.
async fn clock(client: &Client, now: fn() -> jiff::Timestamp) -> Result<(f64, Duration), Error> {
    let mut readings = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (begun, at) = (Instant::now(), now());
        let there: f64 = client.query_typed_one(CLOCK, &[]).await?.try_get(0)?;
        let took = begun.elapsed();
        let here = at.as_duration().as_secs_f64() + took.as_secs_f64() / 2.0;
        readings.push((took, there - here));
    }
    readings.sort_by_key(|(took, _)| *took);
    // The quickest answer says the most about the clock.
    let ahead = readings.first().map_or(0.0, |(took, ahead)| {
        let error = took.as_secs_f64() / 2.0;
        ahead.signum() * (ahead.abs() - error).max(0.0)
    });
    let median = readings.get(ROUNDS / 2).map_or(Duration::ZERO, |(t, _)| *t);
    Ok((ahead, median))
}

async fn schema(client: &Client, name: &str) -> Result<Schema, Error> {
    let text = tokio_postgres::types::Type::TEXT;
    let place = client
        .query_typed_one(migrate::PLACE, &[(&name, text)])
        .await?;
    let mut schema = Schema {
        exists: place.try_get(0)?,
        may_create: place.try_get(1)?,
        ..Schema::default()
    };
    let mut applied = BTreeMap::new();
    if place.try_get(2)? {
        // The column of the hashes came later than the table; the name was checked to be plain.
        let steps =
            format!("SELECT version, to_jsonb(m)->>'sha256' FROM {name}.schema_migrations m");
        match client.query_typed(&steps, &[]).await {
            Ok(rows) => {
                for row in rows {
                    applied.insert(row.try_get(0)?, row.try_get(1)?);
                }
            }
            Err(e) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                schema.refused = Some(format!("its table schema_migrations cannot be read: {e}"));
                return Ok(schema);
            }
            Err(e) => return Err(e),
        }
    }
    schema.refused = migrate::check(MIGRATIONS, &applied).err();
    schema.applied = applied.len();
    schema.pending = MIGRATIONS
        .iter()
        .filter(|step| !applied.contains_key(&step.version))
        .map(|step| format!("{} {}", step.version, step.name))
        .collect();
    Ok(schema)
}

/// Asks two sessions in turns which process serves them. Directly connected each has a process of
/// its own for good; behind a pooler in transaction mode they share, or change.
async fn served_by(
    first: &Client,
    connector: &Connector,
    settings: &PostgresSettings,
) -> Result<Option<[Vec<String>; 2]>, StoreError> {
    let Ok(Ok(second)) = connect(connector, settings).await else {
        return Ok(None);
    };
    let mut seen = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (seen, session) in seen.iter_mut().zip([first, &second]) {
            let told = session.simple_query("SELECT pg_backend_pid()").await;
            let told = told.map_err(|e| errors::working(OPERATION, &e))?;
            seen.extend(told.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            }));
        }
    }
    Ok(Some(seen))
}
