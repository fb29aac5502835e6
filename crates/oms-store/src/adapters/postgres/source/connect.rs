//! Connects to a source: determines what kind of table it is, which writers are visible, and the
//! types of its columns.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row, Transaction};

use super::sql::{self, Select};
use super::{Connected, Inner, errors, failed, working};
use crate::adapters::postgres::migrate::check_version;
use crate::error::{Determinacy, StoreError, StoreErrorKind};

/// How much longer than one statement a transaction may be idle, as a factor.
const IDLE_FACTOR: u128 = 2;

/// Version of the server, as number and as text.
const SERVER: &str =
    "SELECT current_setting('server_version_num')::int4, current_setting('server_version')";

impl Inner {
    /// A transaction that cannot write and whose settings end with it, because behind a pooler
    /// another client uses the connection next. For the same reason statements have no names.
    pub(super) async fn transaction<'c>(
        &self,
        client: &'c mut Client,
    ) -> Result<Transaction<'c>, StoreError> {
        let transaction = begin(client).await.map_err(working("begin"))?;
        self.settings(&transaction).await?;
        Ok(transaction)
    }

    /// Plans suited to pages, and times in UTC.
    async fn settings(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let timeout = self.statement_timeout.as_millis();
        let idle = timeout * IDLE_FACTOR;
        let settings = format!(
            "SET LOCAL jit = off; SET LOCAL timezone = 'UTC'; \
             SET LOCAL statement_timeout = {timeout}; \
             SET LOCAL idle_in_transaction_session_timeout = {idle}"
        );
        transaction
            .batch_execute(&settings)
            .await
            .map_err(working("begin"))
    }

    pub(super) async fn connect(&self) -> Result<Connected, StoreError> {
        let mut client = self
            .connector
            .connect()
            .await
            .map_err(|e| failed(errors::connecting_directly("connect", &e)))?;
        let described = self.describe(&mut client).await?;
        Ok(Connected {
            client,
            described,
            narrow: None,
        })
    }

    async fn describe(&self, client: &mut Client) -> Result<Described, StoreError> {
        let transaction = begin(client).await.map_err(working("connect"))?;
        let server = transaction
            .query_typed_one(SERVER, &[])
            .await
            .map_err(working("connect"))?;
        let version = |e: Error| working("connect")(e);
        let number = server.try_get(0).map_err(version)?;
        let name = server.try_get(1).map_err(version)?;
        check_version(number, name).map_err(|told| self.invalid("url", told))?;
        self.settings(&transaction).await?;
        let about = transaction
            .query_typed_one(sql::ABOUT, &[(&self.spec.table, Type::TEXT)])
            .await
            .map_err(|e| self.refused("table", e))?;
        let kind: String = about.try_get(0).map_err(working("describe"))?;
        let standby: bool = about.try_get(1).map_err(working("describe"))?;
        let found = transaction
            .query_typed(sql::RELATIONS, &[(&self.spec.table, Type::TEXT)])
            .await
            .map_err(working("describe"))?;
        let mut relations = Vec::with_capacity(found.len());
        let (mut ahead, mut blocks) = (false, false);
        for row in &found {
            relations.push(row.try_get::<_, u32>(0).map_err(working("describe"))?);
            ahead |= row.try_get::<_, i64>(1).map_err(working("describe"))? > 1;
            blocks |= row.try_get::<_, i64>(2).map_err(working("describe"))? > 1;
        }
        let ordered = self.order().is_some();
        if ordered && self.spec.lag.is_zero() {
            let unseen = if standby {
                Some("the database is a standby, which does not know who is writing")
            } else if !matches!(kind.as_str(), "r" | "p") {
                Some("it is not a table, so that who is writing cannot be told")
            } else if ahead {
                Some("its sequence hands out numbers ahead (CACHE)")
            } else if blocks {
                Some(
                    "its sequence counts in steps (INCREMENT), so that writers may number within a \
                     step on their own, long after: leave `order` out, and the table is read \
                     stream by stream; or",
                )
            } else {
                None
            };
            if let Some(unseen) = unseen {
                let message =
                    format!("{unseen}: say how long a row may come after its position was drawn");
                return Err(self.invalid("lag", message));
            }
        }
        let (selects, key_types) = self.columns(&transaction).await?;
        let statements = sql::statements(&self.spec, &selects, &key_types);
        transaction.commit().await.map_err(working("describe"))?;
        Ok(Described {
            statements,
            selects,
            relations,
        })
    }

    fn order(&self) -> Option<&str> {
        let order = self.spec.columns.order.as_deref();
        order.filter(|o| !o.is_empty())
    }

    /// The server's error about a configured expression, with the key of the setting.
    fn refused(&self, key: &str, error: Error) -> StoreError {
        let Some(db) = error.as_db_error() else {
            return failed(errors::working("describe", &error));
        };
        match db.code().code() {
            "42P20" => self.invalid(
                key,
                "it has a window function, which would see the rows of one page and begin anew \
                 with the next: take it within a view or a sub-select of all rows, or leave \
                 `version` out to have events numbered in the order of their positions",
            ),
            "25006" => self.invalid(key, format!("{}: nothing is written there", db.message())),
            code if code.starts_with("42")
                || code.starts_with("22")
                || code == "3F000"
                || code == "0A000" =>
            {
                self.invalid(key, db.message())
            }
            _ => failed(errors::working("describe", &error)),
        }
    }

    /// Asks the server for the type of every column, one by one, so that an error names the column.
    async fn columns(
        &self,
        transaction: &Transaction<'_>,
    ) -> Result<(Selects, Vec<String>), StoreError> {
        let (from, filter) = (sql::from(&self.spec), sql::filter(&self.spec));
        for (key, sql) in [
            ("join", format!("SELECT 1 {from} LIMIT 0")),
            ("filter", format!("SELECT 1 {from} WHERE {filter} LIMIT 0")),
        ] {
            transaction
                .query_typed(&sql, &[])
                .await
                .map_err(|e| self.refused(key, e))?;
        }
        let type_of = async |key: &str, expression: &str| -> Result<(String, String), StoreError> {
            let row = transaction
                .query_typed_one(&sql::type_of(&self.spec, expression), &[])
                .await
                .map_err(|e| self.refused(key, e))?;
            let named = |row: &Row| Ok::<_, Error>((row.try_get(0)?, row.try_get(1)?));
            named(&row).map_err(working("describe"))
        };
        if let Some(order) = self.order() {
            let (_, found) = type_of("order", &sql::expression(&self.spec, order)).await?;
            if !["int2", "int4", "int8"].contains(&found.as_str()) {
                return Err(self.invalid("order", format!("must be an integer, it is {found}")));
            }
        }
        let mut selects = Vec::new();
        let mut key_types = Vec::new();
        for (part, given) in sql::parts(&self.spec.columns) {
            let Some(given) = given else { continue };
            let expression = sql::expression(&self.spec, given);
            let (schema, found) = type_of(part, &expression).await?;
            if sql::is_key(part) {
                key_types.push(format!("\"{schema}\".\"{found}\""));
            }
            let select = Select::of(part, &found, &expression, self.order().is_some())
                .map_err(|told| self.invalid(part, told))?;
            if matches!(part, "data" | "metadata")
                && (sql::is_text(&found) || sql::is_number(&found))
            {
                self.refuse_large_objects(transaction, part, &expression)
                    .await?;
            }
            selects.push((part, expression, select));
        }
        Ok((selects, key_types))
    }

    /// Refuses columns that hold numbers of large objects, as some mappers store texts.
    async fn refuse_large_objects(
        &self,
        transaction: &Transaction<'_>,
        part: &str,
        expression: &str,
    ) -> Result<(), StoreError> {
        let sample = sql::only_large_objects(&self.spec, expression);
        transaction
            .batch_execute("SAVEPOINT sample")
            .await
            .map_err(working("describe"))?;
        let only = transaction
            .query_typed_one(&sample, &[])
            .await
            .and_then(|row| row.try_get(0));
        let end = match only {
            // A row that cannot be read is handled by the page that has it.
            Err(ref e) if e.as_db_error().is_some() => "ROLLBACK TO sample",
            _ => "RELEASE sample",
        };
        let only = match only {
            Err(e) if e.as_db_error().is_none() => return Err(working("describe")(e)),
            only => only.unwrap_or(false),
        };
        transaction
            .batch_execute(end)
            .await
            .map_err(working("describe"))?;
        if !only {
            return Ok(());
        }
        Err(self.invalid(
            part,
            format!(
                "it has the numbers of large objects and not their content: write \
                 {part} = \"lo_get(({expression})::oid)\""
            ),
        ))
    }

    /// Whether the error comes from one row's values, on which an expression of the source failed;
    /// other rows may be readable.
    pub(super) fn is_of_a_row(error: &Error) -> bool {
        let Some(db) = error.as_db_error() else {
            return false;
        };
        match db.code().code() {
            // Raised by a function; a domain's check; a stack limit; a missing large object.
            "23514" | "54001" => true,
            "42704" => db.message().starts_with("large object"),
            code => code.starts_with("22") || code.starts_with("P0"),
        }
    }

    /// An error that a page caused: what was there when the source was described is missing now, or
    /// an expression writes. Retrying does not help.
    pub(super) fn page_failed(&self, error: &Error) -> StoreError {
        match error.code().map(|code| code.code()) {
            Some("25006") => self.invalid("filter", "an expression of the source writes"),
            // A missing table may be being replaced.
            Some(code) if code.starts_with("42") && !["42P01", "42501"].contains(&code) => {
                StoreError {
                    determinacy: Determinacy::Determinate,
                    kind: StoreErrorKind::Invalid,
                    ..failed(errors::working("page", error))
                }
            }
            _ => failed(errors::working("page", error)),
        }
    }
}

type Selects = Vec<(&'static str, String, Select)>;

/// What is known of a source after connecting.
pub(super) struct Described {
    pub statements: sql::Statements,
    pub selects: Selects,
    pub relations: Vec<u32>,
}

/// Each statement sees what is committed when it begins, whatever the database's default isolation
/// is.
async fn begin(client: &mut Client) -> Result<Transaction<'_>, Error> {
    client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::ReadCommitted)
        .read_only(true)
        .start()
        .await
}
