//! The log in PostgreSQL: one row per commit object and one per event; an object's bytes are
//! rebuilt from them.
//!
//! * `columns`: objects as arrays of columns
//! * [`append`]: appends while PostgreSQL leads
//! * [`copy`]: copies while S3 leads
//! * [`read`]: reads objects and events
//! * `sql`: the statements

mod append;
mod columns;
pub(super) mod copy;
mod read;
mod sql;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_postgres::error::SqlState;

use super::errors::STORE;
use super::{Postgres, Work};
use crate::error::{StoreError, StoreErrorKind};
use crate::ports::commit_store::{Appended, CommitStore, LeadingTable};
use crate::ports::delivery::OutboxRow;
use crate::ports::object_store::Created;
use oms_core::domain::ids::{Epoch, Offset, PartitionId};
use oms_core::log::index::Location;
use oms_core::log::lead::Lead;
use oms_core::log::object::CommitObject;

/// The log in a PostgreSQL database.
#[derive(Clone)]
pub struct PostgresCommitStore {
    postgres: Postgres,
}

/// The result of work on the log within [`Postgres::run`]: errors of PostgreSQL are the outer
/// result; the inner one is judged on the I/O runtime, where the bytes are.
type Judged<T> = Result<T, StoreError>;

impl PostgresCommitStore {
    /// The log in this database.
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }

    async fn run<T, W>(&self, operation: &'static str, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut deadpool_postgres::Object) -> Work<'c, Judged<T>>
            + Send
            + 'static,
    {
        self.postgres.run(operation, work).await?
    }
}

/// Turns a violated constraint into a `Corrupt` error that names it: a valid log violates none.
fn violated<T>(
    operation: &'static str,
    what: impl FnOnce() -> String,
    error: tokio_postgres::Error,
) -> Result<Judged<T>, tokio_postgres::Error> {
    let Some(constraint) = constraint(&error) else {
        return Err(error);
    };
    let message = format!("{} violates {constraint}", what());
    Ok(Err(StoreError::corrupt(STORE, operation, message)))
}

/// The unique constraint that a statement violated.
fn constraint(error: &tokio_postgres::Error) -> Option<&str> {
    let error = error.as_db_error()?;
    (error.code() == &SqlState::UNIQUE_VIOLATION)
        .then(|| error.constraint().unwrap_or("a constraint without name"))
}

fn corrupt(operation: &'static str, message: impl Into<String>) -> StoreError {
    StoreError::corrupt(STORE, operation, message)
}

fn invalid(operation: &'static str, message: impl Into<String>) -> StoreError {
    StoreError::determinate(StoreErrorKind::Invalid, STORE, operation, message)
}

#[async_trait]
impl CommitStore for PostgresCommitStore {
    fn place(&self) -> Lead {
        Lead::Postgres
    }

    async fn put(&self, object: &CommitObject) -> Result<Created, StoreError> {
        let object = object.clone();
        self.run("commit_put", move |client| {
            Box::pin(async move { copy::put(&*client, &object).await })
        })
        .await
    }

    async fn copy(&self, objects: &[Arc<CommitObject>]) -> Result<Offset, StoreError> {
        if objects.is_empty() {
            return Ok(0);
        }
        let objects = copy::take(objects)?;
        self.run("commit_copy", move |client| {
            Box::pin(async move { copy::copy(&*client, &objects).await })
        })
        .await
    }

    async fn get(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<CommitObject>, StoreError> {
        let found = self
            .run("commit_get", move |client| {
                Box::pin(async move { read::span(&*client, partition, offset, offset + 1).await })
            })
            .await?;
        Ok(found.into_iter().next())
    }

    async fn span(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<CommitObject>, StoreError> {
        self.run("commit_span", move |client| {
            Box::pin(async move { read::span(&*client, partition, from, to).await })
        })
        .await
    }

    async fn end(&self, partition: PartitionId, from: Offset) -> Result<Offset, StoreError> {
        let end = self
            .postgres
            .run("commit_end", move |client| {
                Box::pin(async move { read::end(&*client, partition).await })
            })
            .await?;
        Ok(end.max(from))
    }

    async fn events(
        &self,
        partition: PartitionId,
        places: &[Location],
    ) -> Result<Vec<Bytes>, StoreError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let places = places.to_vec();
        self.run("commit_events", move |client| {
            Box::pin(async move { read::events(&*client, partition, &places).await })
        })
        .await
    }
}

#[async_trait]
impl LeadingTable for PostgresCommitStore {
    async fn append(
        &self,
        object: &CommitObject,
        rows: &[OutboxRow],
        epoch: Epoch,
    ) -> Result<Appended, StoreError> {
        let (object, rows) = (object.clone(), rows.to_vec());
        self.run(append::OPERATION, move |client| {
            Box::pin(async move { append::append(&*client, &object, &rows, epoch).await })
        })
        .await
    }
}
