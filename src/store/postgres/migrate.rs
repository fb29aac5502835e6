//! The database's schema: versioned SQL files, applied one after the other, each in a transaction
//! under an advisory lock, so that any number of processes may start at once.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
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

impl Migration {
    /// SHA-256 of the statements.
    fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.sql))
    }
}

/// Every step, by ascending numbers, which may have gaps: numbers are handed out before the steps are
/// written. A file that was released is never changed: a new one corrects it.
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
        version: 6,
        name: "identity",
        sql: include_str!("sql/0006_identity.sql"),
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
        if let Err(why) = check(MIGRATIONS, &applied) {
            return Err(MigrationFailed::Refused(invalid(OPERATION, why)));
        }
        for known in MIGRATIONS {
            if applied.get(&known.version) == Some(&None) {
                transaction
                    .execute(NOTE_HASH, &[&known.version, &known.hash()])
                    .await?;
            }
        }
        let next = MIGRATIONS
            .iter()
            .find(|m| !applied.contains_key(&m.version));
        let Some(next) = next else {
            return transaction.commit().await.map_err(Into::into);
        };
        transaction.batch_execute(next.sql).await?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)",
                &[&next.version, &next.name, &next.hash()],
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

/// Steps applied, each with its hash if that was recorded.
type AppliedSteps = BTreeMap<i32, Option<String>>;

/// Whether this program may work on a schema that went through these steps.
fn check(known: &[Migration], applied: &AppliedSteps) -> Result<(), String> {
    let newest = known.last().map_or(0, |m| m.version);
    for (version, hash) in applied {
        let Some(step) = known.iter().find(|m| m.version == *version) else {
            return Err(format!(
                "the database's schema has version {version}, which this program does not know (its \
                 newest is {newest}): it is older than the database"
            ));
        };
        if hash.as_ref().is_some_and(|hash| *hash != step.hash()) {
            return Err(format!(
                "step {version} ({}) of the database's schema was applied with other statements than \
                 this program's: it was made by a build that was never released",
                step.name
            ));
        }
    }
    Ok(())
}

/// For steps that were applied before hashes were recorded.
const NOTE_HASH: &str =
    "UPDATE schema_migrations SET sha256 = $2 WHERE version = $1 AND sha256 IS NULL";

/// The steps applied; makes the table that records them.
async fn applied(transaction: &Transaction<'_>, schema: &str) -> Result<AppliedSteps, Error> {
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
    let has_hashes: bool = transaction
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'schema_migrations'::regclass
                            AND attname = 'sha256' AND NOT attisdropped)",
            &[],
        )
        .await?
        .try_get(0)?;
    if !has_hashes {
        transaction
            .batch_execute("ALTER TABLE schema_migrations ADD COLUMN sha256 text")
            .await?;
    }
    let rows = transaction
        .query("SELECT version, sha256 FROM schema_migrations", &[])
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
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
    fn steps_are_numbered_in_ascending_order() {
        let ascends = MIGRATIONS.windows(2).all(|w| w[0].version < w[1].version);
        assert!(ascends && MIGRATIONS.iter().all(|m| m.version > 0));
    }

    #[test]
    fn numbers_may_have_gaps_and_come_late_but_not_be_unknown_or_altered() {
        let step = |version, sql| Migration {
            version,
            name: "step",
            sql,
        };
        let known = [step(1, "a"), step(3, "b"), step(9, "c")];
        let of = |steps: &[(i32, Option<&str>)]| -> AppliedSteps {
            let hash = |sql: &str| hex::encode(Sha256::digest(sql));
            let steps = steps.iter();
            steps.map(|(v, sql)| (*v, sql.map(hash))).collect()
        };
        assert_eq!(check(&known, &of(&[])), Ok(()));
        assert_eq!(check(&known, &of(&[(1, None), (9, Some("c"))])), Ok(()));
        for unknown in [2, 10] {
            let refused = check(&known, &of(&[(1, Some("a")), (unknown, None)])).unwrap_err();
            assert!(refused.contains("older than the database"), "{refused}");
        }
        let altered = check(&known, &of(&[(3, Some("B"))])).unwrap_err();
        assert!(altered.contains("step 3"), "{altered}");
    }
}
