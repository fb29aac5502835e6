//! Converts a row of the driver into a foreign row.

use std::error::Error as _;
use std::time::SystemTime;

use tokio_postgres::types::{FromSql, WrongType};
use tokio_postgres::{Error, Row};

use super::sql::{Select, TOO_LARGE};
use oms_core::import::row::{Content, Cursor, ForeignRow, RowTime};

/// Longest description of what cannot be read, in bytes.
const MAX_TOLD: usize = 300;

struct Decoder<'r> {
    row: &'r Row,
    unreadable: Option<String>,
}

impl<'r> Decoder<'r> {
    /// A column's value; `None` if it is not valid for its type, as text in a database without
    /// encoding may be. A column of another type than described is an error: the table was changed.
    fn get<T: FromSql<'r>>(&mut self, column: usize) -> Result<Option<T>, Error> {
        match self.row.try_get(column) {
            Ok(value) => Ok(value),
            Err(e) if e.source().is_none_or(|s| s.is::<WrongType>()) => Err(e),
            Err(e) => {
                let mut told = e.source().map_or_else(String::new, ToString::to_string);
                told.truncate(told.floor_char_boundary(MAX_TOLD));
                self.unreadable.get_or_insert(told);
                Ok(None)
            }
        }
    }

    fn content(&mut self, column: usize, select: Option<Select>) -> Result<Content, Error> {
        Ok(match select {
            None => Content::Null,
            Some(Select::Bytes) => self.get(column)?.map_or(Content::Null, Content::Bytes),
            Some(_) => self.get(column)?.map_or(Content::Null, Content::Text),
        })
    }
}

/// `wanted` says which parts were selected; the others are `None`.
pub(super) fn decode(
    row: &Row,
    selects: &[(&'static str, String, Select)],
    wanted: impl Fn(&str) -> bool,
    cursor: Cursor,
) -> Result<ForeignRow, Error> {
    let select = |part: &str| {
        let found = selects.iter().find(|(name, ..)| *name == part);
        found.filter(|_| wanted(part)).map(|(.., select)| *select)
    };
    let mut decoder = Decoder {
        row,
        unreadable: None,
    };
    // The parts follow the position, in their order.
    let version: Option<String> = decoder.get(4)?;
    let number = version.as_deref().and_then(integer);
    let time = if select("time") == Some(Select::Time) {
        let time: Option<SystemTime> = decoder.get(10)?;
        time.map(|t| RowTime::Micros(micros(t)))
    } else {
        decoder.get(10)?.map(RowTime::Text)
    };
    Ok(ForeignRow {
        cursor,
        position: row.try_get(0)?,
        stream_name: decoder.get(1)?,
        stream_type: decoder.get(2)?,
        stream_id: decoder.get(3)?,
        version: number,
        odd_version: version.filter(|_| number.is_none()),
        event_id: decoder.get(5)?,
        event_type: decoder.get(6)?,
        schema_version: decoder.get(7)?,
        data: decoder.content(8, select("data"))?,
        metadata: decoder.content(9, select("metadata"))?,
        time,
        too_large: row.try_get(TOO_LARGE)?,
        unreadable: decoder.unreadable,
    })
}

/// An integer, also in the form of a decimal with only zeros after the point.
fn integer(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_whole = fraction.bytes().all(|b| b == b'0');
    whole.parse().ok().filter(|_| is_whole)
}

/// Microseconds since 1970; times out of range are clamped.
fn micros(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |m| -m),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_an_integer_or_none() {
        assert_eq!(integer("7"), Some(7));
        assert_eq!(integer("7.000"), Some(7));
        for odd in ["7.5", "", "x", "7e3", "99999999999999999999"] {
            assert_eq!(integer(odd), None, "{odd}");
        }
    }
}
