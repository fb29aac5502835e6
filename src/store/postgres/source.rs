//! Somebody else's event store, read over a connection of its own.
//!
//! A sequence's order is not the order of committing, so the newest row that can be seen does not
//! say that nothing will appear before it. With a global position:
//!
//! 1. see the newest position;
//! 2. *then* list who holds a lock that inserting takes, on the table, its partitions or the
//!    sequences that positions are drawn from;
//! 3. when all of those have ended, and the configured lag is over, every row up to that position
//!    is there for good, and is read in pages by position.
//!
//! Whoever drew a smaller position did so before 1 and holds its lock until the row is visible, so
//! 2 finds it or the row is visible already. New writers do not prolong the wait. Locks do not show
//! writers on a standby, behind a view, or with numbers handed out ahead (`CACHE`): there the lag
//! has to be configured.
//!
//! Without a global position the table is read stream by stream in passes; each pass after the
//! first reads the rows of transactions that were not over when the one before began.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, Statement};

use super::PostgresSettings;
use super::errors;
use super::pool::Connector;
use super::source_sql::{self as sql, Select, Statements};
use crate::import::row::{Content, Cursor, ForeignRow, RowKey, RowTime};
use crate::import::spec::SourceSpec;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::health::Health;
use crate::store::import::{ForeignEvents, Page, PageEnd};
use crate::store::io_runtime::IoRuntime;
use crate::store::metered::measured;

const STORE: &str = "source";

/// How much longer than one statement a call may take.
const CALL_MARGIN: Duration = Duration::from_secs(10);

/// Further back than this, half of what transaction numbers can tell apart, "since" means nothing.
const MAX_TRANSACTIONS_BACK: u64 = 2_000_000_000;

/// The session: it cannot write, its plans fit its pages, and times come as UTC.
const SESSION: &str = "SET default_transaction_read_only = on; SET plan_cache_mode = force_custom_plan; \
     SET jit = off; SET timezone = 'UTC'";

/// See the module. Cheap to clone.
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

/// Up to where rows are there for good.
#[derive(Default)]
struct Horizon {
    settled: Option<i64>,
    pending: Option<Pending>,
}

/// A position that was seen, and who may still add rows before it.
struct Pending {
    newest: i64,
    writers: HashSet<String>,
    seen: Instant,
}

struct Connected {
    client: Client,
    statements: Statements,
    selects: Vec<(&'static str, String, Select)>,
    page: Option<Statement>,
    relations: Vec<u32>,
}

impl PostgresSource {
    /// Connects to nothing yet. Of `settings` the URL and the timeouts are used.
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
            // The connection goes with the work that is given up: it is in the middle of something.
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
                    if connected.statements.newest.is_some() {
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

    /// Runs `work` on the connection, making one where there is none; a connection that failed is
    /// not used again.
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

    async fn connect(&self) -> Result<Connected, StoreError> {
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

    async fn begin(&self, connected: &mut Connected) -> Result<u64, StoreError> {
        let client = &connected.client;
        let unplaced: bool = client
            .query_one(&connected.statements.unplaced, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(working("begin"))?;
        if unplaced {
            let (key, what) = if connected.statements.newest.is_some() {
                ("order", "some rows have no position")
            } else {
                ("version", "some rows have no stream or no version")
            };
            let message = format!("{what}, and would not be read: give them one, or a filter");
            return Err(self.invalid(key, message));
        }
        let about = client
            .query_one(sql::ABOUT, &[&self.spec.table])
            .await
            .map_err(working("begin"))?;
        let estimate: i64 = about.try_get(2).map_err(working("begin"))?;
        if estimate > 0 {
            return Ok(estimate as u64);
        }
        // Never analysed, so probably small; a table that cannot be counted in time has no total.
        match client.query_one(&connected.statements.count, &[]).await {
            Ok(row) => row
                .try_get::<_, i64>(0)
                .map(|count| count as u64)
                .map_err(working("begin")),
            Err(e) if e.code() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED) => Ok(0),
            Err(e) => Err(working("begin")(e)),
        }
    }

    async fn writers(&self, connected: &Connected) -> Result<HashSet<String>, StoreError> {
        let rows = connected
            .client
            .query(sql::WRITERS, &[&connected.relations])
            .await
            .map_err(working("writers"))?;
        rows.iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, Error>>()
            .map_err(working("writers"))
    }

    /// Looks how far rows are there for good; answers how many writers are waited for.
    async fn advance(
        &self,
        connected: &Connected,
        horizon: &mut Horizon,
    ) -> Result<Option<u32>, StoreError> {
        if horizon.pending.is_none() {
            let Some(newest) = &connected.statements.newest else {
                return Ok(None);
            };
            let newest: Option<i64> = connected
                .client
                .query_one(newest, &[])
                .await
                .and_then(|row| row.try_get(0))
                .map_err(working("newest"))?;
            let Some(newest) = newest.filter(|n| horizon.settled.is_none_or(|s| *n > s)) else {
                return Ok(None);
            };
            let seen = Instant::now();
            // Only after the newest row was seen: see the module.
            let writers = self.writers(connected).await?;
            horizon.pending = Some(Pending {
                newest,
                writers,
                seen,
            });
        } else if horizon
            .pending
            .as_ref()
            .is_some_and(|p| !p.writers.is_empty())
        {
            let now = self.writers(connected).await?;
            if let Some(pending) = &mut horizon.pending {
                pending.writers.retain(|w| now.contains(w));
            }
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
        let (Some(settled), Some(page)) = (horizon.settled.filter(|s| *s > after), &connected.page)
        else {
            return Ok(at(PageEnd::Caught));
        };
        // One more than asked for, to see that the next one has another position.
        let rows = connected
            .client
            .query(page, &[&after, &settled, &(limit as i64 + 1)])
            .await
            .map_err(working("page"))?;
        let mut decoded = Vec::with_capacity(rows.len());
        let mut last = after;
        for row in &rows {
            let position: i64 = row.try_get(0).map_err(working("page"))?;
            if position <= last {
                return Err(self.invalid("order", format!("{position} is there more than once")));
            }
            last = position;
            let cursor = Cursor::Position(position);
            decoded.push(decode(row, &connected.selects, cursor).map_err(working("page"))?);
        }
        if decoded.len() > limit {
            decoded.truncate(limit);
            let next = decoded
                .last()
                .map_or(Cursor::Position(after), |row| row.cursor.clone());
            return Ok(Page {
                rows: decoded,
                next,
                end: PageEnd::More,
            });
        }
        Ok(Page {
            rows: decoded,
            next: Cursor::Position(settled),
            end: PageEnd::Caught,
        })
    }

    async fn pass(
        &self,
        connected: &mut Connected,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let (since, horizon, after) = match cursor {
            Some(Cursor::Position(_)) => return Err(self.another_cursor()),
            Some(Cursor::Pass {
                since,
                horizon,
                after: Some(after),
            }) => (since, horizon, Some(after)),
            other => {
                let since = match other {
                    Some(Cursor::Pass { since, .. }) => since,
                    _ => None,
                };
                let now = self.oldest_running(connected).await?;
                // Too long ago, or of another server: everything is read again.
                let since = since.filter(|s| {
                    now.checked_sub(*s)
                        .is_some_and(|back| back < MAX_TRANSACTIONS_BACK)
                });
                (since, now, None)
            }
        };
        let asked = limit as i64 + 1;
        let rows = match (&after, &connected.statements.next_page) {
            (Some(key), Some(next_page)) => {
                let version = key.version.to_string();
                let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(4);
                if let Some(stream_type) = &key.stream_type {
                    parameters.push(stream_type);
                }
                parameters.push(&key.stream_id);
                parameters.push(&version);
                parameters.push(&asked);
                let page = next_page.replace("{since}", &sql::since(since));
                connected.client.query(&page, &parameters).await
            }
            _ => {
                let page = connected
                    .statements
                    .page
                    .replace("{since}", &sql::since(since));
                connected.client.query(&page, &[&asked]).await
            }
        };
        let rows = rows.map_err(working("page"))?;
        let mut decoded: Vec<ForeignRow> = Vec::with_capacity(rows.len());
        let mut last = after.clone();
        for row in &rows {
            let begin = Cursor::Pass {
                since,
                horizon,
                after: None,
            };
            let mut row = decode(row, &connected.selects, begin).map_err(working("page"))?;
            let key = RowKey {
                stream_type: row.stream_type.clone(),
                // Either is there: rows without are refused at the beginning.
                stream_id: row
                    .stream_name
                    .clone()
                    .or_else(|| row.stream_id.clone())
                    .unwrap_or_default(),
                version: row.version.unwrap_or_default(),
            };
            if last.as_ref() == Some(&key) {
                let message = format!("{} is there more than once", row.key());
                return Err(self.invalid("version", message));
            }
            last = Some(key.clone());
            row.cursor = Cursor::Pass {
                since,
                horizon,
                after: Some(key),
            };
            decoded.push(row);
        }
        if decoded.len() > limit {
            decoded.truncate(limit);
            let next = decoded.last().map(|row| row.cursor.clone());
            if let Some(next) = next {
                return Ok(Page {
                    rows: decoded,
                    next,
                    end: PageEnd::More,
                });
            }
        }
        Ok(Page {
            rows: decoded,
            next: Cursor::Pass {
                since: Some(horizon),
                horizon,
                after: None,
            },
            end: PageEnd::Caught,
        })
    }

    async fn oldest_running(&self, connected: &Connected) -> Result<u64, StoreError> {
        let text: String = connected
            .client
            .query_one("SELECT pg_snapshot_xmin(pg_current_snapshot())::text", &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(working("horizon"))?;
        text.parse().map_err(|_| {
            StoreError::corrupt(STORE, "horizon", format!("`{text}` is no transaction"))
        })
    }

    fn another_cursor(&self) -> StoreError {
        self.invalid(
            "order",
            "the import was begun with another order: start it anew with `restart`",
        )
    }
}

fn decode(
    row: &Row,
    selects: &[(&'static str, String, Select)],
    cursor: Cursor,
) -> Result<ForeignRow, Error> {
    // The parts follow the position in their order.
    let text = |column: usize| row.try_get::<_, Option<String>>(column);
    let content = |column: usize, part: &str| {
        let select = selects.iter().find(|(name, ..)| *name == part);
        Ok::<_, Error>(match select {
            None => Content::Null,
            Some((_, _, Select::Bytes)) => row
                .try_get::<_, Option<Vec<u8>>>(column)?
                .map_or(Content::Null, Content::Bytes),
            Some(_) => text(column)?.map_or(Content::Null, Content::Text),
        })
    };
    let is_time = selects
        .iter()
        .any(|(name, _, select)| *name == "time" && *select == Select::Time);
    let time = if is_time {
        let time: Option<SystemTime> = row.try_get(10)?;
        time.map(|t| RowTime::Micros(micros(t)))
    } else {
        text(10)?.map(RowTime::Text)
    };
    Ok(ForeignRow {
        cursor,
        position: row.try_get(0)?,
        stream_name: text(1)?,
        stream_type: text(2)?,
        stream_id: text(3)?,
        version: row.try_get(4)?,
        event_id: text(5)?,
        event_type: text(6)?,
        schema_version: text(7)?,
        data: content(8, "data")?,
        metadata: content(9, "metadata")?,
        time,
    })
}

/// Microseconds since 1970; the ends of time stay where no timestamp can be made of them.
fn micros(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |m| -m),
    }
}
