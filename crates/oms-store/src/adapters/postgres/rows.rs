//! Conversion between rows of the outbox and arrays of columns.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::errors::STORE;
use crate::error::StoreError;
use crate::ports::delivery::{DeadLetter, OutboxRow};
use oms_core::domain::ids::{Epoch, EventId, PartitionId, Position, StreamName, Version};
use oms_core::migration::stage::Mode;

/// The columns that [`decode_dead_letter`] reads, in its order.
pub(super) const DEAD_COLUMNS: &str = "partition, commit_offset, idx, id, event_id, stream_type, \
     stream_id, version, topic, attempts, last_error, created, died";

/// Rows to be inserted, as arrays of columns.
#[derive(Default)]
pub(super) struct RowColumns<'a> {
    pub partition: Vec<i32>,
    pub commit_offset: Vec<i64>,
    pub idx: Vec<i32>,
    pub event_id: Vec<Uuid>,
    pub stream_type: Vec<&'a str>,
    pub stream_id: Vec<&'a str>,
    pub version: Vec<i64>,
    pub topic: Vec<&'a str>,
    pub epoch: Vec<i64>,
    pub mode: Vec<&'a str>,
    pub start: Vec<i64>,
    pub len: Vec<i64>,
    pub body: Vec<Option<&'a [u8]>>,
}

impl<'a> RowColumns<'a> {
    pub fn of(rows: impl Iterator<Item = &'a OutboxRow>) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.partition.push(i32::from(row.position.partition.0));
            columns.commit_offset.push(row.position.offset as i64);
            columns.idx.push(row.position.index as i32);
            columns.event_id.push(row.event_id.0);
            columns.stream_type.push(row.stream.stream_type());
            columns.stream_id.push(row.stream.id());
            columns.version.push(row.version.0 as i64);
            columns.topic.push(&row.topic);
            columns.epoch.push(row.epoch.0 as i64);
            columns.mode.push(row.mode.as_str());
            columns.start.push(i64::from(row.start));
            columns.len.push(i64::from(row.len));
            columns.body.push(row.body.as_deref());
        }
        columns
    }
}

/// Positions as arrays of columns.
pub(super) fn position_columns<'a>(
    positions: impl Iterator<Item = &'a Position>,
) -> (Vec<i32>, Vec<i64>, Vec<i32>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for position in positions {
        columns.0.push(i32::from(position.partition.0));
        columns.1.push(position.offset as i64);
        columns.2.push(position.index as i32);
    }
    columns
}

/// PostgreSQL's answer does not have the form that this program wrote.
pub(super) fn unreadable(operation: &'static str) -> impl Fn(Error) -> StoreError {
    move |e| StoreError::corrupt(STORE, operation, e.to_string())
}

pub(super) fn partition_of(row: &Row, column: usize) -> Result<PartitionId, Error> {
    let partition: i32 = row.try_get(column)?;
    Ok(PartitionId(partition as u16))
}

fn position(row: &Row) -> Result<Position, Error> {
    Ok(Position {
        partition: partition_of(row, 0)?,
        offset: row.try_get::<_, i64>(1)? as u64,
        index: row.try_get::<_, i32>(2)? as u32,
    })
}

/// PostgreSQL's times are within the range of [`Timestamp`], except its infinities.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A time of this century in the driver's type, with the microseconds that PostgreSQL stores.
pub(super) fn system_time(time: Timestamp) -> SystemTime {
    let micros = u64::try_from(time.as_microsecond()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

pub(super) fn mode(text: &str) -> Option<Mode> {
    [Mode::Legacy, Mode::DualWrite, Mode::S3Only]
        .into_iter()
        .find(|mode| mode.as_str() == text)
}

pub(super) fn decode_row(row: &Row, operation: &'static str) -> Result<OutboxRow, StoreError> {
    let columns = || -> Result<OutboxRow, Error> {
        let stream_type: &str = row.try_get(4)?;
        let stream_id: &str = row.try_get(5)?;
        Ok(OutboxRow {
            position: position(row)?,
            event_id: EventId(row.try_get(3)?),
            stream: StreamName::from_stored(stream_type, stream_id),
            version: Version(row.try_get::<_, i64>(6)? as u64),
            topic: row.try_get(7)?,
            epoch: Epoch(row.try_get::<_, i64>(8)? as u64),
            mode: Mode::S3Only,
            start: row.try_get::<_, i64>(10)? as u32,
            len: row.try_get::<_, i64>(11)? as u32,
            body: row.try_get::<_, Option<Vec<u8>>>(12)?.map(Into::into),
            attempts: row.try_get::<_, i32>(13)? as u32,
            next_attempt: row.try_get::<_, Option<SystemTime>>(14)?.map(timestamp),
        })
    };
    let decoded = columns().map_err(unreadable(operation))?;
    let text: &str = row.try_get(9).map_err(unreadable(operation))?;
    match mode(text) {
        Some(mode) => Ok(OutboxRow { mode, ..decoded }),
        None => Err(StoreError::corrupt(
            STORE,
            operation,
            format!(
                "{} was committed in a mode unknown here: {text}",
                decoded.position
            ),
        )),
    }
}

pub(super) fn decode_dead_letter(row: &Row) -> Result<DeadLetter, Error> {
    let (stream_type, stream_id): (&str, &str) = (row.try_get(5)?, row.try_get(6)?);
    Ok(DeadLetter {
        position: position(row)?,
        id: row.try_get(3)?,
        event_id: EventId(row.try_get(4)?),
        stream: format!("{stream_type}/{stream_id}"),
        version: Version(row.try_get::<_, i64>(7)? as u64),
        topic: row.try_get(8)?,
        attempts: row.try_get::<_, i32>(9)? as u32,
        last_error: row.try_get(10)?,
        created: timestamp(row.try_get(11)?),
        died: timestamp(row.try_get(12)?),
    })
}
