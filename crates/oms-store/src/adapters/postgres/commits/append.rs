//! Appends while PostgreSQL leads.

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::super::migration::decode_row;
use super::super::rows::{RowColumns, unreadable};
use super::columns::CommitColumns;
use super::{Judged, copy, corrupt, invalid, sql, violated};
use crate::error::{Determinacy, StoreError};
use crate::ports::commit_store::Appended;
use crate::ports::delivery::OutboxRow;
use oms_core::domain::ids::Epoch;
use oms_core::log::object::{CommitObject, ObjectHash};
use oms_core::migration::fence::may_append_in_postgres;
use oms_core::migration::record::MigrationRow;

pub(super) const OPERATION: &str = "commit_append";

pub(super) async fn append(
    client: &impl GenericClient,
    object: &CommitObject,
    rows: &[OutboxRow],
    epoch: Epoch,
) -> Result<Judged<Appended>, Error> {
    let header = &object.header;
    if header.epoch != epoch {
        let (of, under) = (header.epoch.0, epoch.0);
        let message = format!("an object of epoch {of} is to be appended under epoch {under}");
        return Ok(Err(invalid(OPERATION, message)));
    }
    let hash = object.hash();
    let columns = match CommitColumns::of(std::iter::once((object, hash))) {
        Ok(columns) => columns,
        Err(e) => return Ok(Err(invalid(OPERATION, e.to_string()))),
    };
    let first = header.offset == 0 && header.prev == ObjectHash::NONE;
    let (offset, prev, under) = (header.offset as i64, &header.prev.0[..], epoch.0 as i64);
    let outbox = RowColumns::of(rows.iter());
    let own: [&(dyn ToSql + Sync); 17] = [
        &first,
        &offset,
        &prev,
        &under,
        &outbox.partition,
        &outbox.commit_offset,
        &outbox.idx,
        &outbox.event_id,
        &outbox.stream_type,
        &outbox.stream_id,
        &outbox.version,
        &outbox.topic,
        &outbox.epoch,
        &outbox.mode,
        &outbox.start,
        &outbox.len,
        &outbox.body,
    ];
    let mut params = columns.params();
    params.extend(own);
    let statement = client.prepare_cached(sql::APPEND).await?;
    let row = match client.query_one(&statement, &params).await {
        Ok(row) => row,
        Err(e) => return violated(OPERATION, || copy::place(object), e),
    };
    let outcome = match seen(&row).and_then(|seen| seen.judge(epoch)) {
        Ok(outcome) => outcome,
        Err(e) => return Ok(Err(e)),
    };
    match outcome {
        Appended::Created | Appended::Exists => Ok(Ok(outcome)),
        // An earlier attempt whose answer was lost may have succeeded before the row changed. It
        // has ended by now, because the change of the row waited for it.
        Appended::Fenced(_) | Appended::Unchained => {
            let there = copy::hash_at(client, header.partition, header.offset).await?;
            Ok(Ok(if there == Some(hash) {
                Appended::Exists
            } else {
                outcome
            }))
        }
    }
}

/// The statement's result.
struct Seen {
    fence: Option<MigrationRow>,
    chained: bool,
    added: bool,
}

fn seen(row: &Row) -> Result<Seen, StoreError> {
    let columns = || -> Result<(bool, bool, bool), Error> {
        let mode: Option<&str> = row.try_get(0)?;
        Ok((mode.is_some(), row.try_get(5)?, row.try_get(6)?))
    };
    let (fenced, chained, added) = columns().map_err(unreadable(OPERATION))?;
    let fence = fenced.then(|| decode_row(row, 0, OPERATION)).transpose()?;
    Ok(Seen {
        fence,
        chained,
        added,
    })
}

impl Seen {
    /// The decision by the model-checked function. The statement must have made the same one; if
    /// not, one of the two is wrong.
    fn judge(self, epoch: Epoch) -> Result<Appended, StoreError> {
        let allowed = self
            .fence
            .is_some_and(|row| may_append_in_postgres(&row, epoch).is_ok());
        match (allowed && self.chained, self.added) {
            (true, true) => Ok(Appended::Created),
            (true, false) => Ok(Appended::Exists),
            (false, false) if allowed => Ok(Appended::Unchained),
            (false, false) => Ok(Appended::Fenced(self.fence)),
            (false, true) => Err(StoreError {
                determinacy: Determinacy::Indeterminate,
                ..corrupt(
                    OPERATION,
                    format!("appended under epoch {} against {:?}", epoch.0, self.fence),
                )
            }),
        }
    }
}
