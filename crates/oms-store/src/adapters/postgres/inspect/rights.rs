//! What the service's account may do in its schema.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::Schema;

/// Name of what is made and rolled back; nothing of the service is called so.
const NAME: &str = "oms_doctor_rolled_back";

/// Tables on which a right is missing, and tables of somebody else.
const TABLES: &str = "
SELECT c.relname::text,
       has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
         AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'),
       pg_has_role(c.relowner, 'USAGE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1::text AND c.relkind IN ('r', 'p') ORDER BY 1";

/// What the service's account may do.
#[derive(Debug, Clone)]
pub struct Rights {
    /// Whether making a table and writing to it worked.
    pub tried: Tried,
    /// Tables that it cannot read or write.
    pub closed: Vec<String>,
    /// Tables that it does not own, so that it cannot change them when the schema grows.
    pub foreign: Vec<String>,
}

/// The outcome of making a table in the schema and writing to it, which was rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// It worked.
    Worked,
    /// There is no schema, and this account may not make one.
    NoSchema,
    /// A right is missing.
    Denied(String),
    /// The server refused it for another reason.
    Refused(String),
}

/// Tries what the service does, in a transaction that is rolled back.
pub(super) async fn rights(client: &Client, name: &str, schema: &Schema) -> Result<Rights, Error> {
    let tried = if !schema.exists && !schema.may_create {
        Tried::NoSchema
    } else {
        attempt(client, name, schema.exists).await?
    };
    let mut rights = Rights {
        tried,
        closed: Vec::new(),
        foreign: Vec::new(),
    };
    for row in client.query_typed(TABLES, &[(&name, Type::TEXT)]).await? {
        let (table, open, ours): (String, bool, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if !open {
            rights.closed.push(table.clone());
        }
        if !ours {
            rights.foreign.push(table);
        }
    }
    Ok(rights)
}

async fn attempt(client: &Client, schema: &str, exists: bool) -> Result<Tried, Error> {
    let (make, place) = match exists {
        true => (String::new(), schema),
        false => (format!("CREATE SCHEMA {NAME};"), NAME),
    };
    let steps = format!(
        "BEGIN; SET LOCAL lock_timeout = '2s'; {make} CREATE TABLE {place}.{NAME} (n bigint);
         INSERT INTO {place}.{NAME} VALUES (1); ROLLBACK"
    );
    match client.batch_execute(&steps).await {
        Ok(()) => Ok(Tried::Worked),
        Err(e) => {
            let Some(refused) = e.as_db_error() else {
                return Err(e);
            };
            let why = format!("{} ({})", refused.message(), refused.code().code());
            let refused = refused.code().clone();
            client.batch_execute("ROLLBACK").await?;
            Ok(match refused {
                SqlState::INSUFFICIENT_PRIVILEGE => Tried::Denied(why),
                _ => Tried::Refused(why),
            })
        }
    }
}
