//! Reads the events of a wave with as few requests as possible: rows of one commit object that lie
//! close together are read with one request, or taken from the cache.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};

use crate::domain::ids::Position;
use crate::store::error::StoreError;
use crate::store::log::log_reader::LogReader;
use crate::store::ports::delivery::OutboxRow;

/// Concurrent requests; enough to hide a latency of tens of milliseconds.
const READS: usize = 16;

/// Rows of an object with a gap of at most this many bytes are read with one request.
const GAP_BYTES: u32 = 64 * 1024;

/// Reads the events of `rows`, which are in position order.
pub async fn load(
    log: &LogReader,
    rows: &[&OutboxRow],
) -> HashMap<Position, Result<Bytes, StoreError>> {
    let mut bodies: HashMap<Position, Result<Bytes, StoreError>> = HashMap::new();
    let mut remote = Vec::with_capacity(rows.len());
    for row in rows {
        match &row.body {
            Some(body) => {
                bodies.insert(row.position, Ok(body.clone()));
            }
            None => remote.push(*row),
        }
    }
    let runs: Vec<&[&OutboxRow]> = remote.chunk_by(|a, b| is_near(a, b)).collect();
    let read: Vec<_> = stream::iter(runs)
        .map(|run| async move { (run, read_run(log, run).await) })
        .buffered(READS)
        .collect()
        .await;
    for (run, outcome) in read {
        let Some(first) = run.first() else { continue };
        for row in run {
            let from = (row.start - first.start) as usize;
            let event = outcome
                .clone()
                .map(|bytes| bytes.slice(from..from + row.len as usize));
            bodies.insert(row.position, event);
        }
    }
    bodies
}

fn is_near(a: &OutboxRow, b: &OutboxRow) -> bool {
    a.position.partition == b.position.partition
        && a.position.offset == b.position.offset
        && b.start >= a.start
        && b.start - a.start <= a.len.saturating_add(GAP_BYTES)
}

async fn read_run(log: &LogReader, run: &[&OutboxRow]) -> Result<Bytes, StoreError> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Ok(Bytes::new());
    };
    let at = first.position;
    let len = last.start - first.start + last.len;
    log.read_range(at.partition, at.offset, first.start, len)
        .await
}
