//! Reading a table without a global position: stream by stream, in passes.

use tokio_postgres::types::ToSql;

use super::decode::decode;
use super::sql;
use super::{Connected, Inner, MAX_TRANSACTIONS_BACK, STORE, working};
use crate::import::row::{Cursor, ForeignRow, RowKey};
use crate::store::error::StoreError;
use crate::store::import::{Page, PageEnd};

impl Inner {
    pub(super) async fn pass(
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

    pub(super) async fn oldest_running(&self, connected: &Connected) -> Result<u64, StoreError> {
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
}
