//! Reads objects and events from their rows.

use bytes::{Bytes, BytesMut};
use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, Row};

use super::super::errors::STORE;
use super::super::rows::unreadable;
use super::columns::Json;
use super::{Judged, corrupt, sql};
use crate::error::StoreError;
use crate::ports::commit_store::no_such_commit;
use oms_core::domain::ids::{Offset, PartitionId};
use oms_core::log::index::Location;
use oms_core::log::object::{CommitKind, CommitObject};

const SPAN: &str = "commit_span";
const EVENTS: &str = "commit_events";

/// Bytes of objects in one answer, unless a single object is larger: enough that round trips do not
/// matter, few enough to be held several times.
const SPAN_BYTES: i64 = 8 << 20;

/// Objects in one answer at most: small ones cost the server a lookup each.
const SPAN_OBJECTS: i64 = 1_024;

pub(super) async fn end(
    client: &impl GenericClient,
    partition: PartitionId,
) -> Result<Offset, Error> {
    let statement = client.prepare_cached(sql::END).await?;
    let row = client
        .query_one(&statement, &[&i32::from(partition.0)])
        .await?;
    Ok(row.try_get::<_, i64>(0)? as Offset)
}

/// The objects in `from..to`, at most `limit`, or fewer if they are large.
pub(super) async fn span(
    client: &impl GenericClient,
    partition: PartitionId,
    from: Offset,
    to: Offset,
) -> Result<Judged<Vec<CommitObject>>, Error> {
    let statement = client.prepare_cached(sql::SPAN).await?;
    let rows = client
        .query(
            &statement,
            &[
                &i32::from(partition.0),
                &i64::try_from(from).unwrap_or(i64::MAX),
                &i64::try_from(to).unwrap_or(i64::MAX),
                &SPAN_OBJECTS,
                &SPAN_BYTES,
            ],
        )
        .await?;
    Ok(rows
        .iter()
        .zip(from..)
        .map(|(row, offset)| rebuild(row, partition, offset))
        .collect())
}

fn rebuild(row: &Row, partition: PartitionId, offset: Offset) -> Result<CommitObject, StoreError> {
    let stored = Stored::of(row).map_err(unreadable(SPAN))?;
    let damaged = |what: String| corrupt(SPAN, format!("{partition}/{offset}: {what}"));
    if stored.offset != offset {
        // Objects are only added at the end.
        return Err(damaged(format!(
            "missing, though {} is there",
            stored.offset
        )));
    }
    let object = CommitObject::parse(stored.bytes()).map_err(|e| damaged(e.to_string()))?;
    let header = &object.header;
    if (header.partition, header.offset) != (partition, offset) {
        return Err(damaged(format!(
            "its header says {}/{}",
            header.partition, header.offset
        )));
    }
    let (control, events) = match header.kind {
        CommitKind::Control => (1, 0),
        CommitKind::Events => (0, i64::from(header.count)),
    };
    if (stored.control.iter().count(), stored.count) != (control, events) {
        return Err(damaged(format!(
            "its header says {control} control records and {events} events, there are {} and {}",
            stored.control.iter().count(),
            stored.count
        )));
    }
    if events > 0 && (stored.first, stored.last) != (Some(0), Some(header.count as i32 - 1)) {
        return Err(damaged("its events are not numbered 0, 1, 2, …".into()));
    }
    if object.bytes.len() as i64 != stored.size {
        return Err(damaged(format!(
            "{} bytes long instead of {}",
            object.bytes.len(),
            stored.size
        )));
    }
    let hash = object.hash();
    if hash.0[..] != *stored.sha256 {
        return Err(damaged(format!(
            "its SHA-256 is {hash} instead of {}",
            hex::encode(stored.sha256)
        )));
    }
    Ok(object)
}

/// An object as stored in its rows.
struct Stored<'a> {
    offset: Offset,
    header: Json<'a>,
    control: Option<Json<'a>>,
    size: i64,
    sha256: &'a [u8],
    lines: Option<&'a str>,
    count: i64,
    first: Option<i32>,
    last: Option<i32>,
}

impl<'a> Stored<'a> {
    fn of(row: &'a Row) -> Result<Self, Error> {
        Ok(Self {
            offset: row.try_get::<_, i64>(0)? as Offset,
            header: row.try_get(1)?,
            control: row.try_get(2)?,
            size: row.try_get(3)?,
            sha256: row.try_get(4)?,
            lines: row.try_get(5)?,
            count: row.try_get(6)?,
            first: row.try_get(7)?,
            last: row.try_get(8)?,
        })
    }

    fn bytes(&self) -> Bytes {
        let control = self.control.map(|control| control.0);
        let parts = [Some(self.header.0), control, self.lines.map(str::as_bytes)];
        let parts = parts.iter().flatten();
        let mut bytes = BytesMut::with_capacity(parts.clone().map(|part| part.len() + 1).sum());
        for part in parts {
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\n");
        }
        bytes.freeze()
    }
}

/// The events at these locations, in order.
pub(super) async fn events(
    client: &impl GenericClient,
    partition: PartitionId,
    places: &[Location],
) -> Result<Judged<Vec<Bytes>>, Error> {
    let offsets: Vec<i64> = places.iter().map(|p| p.offset as i64).collect();
    let indexes: Vec<i32> = places.iter().map(|p| p.index as i32).collect();
    let statement = client.prepare_cached(sql::EVENTS).await?;
    let rows = client
        .query(&statement, &[&i32::from(partition.0), &offsets, &indexes])
        .await?;
    Ok(rows
        .iter()
        .zip(places)
        .map(|(row, place)| event(row, partition, place))
        .collect())
}

fn event(row: &Row, partition: PartitionId, place: &Location) -> Result<Bytes, StoreError> {
    let columns = || -> Result<(Option<i64>, Option<Json<'_>>), Error> {
        Ok((row.try_get(0)?, row.try_get(1)?))
    };
    let found = columns().map_err(unreadable(EVENTS))?;
    let damaged = |what: &str| {
        let (offset, index) = (place.offset, place.index);
        corrupt(EVENTS, format!("{partition}/{offset}/{index}: {what}"))
    };
    let (Some(version), Some(envelope)) = found else {
        let has_commit: Option<bool> = row.try_get(2).map_err(unreadable(EVENTS))?;
        return Err(if has_commit == Some(true) {
            damaged("missing")
        } else {
            no_such_commit(STORE, EVENTS, partition, place.offset)
        });
    };
    if version != place.version.0 as i64 {
        return Err(damaged("of another version"));
    }
    if envelope.0.len() != place.len as usize {
        return Err(damaged("of another length"));
    }
    Ok(Bytes::copy_from_slice(envelope.0))
}
