//! Reads another program's event store over a connection of its own.
//!
//! Positions from a sequence are not in the order of commits, so that rows may still appear before
//! the newest visible one. With a global position:
//!
//! 1. read the newest position;
//! 2. *then* list the transactions that hold a lock that inserting takes, on the table, its
//!    partitions or the sequences of positions;
//! 3. when all of those have ended, and the configured lag has passed, the rows up to that position
//!    are final and are read in pages by position.
//!
//! A transaction with a smaller position took it before step 1 and holds its lock until the row is
//! visible, so that either step 2 finds it or the row is visible already. New writers do not
//! prolong the wait. Locks do not reveal writers on a standby, behind a view, or with cached
//! sequence numbers (`CACHE`): there the lag has to be configured.
//!
//! The connection may go through a pooler: each read is a transaction that leaves no setting and no
//! named statement behind. A page ends early if its content is large. A row on which an expression
//! of the source fails is isolated by reading fewer and fewer rows, and returned as unreadable.
//!
//! Without a global position the table is read stream by stream in passes; each pass after the
//! first reads the rows of transactions that had not ended when the previous one began.

mod connect;
mod decode;
mod passes;
mod read;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Transaction};

use self::connect::Described;
use self::read::Bound;
use super::PostgresSettings;
use super::errors;
use super::pool::Connector;
use super::source_sql as sql;
use crate::error::{StoreError, StoreErrorKind};
use crate::health::Health;
use crate::io_runtime::IoRuntime;
use crate::metered::measured;
use crate::ports::import::{ForeignEvents, Page, PageEnd};
use oms_core::import::row::Cursor;
use oms_core::import::spec::SourceSpec;

const STORE: &str = "source";

/// How much longer than one statement a call may take.
const CALL_MARGIN: Duration = Duration::from_secs(10);

/// Largest distance of a transaction number, half of what 32 bits can distinguish; beyond it
/// "since" has no meaning.
const MAX_TRANSACTIONS_BACK: u64 = 2_000_000_000;

/// An event store in another database. Cheap to clone.
#[derive(Clone)]
pub struct PostgresSource {
    inner: Arc<Inner>,
    io: IoRuntime,
    health: Arc<Health>,
}

struct Inner {
    spec: SourceSpec,
    connector: Connector,
    statement_timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connected: Option<Connected>,
    horizon: Horizon,
}

/// Up to where rows are final.
#[derive(Default)]
struct Horizon {
    settled: Option<i64>,
    pending: Option<Pending>,
}

/// A position that was seen, and the transactions that may still insert rows before it.
struct Pending {
    newest: i64,
    writers: HashSet<String>,
    seen: Instant,
}

struct Connected {
    client: Client,
    described: Described,
    /// Rows of the next page, reduced after a row that could not be read.
    narrow: Option<usize>,
}

impl PostgresSource {
    /// Connects on first use. Of `settings` the URL and the timeouts are used.
    pub fn new(
        spec: SourceSpec,
        settings: &PostgresSettings,
        io: IoRuntime,
        health: Arc<Health>,
    ) -> Result<Self, StoreError> {
        let inner = Inner {
            spec,
            connector: Connector::foreign(settings)?,
            statement_timeout: settings.statement_timeout,
            state: Mutex::new(State::default()),
        };
        Ok(Self {
            inner: Arc::new(inner),
            io,
            health,
        })
    }

    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let limit = self.inner.statement_timeout + CALL_MARGIN;
        let call = async move {
            // The connection is dropped with work that is given up, because it is in the middle of
            // something.
            tokio::time::timeout(limit, work)
                .await
                .unwrap_or_else(|_| Err(failed(errors::timed_out(operation))))
        };
        let call = self.io.run(STORE, operation, call);
        measured(STORE, operation, &self.health, call).await
    }
}

#[async_trait]
impl ForeignEvents for PostgresSource {
    async fn begin(&self) -> Result<u64, StoreError> {
        let inner = self.inner.clone();
        self.call("begin", async move {
            let mut state = inner.state.lock().await;
            *state = State::default();
            inner
                .with(&mut state, async |connected, _| {
                    inner.begin(connected).await
                })
                .await
        })
        .await
    }

    async fn page(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let (inner, after) = (self.inner.clone(), after.cloned());
        self.call("page", async move {
            let mut state = inner.state.lock().await;
            inner
                .with(&mut state, async |connected, horizon| {
                    if connected.described.statements.newest.is_some() {
                        inner.positions(connected, horizon, after, limit).await
                    } else {
                        inner.pass(connected, after, limit).await
                    }
                })
                .await
        })
        .await
    }
}

fn failed(error: StoreError) -> StoreError {
    StoreError {
        store: STORE,
        ..error
    }
}

fn working(operation: &'static str) -> impl Fn(Error) -> StoreError {
    move |e| failed(errors::working(operation, &e))
}

impl Inner {
    fn invalid(&self, key: &str, message: impl std::fmt::Display) -> StoreError {
        let message = format!("migration.sources.{}.{key}: {message}", self.spec.name);
        StoreError::determinate(StoreErrorKind::Invalid, STORE, "describe", message)
    }

    /// Runs `work` on the connection, which is opened if necessary; one that failed is not used
    /// again.
    async fn with<T>(
        &self,
        state: &mut State,
        work: impl AsyncFnOnce(&mut Connected, &mut Horizon) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connected = match state.connected.take() {
            Some(connected) if !connected.client.is_closed() => connected,
            _ => self.connect().await?,
        };
        let outcome = work(&mut connected, &mut state.horizon).await;
        if outcome.as_ref().is_err_and(StoreError::is_indeterminate) {
            return outcome;
        }
        state.connected = Some(connected);
        outcome
    }

    async fn begin(&self, connected: &mut Connected) -> Result<u64, StoreError> {
        let Connected {
            client, described, ..
        } = connected;
        let statements = &described.statements;
        let transaction = self.transaction(client).await?;
        let unplaced: bool = transaction
            .query_typed_one(&statements.unplaced, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(working("begin"))?;
        if unplaced {
            let (key, what) = if statements.newest.is_some() {
                ("order", "some rows have no position")
            } else {
                ("version", "some rows have no stream or no version")
            };
            let message = format!("{what}, and would not be read: give them one, or a filter");
            return Err(self.invalid(key, message));
        }
        let estimate: i64 = transaction
            .query_typed_one(sql::ABOUT, &[(&self.spec.table, Type::TEXT)])
            .await
            .and_then(|about| about.try_get(2))
            .map_err(working("begin"))?;
        if estimate > 0 {
            transaction.commit().await.map_err(working("begin"))?;
            return Ok(estimate as u64);
        }
        // Never analysed, so probably small; a table that cannot be counted in time has no total.
        let count = transaction
            .query_typed_one(&statements.count, &[])
            .await
            .and_then(|row| row.try_get::<_, i64>(0));
        match count {
            Ok(count) => {
                transaction.commit().await.map_err(working("begin"))?;
                Ok(count as u64)
            }
            Err(e) if e.code() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED) => {
                transaction.rollback().await.map_err(working("begin"))?;
                Ok(0)
            }
            Err(e) => Err(working("begin")(e)),
        }
    }

    async fn writers(
        &self,
        transaction: &Transaction<'_>,
        relations: &[u32],
    ) -> Result<HashSet<String>, StoreError> {
        let rows = transaction
            .query_typed(sql::WRITERS, &[(&relations, Type::OID_ARRAY)])
            .await
            .map_err(working("writers"))?;
        rows.iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, Error>>()
            .map_err(working("writers"))
    }

    /// Advances the position up to which rows are final; returns the number of writers that are
    /// waited for.
    async fn advance(
        &self,
        connected: &mut Connected,
        horizon: &mut Horizon,
    ) -> Result<Option<u32>, StoreError> {
        let Connected {
            client, described, ..
        } = connected;
        let asks = horizon
            .pending
            .as_ref()
            .is_none_or(|p| !p.writers.is_empty());
        if asks {
            let transaction = self.transaction(client).await?;
            if let Some(pending) = &mut horizon.pending {
                let now = self.writers(&transaction, &described.relations).await?;
                pending.writers.retain(|w| now.contains(w));
            } else {
                let Some(newest) = &described.statements.newest else {
                    return Ok(None);
                };
                let newest: Option<i64> = transaction
                    .query_typed_one(newest, &[])
                    .await
                    .and_then(|row| row.try_get(0))
                    .map_err(|e| self.page_failed(&e))?;
                if let Some(newest) = newest.filter(|n| horizon.settled.is_none_or(|s| *n > s)) {
                    let seen = Instant::now();
                    // Only after the newest row was read: see the module.
                    let writers = self.writers(&transaction, &described.relations).await?;
                    horizon.pending = Some(Pending {
                        newest,
                        writers,
                        seen,
                    });
                }
            }
            transaction.commit().await.map_err(working("writers"))?;
        }
        match &horizon.pending {
            Some(p) if p.writers.is_empty() && p.seen.elapsed() >= self.spec.lag => {
                horizon.settled = Some(p.newest);
                horizon.pending = None;
                Ok(None)
            }
            Some(p) => Ok(Some(p.writers.len() as u32)),
            None => Ok(None),
        }
    }

    async fn positions(
        &self,
        connected: &mut Connected,
        horizon: &mut Horizon,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let after = match after {
            None => i64::MIN,
            Some(Cursor::Position(position)) => position,
            Some(Cursor::Pass { .. }) => return Err(self.another_cursor()),
        };
        let at = |end| Page {
            rows: Vec::new(),
            next: Cursor::Position(after),
            end,
        };
        if horizon.settled.is_none_or(|settled| settled <= after)
            && let Some(writers) = self.advance(connected, horizon).await?
        {
            return Ok(at(PageEnd::Unsettled(writers)));
        }
        let Some(settled) = horizon.settled.filter(|s| *s > after) else {
            return Ok(at(PageEnd::Caught));
        };
        let bound = Bound::Position { after, settled };
        let read = self.read(connected, &bound, limit).await?;
        let mut last = after;
        for row in &read.rows {
            let position = row.position.unwrap_or(i64::MIN);
            if position <= last {
                let message = format!(
                    "{position} is there more than once: it must be unique, and what is joined \
                     must not give a row twice"
                );
                return Err(self.invalid("order", message));
            }
            last = position;
        }
        let mut rows = read.rows;
        if read.more {
            rows.truncate(read.keep);
        }
        let next = if read.more {
            rows.last()
                .map_or(Cursor::Position(after), |row| row.cursor.clone())
        } else {
            Cursor::Position(settled)
        };
        let end = if read.more {
            PageEnd::More
        } else {
            PageEnd::Caught
        };
        Ok(Page { rows, next, end })
    }

    fn another_cursor(&self) -> StoreError {
        self.invalid(
            "order",
            "the import was begun with another order: start it anew with `restart`",
        )
    }
}
