//! Reads one page: as many rows as requested, or as fit the memory limit, or only the one that
//! cannot be read.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::decode::decode;
use super::{Connected, Inner, sql, working};
use crate::error::StoreError;
use oms_core::import::row::{Cursor, ForeignRow, RowKey};

/// A page ends when its content exceeds so many bytes.
const PAGE_BYTES: usize = 32 << 20;

/// Factor by which a page is reduced after a row that could not be read, and enlarged after it.
const NARROWING: usize = 8;

/// The range of a page.
pub(super) enum Bound {
    /// Positions above `after`, up to `settled`.
    Position { after: i64, settled: i64 },
    /// Keys after a row of a pass, or from its beginning.
    Pass {
        since: Option<u64>,
        horizon: u64,
        after: Option<RowKey>,
    },
}

/// The result of a read.
pub(super) struct Read {
    /// Rows; one more than `keep` if there is one.
    pub rows: Vec<ForeignRow>,
    /// Number of rows in the page.
    pub keep: usize,
    /// Whether there may be more rows after the page.
    pub more: bool,
}

/// The statements of a source that a read uses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    All,
    Names,
    Place,
}

impl What {
    fn wants(self, part: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names => sql::is_key(part),
            Self::Place => false,
        }
    }
}

enum Failed {
    /// An error of the server, or of one row.
    Postgres(Error),
    /// An error for the caller.
    Store(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

impl Inner {
    /// Rows within the bound, about `limit` at most.
    pub(super) async fn read(
        &self,
        connected: &mut Connected,
        bound: &Bound,
        limit: usize,
    ) -> Result<Read, StoreError> {
        loop {
            // One more than requested, to see whether the next row has the same key. Not while a
            // row that cannot be read is being isolated: the additional one may be that row.
            let (asked, look) = match connected.narrow {
                Some(rows) => (rows.min(limit), 0),
                None => (limit, 1),
            };
            match self.rows(connected, bound, What::All, asked + look).await {
                Ok((rows, cut)) => {
                    let wider = connected.narrow.map(|rows| rows * NARROWING);
                    connected.narrow = wider.filter(|rows| *rows < limit);
                    // Up to the row before the last: rows with the key of the last one are read
                    // together with it next time.
                    let keep = if cut { (rows.len() - 1).max(1) } else { asked };
                    let more = cut || rows.len() >= asked + look;
                    return Ok(Read { rows, keep, more });
                }
                Err(Failed::Postgres(e)) if Self::is_of_a_row(&e) => {
                    if asked + look > 1 {
                        connected.narrow = Some((asked / NARROWING).max(1));
                        continue;
                    }
                    let row = self.unreadable(connected, bound, &e).await?;
                    return Ok(Read {
                        rows: vec![row],
                        keep: 1,
                        more: true,
                    });
                }
                Err(Failed::Postgres(e)) => return Err(self.page_failed(&e)),
                Err(Failed::Store(e)) => return Err(e),
            }
        }
    }

    /// The first row within the bound, with those columns that can be read.
    async fn unreadable(
        &self,
        connected: &mut Connected,
        bound: &Bound,
        error: &Error,
    ) -> Result<ForeignRow, StoreError> {
        let told = error.as_db_error().map_or_else(String::new, |db| {
            format!("{} ({})", db.message(), db.code().code())
        });
        let first = match self.rows(connected, bound, What::Names, 1).await {
            Err(Failed::Postgres(e)) if Self::is_of_a_row(&e) => {
                self.rows(connected, bound, What::Place, 1).await
            }
            first => first,
        };
        let rows = match first {
            Ok((rows, _)) => rows,
            Err(Failed::Postgres(e)) => return Err(self.page_failed(&e)),
            Err(Failed::Store(e)) => return Err(e),
        };
        let Some(mut row) = rows.into_iter().next() else {
            // It was deleted meanwhile: the next read finds what there is.
            return Err(StoreError::determinate(
                crate::error::StoreErrorKind::Unavailable,
                super::STORE,
                "page",
                format!("a row could not be read and is gone: {told}"),
            ));
        };
        row.unreadable = Some(told);
        Ok(row)
    }

    /// At most `limit` rows; also returns whether the page ended early because of its size.
    async fn rows(
        &self,
        connected: &mut Connected,
        bound: &Bound,
        what: What,
        limit: usize,
    ) -> Result<(Vec<ForeignRow>, bool), Failed> {
        let Connected {
            client, described, ..
        } = connected;
        let statements = &described.statements;
        let limit = limit as i64;
        let version;
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> = Vec::with_capacity(4);
        let statement = match bound {
            Bound::Position { after, settled } => {
                parameters.push((after, Type::INT8));
                parameters.push((settled, Type::INT8));
                match what {
                    What::All => Some(&statements.page),
                    What::Names => Some(&statements.names),
                    What::Place => statements.place.as_ref(),
                }
            }
            Bound::Pass { after: None, .. } => match what {
                What::All => Some(&statements.page),
                What::Names => Some(&statements.names),
                What::Place => None,
            },
            Bound::Pass {
                after: Some(key), ..
            } => {
                if let Some(stream_type) = &key.stream_type {
                    parameters.push((stream_type, Type::TEXT));
                }
                parameters.push((&key.stream_id, Type::TEXT));
                version = key.version.to_string();
                parameters.push((&version, Type::TEXT));
                match what {
                    What::All => statements.next_page.as_ref(),
                    What::Names => statements.next_names.as_ref(),
                    What::Place => None,
                }
            }
        };
        parameters.push((&limit, Type::INT8));
        let Some(statement) = statement else {
            let message = "what rows are found by cannot be read";
            return Err(self.invalid("version", message).into());
        };
        let since = match bound {
            Bound::Pass { since, .. } => sql::since(*since),
            Bound::Position { .. } => String::new(),
        };
        let statement = match bound {
            Bound::Pass { .. } => statement.replace("{since}", &since),
            Bound::Position { .. } => statement.clone(),
        };
        let wants = |part: &str| what.wants(part);
        self.stream(client, &statement, parameters, |row| {
            let begin = Cursor::Position(i64::MIN);
            let mut row = decode(row, &described.selects, wants, begin)?;
            row.cursor = cursor_of(&row, bound);
            Ok(row)
        })
        .await
    }

    async fn stream(
        &self,
        client: &mut Client,
        statement: &str,
        parameters: Vec<(&(dyn ToSql + Sync), Type)>,
        decode: impl Fn(&tokio_postgres::Row) -> Result<ForeignRow, Error>,
    ) -> Result<(Vec<ForeignRow>, bool), Failed> {
        let transaction = self.transaction(client).await?;
        let mut rows = Vec::new();
        let mut cut = false;
        {
            let mut stream = pin!(transaction.query_typed_raw(statement, parameters).await?);
            let mut bytes = 0;
            while let Some(row) = stream.try_next().await? {
                let row = decode(&row)?;
                bytes += row.size();
                rows.push(row);
                if bytes > PAGE_BYTES {
                    cut = true;
                    break;
                }
            }
        }
        transaction.commit().await.map_err(working("page"))?;
        Ok((rows, cut))
    }
}

/// The cursor after a row.
fn cursor_of(row: &ForeignRow, bound: &Bound) -> Cursor {
    match bound {
        Bound::Position { .. } => Cursor::Position(row.position.unwrap_or(i64::MIN)),
        Bound::Pass { since, horizon, .. } => Cursor::Pass {
            since: *since,
            horizon: *horizon,
            after: Some(key_of(row)),
        },
    }
}

/// The key of a row of a pass.
pub(super) fn key_of(row: &ForeignRow) -> RowKey {
    RowKey {
        stream_type: row.stream_type.clone(),
        // One of the two is set: rows without a key are refused when connecting.
        stream_id: row
            .stream_name
            .clone()
            .or_else(|| row.stream_id.clone())
            .unwrap_or_default(),
        version: row.version.unwrap_or_default(),
    }
}
