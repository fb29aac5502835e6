//! Copies of objects from the bucket, and other puts without a fence.
//!
//! An object is only inserted at the table's end and after its predecessor by hash. So the table
//! has no gaps, and a log that has diverged is found here and not continued.

use std::sync::Arc;

use deadpool_postgres::GenericClient;
use tokio_postgres::{Error, Row};

use super::super::rows::unreadable;
use super::columns::CommitColumns;
use super::{Judged, constraint, corrupt, invalid, read, sql, violated};
use crate::error::StoreError;
use crate::ports::object_store::Created;
use oms_core::domain::ids::{Offset, PartitionId};
use oms_core::log::object::{CommitObject, ObjectHash};

const COPY: &str = "commit_copy";
const PUT: &str = "commit_put";

/// Bytes of objects in one statement: enough that its fsync does not matter, few enough to be held
/// several times (object, message, server).
const COPY_BYTES: usize = 8 << 20;

/// An object with its hash, computed once.
type Hashed = (Arc<CommitObject>, ObjectHash);

/// An object's position, for messages.
pub(super) fn place(object: &CommitObject) -> String {
    format!("{}/{}", object.header.partition, object.header.offset)
}

/// As many of the objects as fit one statement; at least one. They must be consecutive, and at
/// least one.
pub(super) fn take(objects: &[Arc<CommitObject>]) -> Result<Vec<Arc<CommitObject>>, StoreError> {
    let Some(first) = objects.first() else {
        return Err(invalid(COPY, "nothing to copy"));
    };
    let mut bytes = 0;
    let mut taken: Vec<Arc<CommitObject>> = Vec::with_capacity(objects.len());
    for (object, offset) in objects.iter().zip(first.header.offset..) {
        let header = &object.header;
        if header.partition != first.header.partition || header.offset != offset {
            let message = format!("{} does not follow {}", place(object), offset - 1);
            return Err(invalid(COPY, message));
        }
        bytes += object.bytes.len();
        if bytes > COPY_BYTES && !taken.is_empty() {
            break;
        }
        taken.push(object.clone());
    }
    Ok(taken)
}

pub(super) async fn copy(
    client: &impl GenericClient,
    objects: &[Arc<CommitObject>],
) -> Result<Judged<Offset>, Error> {
    let objects: Vec<Hashed> = objects.iter().map(|o| (o.clone(), o.hash())).collect();
    let (Some(first), Some(last)) = (objects.first(), objects.last()) else {
        return Ok(Err(invalid(COPY, "nothing to copy")));
    };
    let partition = first.0.header.partition;
    let (from, to) = (first.0.header.offset, last.0.header.offset + 1);
    let known = match known(client, partition, from, to, COPY).await? {
        Ok(known) => known,
        Err(e) => return Ok(Err(e)),
    };
    let end = match known.last() {
        Some(known) => known.0 + 1,
        None => read::end(client, partition).await?,
    };
    if let Err(e) = check(&objects, &known) {
        return Ok(Err(e));
    }
    if end < from || end >= to {
        // There is a gap, or nothing left to do.
        return Ok(Ok(end.min(to)));
    }
    let rest = &objects[(end - from) as usize..];
    let rest = rest.iter().map(|(object, hash)| (&**object, *hash));
    match insert(client, rest, COPY).await? {
        Ok(Inserted::Yes) => Ok(Ok(to)),
        Ok(Inserted::Taken) => Ok(Ok(end)),
        Err(e) => Ok(Err(e)),
    }
}

pub(super) async fn put(
    client: &impl GenericClient,
    object: &CommitObject,
) -> Result<Judged<Created>, Error> {
    let header = &object.header;
    let (partition, offset) = (header.partition, header.offset);
    let known = match known(client, partition, offset, offset + 1, PUT).await? {
        Ok(known) => known,
        Err(e) => return Ok(Err(e)),
    };
    let before = match known.last() {
        Some((at, _)) if *at == offset => return Ok(Ok(Created::Exists)),
        Some((_, hash)) => Some(*hash),
        None if offset == 0 => Some(ObjectHash::NONE),
        None => None,
    };
    if before.is_none() {
        let message = format!("{} does not go on from the end", place(object));
        return Ok(Err(invalid(PUT, message)));
    }
    if before != Some(header.prev) {
        return Ok(Err(unchained(object, PUT)));
    }
    let hashed = std::iter::once((object, object.hash()));
    Ok(insert(client, hashed, PUT).await?.map(|done| match done {
        Inserted::Yes => Created::Yes,
        Inserted::Taken => Created::Exists,
    }))
}

/// The hash of the object at an offset.
pub(super) async fn hash_at(
    client: &impl GenericClient,
    partition: PartitionId,
    offset: Offset,
) -> Result<Option<ObjectHash>, Error> {
    let (partition, offset) = (i32::from(partition.0), offset as i64);
    let statement = client.prepare_cached(sql::HASHES).await?;
    let row = client
        .query_opt(&statement, &[&partition, &offset, &offset])
        .await?;
    row.map(|row| Ok(hashed(&row)?.1)).transpose()
}

/// The hashes of the existing objects in `from - 1..to`.
async fn known(
    client: &impl GenericClient,
    partition: PartitionId,
    from: Offset,
    to: Offset,
    operation: &'static str,
) -> Result<Judged<Vec<(Offset, ObjectHash)>>, Error> {
    let number = i32::from(partition.0);
    let statement = client.prepare_cached(sql::HASHES).await?;
    let rows = client
        .query(&statement, &[&number, &(from as i64 - 1), &(to as i64 - 1)])
        .await?;
    let known: Result<Vec<_>, Error> = rows.iter().map(hashed).collect();
    let known = match known {
        Ok(known) => known,
        Err(e) => return Ok(Err(unreadable(operation)(e))),
    };
    let gap = known.windows(2).find(|pair| pair[0].0 + 1 != pair[1].0);
    Ok(match gap {
        Some(pair) => Err(corrupt(
            operation,
            format!("{partition}/{} is missing", pair[0].0 + 1),
        )),
        None => Ok(known),
    })
}

fn hashed(row: &Row) -> Result<(Offset, ObjectHash), Error> {
    let mut hash = ObjectHash::NONE;
    // The column has 32 bytes; other lengths would equal no hash.
    let bytes: &[u8] = row.try_get(1)?;
    if bytes.len() == hash.0.len() {
        hash.0.copy_from_slice(bytes);
    }
    Ok((row.try_get::<_, i64>(0)? as Offset, hash))
}

/// Checks that existing objects are the same, and that each object follows its predecessor.
fn check(objects: &[Hashed], known: &[(Offset, ObjectHash)]) -> Result<(), StoreError> {
    let mut before = known
        .first()
        .filter(|(offset, _)| *offset + 1 == objects[0].0.header.offset)
        .map(|(_, hash)| *hash);
    for (object, hash) in objects {
        let header = &object.header;
        let expected = if header.offset == 0 {
            Some(ObjectHash::NONE)
        } else {
            before
        };
        if expected.is_some_and(|expected| expected != header.prev) {
            return Err(unchained(object, COPY));
        }
        let there = known.iter().find(|(offset, _)| *offset == header.offset);
        if there.is_some_and(|(_, there)| there != hash) {
            let message = format!("{} holds another object", place(object));
            return Err(corrupt(COPY, message));
        }
        before = Some(*hash);
    }
    Ok(())
}

fn unchained(object: &CommitObject, operation: &'static str) -> StoreError {
    let message = format!("{} does not carry its predecessor's hash", place(object));
    corrupt(operation, message)
}

/// The outcome of an insert.
pub(in super::super) enum Inserted {
    /// All of them are in the table.
    Yes,
    /// Another process has inserted at least one of them; none was inserted.
    Taken,
}

/// Inserts consecutive objects of one partition, all or none.
pub(in super::super) async fn insert<'a>(
    client: &impl GenericClient,
    objects: impl Iterator<Item = (&'a CommitObject, ObjectHash)> + Send,
    operation: &'static str,
) -> Result<Judged<Inserted>, Error> {
    let columns = match CommitColumns::of(objects) {
        Ok(columns) => columns,
        Err(e) => return Ok(Err(corrupt(operation, e.to_string()))),
    };
    let statement = client.prepare_cached(sql::INSERT).await?;
    match client.execute(&statement, &columns.params()).await {
        Ok(_) => Ok(Ok(Inserted::Yes)),
        Err(e) if constraint(&e) == Some(sql::OFFSET_TAKEN) => Ok(Ok(Inserted::Taken)),
        Err(e) => violated(operation, || columns.place(), e),
    }
}
