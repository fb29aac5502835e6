//! Commit objects as arrays of columns, without copies on the way to the connection.

use std::borrow::Cow;
use std::error::Error;

use bytes::{BufMut, BytesMut};
use jiff::Timestamp;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use uuid::Uuid;

use oms_core::domain::event::Envelope;
use oms_core::log::object::{CommitKind, CommitObject, CorruptObject, ObjectHash};

/// JSON as text, byte for byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct Json<'a>(pub &'a [u8]);

impl ToSql for Json<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    accepts!(JSON);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Json<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    accepts!(JSON);
}

/// A time with microseconds, also before 1970: imported events may be older than that.
#[derive(Debug, Clone, Copy)]
struct Time(Timestamp);

/// 2000-01-01, where PostgreSQL counts from, in microseconds of Unix time.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

impl ToSql for Time {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0.as_microsecond() - POSTGRES_EPOCH);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

/// The columns of objects of one partition and of their events, for insertion.
#[derive(Default)]
pub(super) struct CommitColumns<'a> {
    partition: i32,
    offset: Vec<i64>,
    epoch: Vec<i64>,
    kind: Vec<&'static str>,
    header: Vec<Json<'a>>,
    control: Vec<Option<Json<'a>>>,
    count: Vec<i32>,
    size: Vec<i64>,
    sha256: Vec<Vec<u8>>,
    committed: Vec<Time>,
    event_offset: Vec<i64>,
    idx: Vec<i32>,
    stream_type: Vec<Cow<'a, str>>,
    stream_id: Vec<Cow<'a, str>>,
    version: Vec<i64>,
    event_id: Vec<Uuid>,
    event_type: Vec<Cow<'a, str>>,
    command_id: Vec<Uuid>,
    recorded: Vec<Time>,
    envelope: Vec<Json<'a>>,
}

impl<'a> CommitColumns<'a> {
    /// Fails for an object whose content contradicts its header.
    pub fn of(
        objects: impl Iterator<Item = (&'a CommitObject, ObjectHash)>,
    ) -> Result<Self, CorruptObject> {
        let mut columns = Self::default();
        for (object, hash) in objects {
            columns.push(object, hash)?;
        }
        Ok(columns)
    }

    fn push(&mut self, object: &'a CommitObject, hash: ObjectHash) -> Result<(), CorruptObject> {
        let header = &object.header;
        let first = object
            .lines
            .first()
            .map_or(object.bytes.len(), |l| l.start as usize);
        self.partition = i32::from(header.partition.0);
        self.offset.push(header.offset as i64);
        self.epoch.push(header.epoch.0 as i64);
        self.header.push(Json(&object.bytes[..first - 1]));
        self.count.push(header.count as i32);
        self.size.push(object.bytes.len() as i64);
        self.sha256.push(hash.0.to_vec());
        self.committed.push(Time(header.at));
        let lines = object
            .lines
            .iter()
            .map(|line| &object.bytes[line.start as usize..line.end as usize]);
        match header.kind {
            CommitKind::Control => {
                self.kind.push("control");
                object.control_record()?;
                if object.lines.len() > 1 {
                    return Err(CorruptObject("control of more than one line".into()));
                }
                self.control.extend(lines.map(|line| Some(Json(line))));
            }
            CommitKind::Events => {
                self.kind.push("events");
                self.control.push(None);
                for (i, line) in lines.enumerate() {
                    let event = Envelope::parse(line)
                        .map_err(|e| CorruptObject(format!("line {}: {e}", i + 1)))?;
                    self.event_offset.push(header.offset as i64);
                    self.idx.push(i as i32);
                    self.stream_type.push(event.stream_type);
                    self.stream_id.push(event.stream_id);
                    self.version.push(event.version.0 as i64);
                    self.event_id.push(event.id.0);
                    self.event_type.push(event.event_type);
                    self.command_id.push(event.command_id.0);
                    self.recorded.push(Time(event.time));
                    self.envelope.push(Json(line));
                }
            }
        }
        Ok(())
    }

    /// Partition and offsets, for messages.
    pub fn place(&self) -> String {
        match self.offset.as_slice() {
            [one] => format!("{}/{one}", self.partition),
            [first, .., last] => format!("one of {}/{first} to {last}", self.partition),
            [] => "nothing".into(),
        }
    }

    /// Parameters 1 to 20 of the inserting statements.
    pub fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.partition,
            &self.offset,
            &self.epoch,
            &self.kind,
            &self.header,
            &self.control,
            &self.count,
            &self.size,
            &self.sha256,
            &self.committed,
            &self.event_offset,
            &self.idx,
            &self.stream_type,
            &self.stream_id,
            &self.version,
            &self.event_id,
            &self.event_type,
            &self.command_id,
            &self.recorded,
            &self.envelope,
        ]
    }
}
