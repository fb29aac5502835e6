//! Connecting: what kind of table it is, who can be seen writing to it, and what its columns are.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::sql::{self, Select};
use super::{Connected, Inner, SESSION, errors, failed, working};
use crate::store::error::StoreError;

impl Inner {
    pub(super) async fn connect(&self) -> Result<Connected, StoreError> {
        let client = self
            .connector
            .connect()
            .await
            .map_err(|e| failed(errors::connecting_directly("connect", &e)))?;
        let session = format!(
            "{SESSION}; SET statement_timeout = {}",
            self.statement_timeout.as_millis()
        );
        client
            .batch_execute(&session)
            .await
            .map_err(working("connect"))?;
        let about = client
            .query_one(sql::ABOUT, &[&self.spec.table])
            .await
            .map_err(|e| self.refused("table", e))?;
        let kind: String = about.try_get(0).map_err(working("describe"))?;
        let standby: bool = about.try_get(1).map_err(working("describe"))?;
        let found = client
            .query(sql::RELATIONS, &[&self.spec.table])
            .await
            .map_err(working("describe"))?;
        let mut relations = Vec::with_capacity(found.len());
        let mut ahead = false;
        for row in &found {
            relations.push(row.try_get::<_, u32>(0).map_err(working("describe"))?);
            ahead |= row.try_get::<_, i64>(1).map_err(working("describe"))? > 1;
        }
        let ordered = self
            .spec
            .columns
            .order
            .as_deref()
            .is_some_and(|o| !o.is_empty());
        if ordered && self.spec.lag.is_zero() {
            let unseen = if standby {
                Some("the database is a standby, which does not know who is writing")
            } else if !matches!(kind.as_str(), "r" | "p") {
                Some("it is not a table, so that who is writing cannot be told")
            } else if ahead {
                Some("its sequence hands out numbers ahead (CACHE)")
            } else {
                None
            };
            if let Some(unseen) = unseen {
                let message =
                    format!("{unseen}: say how long a row may come after its position was drawn");
                return Err(self.invalid("lag", message));
            }
        }
        let (selects, key_types) = self.describe(&client).await?;
        let statements = sql::statements(&self.spec, &selects, &key_types);
        let page = match &statements.newest {
            Some(_) => Some(
                client
                    .prepare(&statements.page)
                    .await
                    .map_err(|e| self.refused("filter", e))?,
            ),
            None => None,
        };
        Ok(Connected {
            client,
            statements,
            selects,
            page,
            relations,
        })
    }

    /// What the server says of something configured: its own mistake is told with its key.
    fn refused(&self, key: &str, error: Error) -> StoreError {
        match error.as_db_error() {
            Some(db) if db.code().code().starts_with("42") || db.code().code() == "3F000" => {
                self.invalid(key, db.message())
            }
            _ => failed(errors::working("describe", &error)),
        }
    }

    /// Asks the server for the type of every column, one by one, so that what is wrong is named.
    #[allow(
        clippy::type_complexity,
        reason = "used once, right below its definition"
    )]
    async fn describe(
        &self,
        client: &Client,
    ) -> Result<(Vec<(&'static str, String, Select)>, Vec<String>), StoreError> {
        let from = sql::from(&self.spec);
        client
            .prepare(&format!("SELECT 1 {from}"))
            .await
            .map_err(|e| self.refused("join", e))?;
        let type_of = async |key: &str, expression: &str| -> Result<Type, StoreError> {
            let statement = client
                .prepare(&format!("SELECT {expression} {from}"))
                .await
                .map_err(|e| self.refused(key, e))?;
            let column = statement.columns().first();
            Ok(column.map_or(Type::TEXT, |c| c.type_().clone()))
        };
        if let Some(order) = self.spec.columns.order.as_deref().filter(|o| !o.is_empty()) {
            let found = type_of("order", &sql::expression(&self.spec, order)).await?;
            if ![Type::INT2, Type::INT4, Type::INT8].contains(&found) {
                return Err(self.invalid("order", format!("must be an integer, it is {found}")));
            }
        }
        let mut selects = Vec::new();
        let mut key_types = Vec::new();
        for (part, given) in sql::parts(&self.spec.columns) {
            let Some(given) = given else { continue };
            let expression = sql::expression(&self.spec, given);
            let found = type_of(part, &expression).await?;
            if matches!(
                part,
                "stream_name" | "stream_type" | "stream_id" | "version"
            ) {
                key_types.push(format!("\"{}\".\"{}\"", found.schema(), found.name()));
            }
            selects.push((part, expression, Select::of(part, found.name())));
        }
        Ok((selects, key_types))
    }
}
