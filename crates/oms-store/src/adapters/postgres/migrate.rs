//! The database's schema: versioned SQL files, applied in order, each in a transaction under an
//! advisory lock, so that any number of processes may start at the same time.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, GenericClient, Transaction};

use super::errors::{self, invalid};
use super::pool::Connector;
use crate::error::{StoreError, StoreErrorKind};

/// One step of the schema.
pub(super) struct Migration {
    /// Its number; never reused.
    pub version: i32,
    /// Its name, for the log.
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

/// Every step, by ascending numbers, which may have gaps because numbers are reserved before the
/// steps are written. A released file is never changed: a new one corrects it.
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
    Migration {
        version: 7,
        name: "audit",
        sql: include_str!("sql/0007_audit.sql"),
    },
    Migration {
        version: 8,
        name: "event ids",
        sql: include_str!("sql/0008_event_ids.sql"),
    },
    Migration {
        version: 9,
        name: "lease terms",
        sql: include_str!("sql/0009_lease_terms.sql"),
    },
];

/// Lowest supported version of a server, ours or a source's, in the server's own numbering. Older
/// ones lack `pg_current_snapshot()` and `autovacuum_vacuum_insert_scale_factor`, and are not
/// maintained any more.
const MIN_SERVER: i32 = 130_000;

/// The lock that serialises migrations of this schema.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('oms.migrate.' || $1::text, 0))";

const OPERATION: &str = "migrate";

/// Version of the server, and encoding and name of the database.
const SERVER: &str = "
SELECT current_setting('server_version_num')::int4, current_setting('server_version'),
       current_setting('server_encoding'), current_database()::text";

/// Whether schema and table exist already: the owner of a schema may lack the right to create
/// schemas, which PostgreSQL checks before it checks whether the schema exists.
pub(super) const PLACE: &str = "
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1::text),
       has_database_privilege(current_database(), 'CREATE'),
       EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = $1::text AND c.relname = 'schema_migrations'),
       current_database()::text, current_user::text";

/// Why the schema could not be updated.
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

/// Updates the schema.
pub(super) async fn migrate(
    client: &mut tokio_postgres::Client,
    schema: &str,
) -> Result<(), MigrationFailed> {
    let mut steps = 0;
    loop {
        let transaction = client.transaction().await?;
        // Building an index on a large table may take long.
        transaction
            .batch_execute("SET LOCAL statement_timeout = 0")
            .await?;
        transaction.execute(LOCK, &[&schema]).await?;
        check_fitness(&transaction).await?;
        prepare(&transaction, schema).await?;
        let applied = applied(&transaction).await?;
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
            transaction.commit().await?;
            if steps > 0 {
                let version = MIGRATIONS.last().map_or(0, |newest| newest.version);
                tracing::info!(
                    version,
                    steps,
                    schema,
                    "PostgreSQL's schema {schema} is at version {version} ({steps} steps)"
                );
            }
            return Ok(());
        };
        transaction.batch_execute(next.sql).await?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)",
                &[&next.version, &next.name, &next.hash()],
            )
            .await?;
        transaction.commit().await?;
        steps += 1;
        tracing::debug!(
            version = next.version,
            name = next.name,
            schema,
            "made a step of PostgreSQL's schema"
        );
    }
}

/// Checks that a server of this version can be used; the message names both versions.
pub(super) fn check_version(number: i32, name: &str) -> Result<(), String> {
    if number >= MIN_SERVER {
        return Ok(());
    }
    Err(format!(
        "its server is PostgreSQL {name}, and {} is the lowest version that can be used",
        MIN_SERVER / 10_000
    ))
}

/// Refuses a database that could never store what is written to it.
pub(super) async fn check_fitness(
    client: &(impl GenericClient + Sync),
) -> Result<(), MigrationFailed> {
    let server = client.query_one(SERVER, &[]).await?;
    let (number, name) = (server.try_get(0)?, server.try_get(1)?);
    let (encoding, database) = (server.try_get(2)?, server.try_get(3)?);
    check_server(number, name, encoding, database)
        .map_err(|message| MigrationFailed::Refused(invalid(OPERATION, message)))
}

/// Checks version of the server and encoding of the database.
pub(super) fn check_server(
    number: i32,
    name: &str,
    encoding: &str,
    database: &str,
) -> Result<(), String> {
    check_version(number, name)
        .map_err(|message| format!("the database cannot be used: {message}"))?;
    if encoding != "UTF8" {
        return Err(format!(
            "the database `{database}` cannot be used: its server_encoding is {encoding}, which \
             has no place for every text. It must be UTF8: CREATE DATABASE … ENCODING 'UTF8' \
             TEMPLATE template0"
        ));
    }
    Ok(())
}

/// Applied steps, each with its hash if that was recorded.
pub(super) type AppliedSteps = BTreeMap<i32, Option<String>>;

/// Checks that this program may work on a schema with these applied steps.
pub(super) fn check(known: &[Migration], applied: &AppliedSteps) -> Result<(), String> {
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

/// Creates the schema and the table that records its version, if missing.
async fn prepare(transaction: &Transaction<'_>, schema: &str) -> Result<(), MigrationFailed> {
    let place = transaction.query_one(PLACE, &[&schema]).await?;
    let [has_schema, may_create, has_table]: [bool; 3] =
        [place.try_get(0)?, place.try_get(1)?, place.try_get(2)?];
    if !has_schema {
        if !may_create {
            let (database, user): (&str, &str) = (place.try_get(3)?, place.try_get(4)?);
            let message = format!(
                "there is no schema `{schema}` in the database `{database}`, and `{user}` may not \
                 make it: let an administrator run CREATE SCHEMA {schema} AUTHORIZATION {user}"
            );
            return Err(MigrationFailed::Refused(StoreError::determinate(
                StoreErrorKind::Denied,
                errors::STORE,
                OPERATION,
                message,
            )));
        }
        // The name was checked to be a plain identifier. A program that does not take our lock may
        // create the schema at the same moment.
        let sql = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
        transaction.batch_execute(&sql).await?;
    }
    if !has_table {
        let sql = "CREATE TABLE schema_migrations (
                 version integer PRIMARY KEY,
                 name text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now()
             )";
        transaction.batch_execute(sql).await?;
    }
    Ok(())
}

/// For steps that were applied before hashes were recorded.
const NOTE_HASH: &str =
    "UPDATE schema_migrations SET sha256 = $2 WHERE version = $1 AND sha256 IS NULL";

/// The steps applied.
async fn applied(transaction: &Transaction<'_>) -> Result<AppliedSteps, Error> {
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

/// Creates the database named in the settings, through the server's `postgres` database.
pub(super) async fn create_database(connector: &Connector) -> Result<(), StoreError> {
    let name = connector.config.get_dbname().unwrap_or_default();
    let client = connector
        .connect_to("postgres")
        .await
        .map_err(|e| errors::connecting_directly("create database", &e))?;
    let quoted = name.replace('"', "\"\"");
    let creating = |e: Error| errors::working("create database", &e);
    let utf8: bool = client
        .query_one(
            "SELECT pg_encoding_to_char(encoding) = 'UTF8' FROM pg_database \
             WHERE datname = 'template1'",
            &[],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(creating)?;
    // If the server's own texts are not UTF-8, none of its locales can be used.
    let how = if utf8 {
        ""
    } else {
        " ENCODING 'UTF8' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    };
    match client
        .batch_execute(&format!("CREATE DATABASE \"{quoted}\"{how}"))
        .await
    {
        Ok(()) => {
            tracing::info!(database = name, "created the database");
            Ok(())
        }
        // Another process has created it at the same moment.
        Err(e)
            if e.code().is_some_and(|c| {
                [&SqlState::DUPLICATE_DATABASE, &SqlState::UNIQUE_VIOLATION].contains(&c)
            }) =>
        {
            Ok(())
        }
        Err(e) => Err(creating(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_upwards() {
        assert!(MIGRATIONS.is_sorted_by(|a, b| a.version < b.version));
    }

    #[test]
    fn a_server_that_is_too_old_is_told_with_both_numbers() {
        assert_eq!(check_version(130_000, "13.0"), Ok(()));
        assert_eq!(check_version(180_001, "18.1"), Ok(()));
        for (number, name) in [(120_022, "12.22"), (90_624, "9.6.24"), (129_999, "12.99")] {
            let told = check_version(number, name).unwrap_err();
            assert!(told.contains(name) && told.contains(" 13 "), "{told}");
        }
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
