//! From a row of the driver to a foreign row.

use std::time::SystemTime;

use tokio_postgres::{Error, Row};

use super::sql::Select;
use crate::import::row::{Content, Cursor, ForeignRow, RowTime};

pub(super) fn decode(
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
