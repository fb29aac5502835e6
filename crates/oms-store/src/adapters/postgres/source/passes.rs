//! Reads a table without a global position: stream by stream, in passes.

use super::read::{Bound, key_of};
use super::{Connected, Inner, MAX_TRANSACTIONS_BACK, STORE, working};
use crate::error::StoreError;
use crate::ports::import::{Page, PageEnd};
use oms_core::import::row::{Cursor, ForeignRow};

/// Rows of a page at least: more than share a key in any table fit for import, so that rows of one
/// key are in one page.
const MIN_ROWS: usize = 64;

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
        let bound = Bound::Pass {
            since,
            horizon,
            after,
        };
        let read = self.read(connected, &bound, limit.max(MIN_ROWS)).await?;
        let mut rows = read.rows;
        let nameless = |row: &ForeignRow| {
            row.unreadable.is_some()
                && (row.version.is_none() || (row.stream_id.is_none() && row.stream_name.is_none()))
        };
        if let Some(row) = rows.iter().find(|row| nameless(row)) {
            let told = row.unreadable.clone().unwrap_or_default();
            return Err(self.invalid(
                "stream_id",
                format!("a row has one that cannot be read: {told}"),
            ));
        }
        if !read.more {
            return Ok(Page {
                rows,
                next: Cursor::Pass {
                    since: Some(horizon),
                    horizon,
                    after: None,
                },
                end: PageEnd::Caught,
            });
        }
        // Rows of one key are kept together, because those on the next page would be skipped.
        let beyond = rows.get(read.keep).map(key_of);
        rows.truncate(read.keep);
        if beyond.is_some() && rows.last().map(key_of) == beyond {
            let whole = rows.iter().rposition(|row| Some(key_of(row)) != beyond);
            let Some(whole) = whole else {
                let key = rows.first().map(ForeignRow::key).unwrap_or_default();
                return Err(self.invalid("version", format!("{key} is there too many times")));
            };
            rows.truncate(whole + 1);
        }
        let next = rows.last().map(|row| row.cursor.clone());
        let Some(next) = next else {
            return Err(StoreError::corrupt(
                STORE,
                "page",
                "a page without rows has more",
            ));
        };
        Ok(Page {
            rows,
            next,
            end: PageEnd::More,
        })
    }

    async fn oldest_running(&self, connected: &mut Connected) -> Result<u64, StoreError> {
        let transaction = self.transaction(&mut connected.client).await?;
        let text: String = transaction
            .query_typed_one("SELECT pg_snapshot_xmin(pg_current_snapshot())::text", &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(working("horizon"))?;
        transaction.commit().await.map_err(working("horizon"))?;
        text.parse().map_err(|_| {
            StoreError::corrupt(STORE, "horizon", format!("`{text}` is no transaction"))
        })
    }
}
