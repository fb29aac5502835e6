//! The database's schema: versioned SQL files, applied one after the other, each in a transaction
//! under an advisory lock, so that any number of processes may start at once.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, Transaction};

use super::errors::{self, invalid};
use super::pool::Connector;
use crate::store::error::StoreError;

/// One step of the schema.
pub(super) struct Migration {
    /// Its number; never reused.
    pub version: i32,
    /// What it brings.
    pub name: &'static str,
    /// The statements.
    pub sql: &'static str,
}

/// Every step, in order. A file that was released is never changed: a new one corrects it.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "delivery",
        sql: include_str!("sql/0001_delivery.sql"),
    },
    Migration {
        version: 2,
        name: "read model",
        sql: include_str!("sql/0002_read_model.sql"),
    },
    Migration {
        version: 3,
        name: "log",
        sql: include_str!("sql/0003_log.sql"),
    },
    Migration {
        version: 4,
        name: "jobs",
        sql: include_str!("sql/0004_jobs.sql"),
    },
    Migration {
        version: 5,
        name: "import",
        sql: include_str!("sql/0005_import.sql"),
    },
    Migration {
        version: 7,
        name: "audit",
        sql: include_str!("sql/0007_audit.sql"),
    },
];

/// Name of the lock that serialises everyone who migrates this schema.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('oms.migrate.' || $1::text, 0))";

const OPERATION: &str = "migrate";

/// Why the schema could not be brought up to date.
pub(super) enum MigrationFailed {
    /// PostgreSQL failed.
    Database(Error),
    /// The database cannot be used by this program.
    Refused(StoreError),
}

impl From<Error> for MigrationFailed {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// Brings the schema up to date.
pub(super) async fn migrate(
    client: &mut tokio_postgres::Client,
    schema: &str,
) -> Result<(), MigrationFailed> {
    loop {
        let transaction = client.transaction().await?;
        // Building an index on a grown table may take its time.
        transaction
            .batch_execute("SET LOCAL statement_timeout = 0")
            .await?;
        transaction.execute(LOCK, &[&schema]).await?;
        let applied = applied(&transaction, schema).await?;
        let newest = MIGRATIONS.last().map_or(0, |m| m.version);
        if applied > newest {
            return Err(MigrationFailed::Refused(invalid(
                OPERATION,
                format!(
                    "the database's schema has version {applied}, this program knows {newest}: \
                     it is older than the database"
                ),
            )));
        }
        let Some(next) = MIGRATIONS.iter().find(|m| m.version > applied) else {
            return transaction.commit().await.map_err(Into::into);
        };
        transaction.batch_execute(next.sql).await?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (version, name) VALUES ($1, $2)",
                &[&next.version, &next.name],
            )
            .await?;
        transaction.commit().await?;
        tracing::info!(
            version = next.version,
            name = next.name,
            schema,
            "migrated PostgreSQL"
        );
    }
}

/// Version of the schema; makes the table that records it.
async fn applied(transaction: &Transaction<'_>, schema: &str) -> Result<i32, Error> {
    // The name was checked to be a plain identifier.
    transaction
        .batch_execute(&format!(
            "SET LOCAL client_min_messages = warning;
             CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE IF NOT EXISTS schema_migrations (
                 version integer PRIMARY KEY,
                 name text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now()
             );"
        ))
        .await?;
    let row = transaction
        .query_one(
            "SELECT coalesce(max(version), 0) FROM schema_migrations",
            &[],
        )
        .await?;
    row.try_get(0)
}

/// Makes the database named in the settings, through the server's `postgres` database.
pub(super) async fn create_database(connector: &Connector) -> Result<(), StoreError> {
    let name = connector.config.get_dbname().unwrap_or_default();
    let client = connector
        .connect_to("postgres")
        .await
        .map_err(|e| errors::connecting_directly("create database", &e))?;
    let quoted = name.replace('"', "\"\"");
    match client
        .batch_execute(&format!("CREATE DATABASE \"{quoted}\""))
        .await
    {
        Ok(()) => {
            tracing::info!(database = name, "created the database");
            Ok(())
        }
        // Somebody else made it at the same moment.
        Err(e)
            if e.code().is_some_and(|c| {
                [&SqlState::DUPLICATE_DATABASE, &SqlState::UNIQUE_VIOLATION].contains(&c)
            }) =>
        {
            Ok(())
        }
        Err(e) => Err(errors::working("create database", &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_without_gaps() {
        let versions: Vec<i32> = MIGRATIONS.iter().map(|m| m.version).collect();
        let expected: Vec<i32> = (1..=MIGRATIONS.len() as i32).collect();
        assert_eq!(versions, expected);
    }
}
