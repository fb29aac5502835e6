//! Loads the store when it is opened: the checkpoint, then every record written since.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::checkpoint::{self, LogEnd};
use super::error::LogStoreError;
use super::frame::{Found, Head, SEGMENT_HEADER};
use super::index::{Entry, Index, SegmentState};
use super::segment::{Scanned, Segment, Tail, parse_segment_name, sync_dir};

/// First sequence number of a batch.
const FIRST_BATCH: u64 = 1;

/// The store as found.
pub struct Recovered {
    /// Its index.
    pub index: Index,
    /// The newest segment, to be continued.
    pub segment: Arc<Segment>,
    /// Where to continue.
    pub end: LogEnd,
    /// Records replayed after the checkpoint.
    pub replayed_records: u64,
    /// Bytes of the checkpoint that was used; 0 if there was none.
    pub checkpoint_bytes: u64,
}

/// The entry for a put's record.
pub fn entry_of(segment: u32, found: &Found<'_>) -> Option<Entry> {
    let Head::Put(put) = &found.head else {
        return None;
    };
    Some(Entry {
        segment,
        offset: found.offset as u32,
        frame_len: found.frame_len,
        body_len: put.body_len,
        body_crc: put.body_crc,
        etag: put.etag,
        modified_ms: put.modified_ms,
    })
}

fn replay(index: &mut Index, segment: u32, found: &Found<'_>) {
    match &found.head {
        Head::Put(put) => {
            if let Some(entry) = entry_of(segment, found) {
                index.put(put.bucket, put.key, entry);
            }
        }
        Head::Delete { bucket, key } => index.delete(bucket, key),
        Head::CreateBucket { bucket, created_ms } => index.create_bucket(bucket, *created_ms),
        Head::SegmentRemoved { segment } => {
            index.removed.insert(*segment);
        }
    }
}

/// Loads the store in `dir`, and truncates a batch that was never acknowledged.
pub fn recover(dir: &Path) -> Result<Recovered, LogStoreError> {
    let mut segments = open_segments(dir)?;
    let loaded = checkpoint::load(dir);
    let checkpoint_bytes = loaded.as_ref().map_or(0, |l| l.len);
    let (mut index, from) = match loaded {
        Some(loaded) => (loaded.index, Some(loaded.end)),
        None => (Index::default(), None),
    };
    if segments.is_empty() {
        if let Some(end) = from {
            return Err(LogStoreError::Missing {
                dir: dir.to_owned(),
                number: end.segment,
            });
        }
        let segment = Arc::new(Segment::create(dir, 1, FIRST_BATCH)?);
        segments.insert(1, (segment, FIRST_BATCH));
    }
    for (number, (segment, _)) in &segments {
        let state = SegmentState {
            segment: segment.clone(),
            len: segment.file_len()?,
            live: 0,
        };
        index.segments.insert(*number, state);
    }
    let replayed = replay_segments(dir, &mut index, &segments, from)?;
    check_complete(dir, &mut index)?;
    let segment = replayed.segment;
    // Made durable now, because readers are about to see it.
    segment
        .sync()
        .map_err(LogStoreError::io("sync", &segment.path))?;
    remove_leftovers(dir, &mut index)?;
    Ok(Recovered {
        index,
        segment,
        end: replayed.end,
        replayed_records: replayed.records,
        checkpoint_bytes,
    })
}

/// Every segment with the sequence number of its first batch.
fn open_segments(dir: &Path) -> Result<BTreeMap<u32, (Arc<Segment>, u64)>, LogStoreError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(LogStoreError::io("list", dir))? {
        let entry = entry.map_err(LogStoreError::io("list", dir))?;
        numbers.extend(entry.file_name().to_str().and_then(parse_segment_name));
    }
    numbers.sort_unstable();
    let mut segments = BTreeMap::new();
    for number in &numbers {
        let (segment, first_batch) = Segment::open(dir, *number)?;
        match first_batch {
            Some(first_batch) => {
                segments.insert(*number, (Arc::new(segment), first_batch));
            }
            // It was created but not completed: no batch can have followed, unless the header was
            // damaged later.
            None if Some(number) == numbers.last()
                && !segment.has_batch_after(0, segment.file_len()?, 0)? =>
            {
                fs::remove_file(&segment.path)
                    .map_err(LogStoreError::io("remove", &segment.path))?;
                sync_dir(dir)?;
            }
            None => {
                return Err(LogStoreError::Damaged {
                    path: segment.path,
                    offset: 0,
                    what: "the segment's header does not check".into(),
                });
            }
        }
    }
    Ok(segments)
}

struct Replayed {
    segment: Arc<Segment>,
    end: LogEnd,
    records: u64,
}

/// Replays the records after `from`, or all of them.
fn replay_segments(
    dir: &Path,
    index: &mut Index,
    segments: &BTreeMap<u32, (Arc<Segment>, u64)>,
    from: Option<LogEnd>,
) -> Result<Replayed, LogStoreError> {
    let newest = segments.last_key_value().map_or(0, |(number, _)| *number);
    let mut records = 0;
    let mut last: Option<(Arc<Segment>, LogEnd)> = None;
    for (number, (segment, first_batch)) in segments {
        let (offset, next_batch) = match (&from, &last) {
            (Some(from), _) if *number < from.segment => continue,
            (Some(from), None) if *number > from.segment => {
                return Err(LogStoreError::Missing {
                    dir: dir.to_owned(),
                    number: from.segment,
                });
            }
            (Some(from), None) => (from.offset, from.next_batch),
            (_, Some((_, end))) => {
                // Between adjacent segments sequence numbers are consecutive; over removed segments
                // they jump.
                let follows = if *number == end.segment + 1 {
                    *first_batch == end.next_batch
                } else {
                    *first_batch >= end.next_batch
                };
                if !follows {
                    let what = format!(
                        "it begins with batch {first_batch}, batch {} was due",
                        end.next_batch
                    );
                    return Err(LogStoreError::Damaged {
                        path: segment.path.clone(),
                        offset: 16,
                        what,
                    });
                }
                (SEGMENT_HEADER as u64, *first_batch)
            }
            (None, None) => (SEGMENT_HEADER as u64, *first_batch),
        };
        if segment.file_len()? < offset {
            return Err(LogStoreError::Damaged {
                path: segment.path.clone(),
                offset: segment.file_len()?,
                what: format!("the file ends here, {offset} bytes of it were durable"),
            });
        }
        let tail = if *number == newest {
            Tail::MayBeTorn
        } else {
            Tail::Whole
        };
        let scanned: Scanned = segment.scan(offset, next_batch, tail, |found| {
            records += 1;
            replay(index, *number, &found);
            Ok::<(), LogStoreError>(())
        })?;
        if scanned.torn_bytes > 0 {
            tracing::warn!(
                path = %segment.path.display(),
                offset = scanned.end,
                bytes = scanned.torn_bytes,
                "cut off a write that had not been acknowledged"
            );
            segment.truncate(scanned.end)?;
        }
        if let Some(state) = index.segments.get_mut(number) {
            state.len = scanned.end;
        }
        let end = LogEnd {
            segment: *number,
            offset: scanned.end,
            next_batch: scanned.next_batch,
        };
        last = Some((segment.clone(), end));
    }
    match (last, from) {
        (Some((segment, end)), _) => Ok(Replayed {
            segment,
            end,
            records,
        }),
        (None, from) => Err(LogStoreError::Missing {
            dir: dir.to_owned(),
            number: from.map_or(1, |f| f.segment),
        }),
    }
}

/// Checks that every segment exists or was declared removed, and that every object is within one.
/// Counts the live bytes of each.
fn check_complete(dir: &Path, index: &mut Index) -> Result<(), LogStoreError> {
    let newest = index.segments.keys().next_back().copied().unwrap_or(0);
    let missing =
        (1..newest).find(|n| !index.segments.contains_key(n) && !index.removed.contains(n));
    if let Some(number) = missing {
        return Err(LogStoreError::Missing {
            dir: dir.to_owned(),
            number,
        });
    }
    let mut live: HashMap<u32, (u64, u64)> = HashMap::new();
    for entry in index.buckets.values().flat_map(|b| b.objects.values()) {
        let (bytes, end) = live.entry(entry.segment).or_default();
        *bytes += entry.record_len();
        *end = (*end).max(u64::from(entry.offset) + entry.record_len());
    }
    for (number, (bytes, end)) in live {
        let Some(state) = index.segments.get_mut(&number) else {
            return Err(LogStoreError::Missing {
                dir: dir.to_owned(),
                number,
            });
        };
        if end > state.len {
            return Err(LogStoreError::Damaged {
                path: state.segment.path.clone(),
                offset: state.len,
                what: format!("the file ends here, objects in it reach to byte {end}"),
            });
        }
        state.live = bytes;
    }
    Ok(())
}

/// Removes the files of segments that were declared removed: compaction was interrupted in between.
fn remove_leftovers(dir: &Path, index: &mut Index) -> Result<(), LogStoreError> {
    let left: Vec<u32> = (index.segments.iter())
        .filter(|(number, state)| index.removed.contains(number) && state.live == 0)
        .map(|(number, _)| *number)
        .collect();
    if left.is_empty() {
        return Ok(());
    }
    // The checkpoint on disk may begin in one of them.
    fs::remove_file(checkpoint::checkpoint_path(dir))
        .or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        })
        .map_err(LogStoreError::io("remove", dir))?;
    sync_dir(dir)?;
    for number in left {
        if let Some(state) = index.segments.remove(&number) {
            let path = &state.segment.path;
            fs::remove_file(path).map_err(LogStoreError::io("remove", path))?;
        }
    }
    sync_dir(dir)
}
