//! The role that is handed out: it reads every table of the database and changes nothing.

use tokio_postgres::{Client, Error};

/// Its name.
pub const READER: &str = "oms_reader";

/// Lets it log in with this password, of letters and digits, and read what is there and what `owner`
/// will make. Run at each start: what was made by older versions is read too.
pub async fn allow_reader(client: &Client, owner: &str, password: &str) -> Result<(), Error> {
    let known = "SELECT 1 FROM pg_roles WHERE rolname = $1";
    if client.query_opt(known, &[&READER]).await?.is_none() {
        client
            .batch_execute(&format!("CREATE ROLE {READER}"))
            .await?;
    }
    client
        .batch_execute(&format!(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC;
             ALTER ROLE {READER} LOGIN PASSWORD '{password}';
             ALTER ROLE {READER} SET default_transaction_read_only = on;
             ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE ON SCHEMAS TO {READER};
             ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {READER};
             ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON SEQUENCES TO {READER};
             DO $$
             DECLARE made text;
             BEGIN
                 FOR made IN SELECT nspname FROM pg_namespace
                     WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
                 LOOP
                     EXECUTE format('GRANT USAGE ON SCHEMA %I TO {READER}', made);
                     EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO {READER}', made);
                     EXECUTE format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA %I TO {READER}', made);
                 END LOOP;
             END $$"
        ))
        .await
}
