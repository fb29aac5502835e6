//! The keys of the bucket. Numbers are zero-padded, so S3's byte order is log order.
//!
//! ```text
//! events/{partition:04}/{offset:020}.ndjson      the log: put-if-absent, never rewritten
//! meta/store.json                                format and number of partitions
//! index/{partition:04}/{from:020}-{to:020}.seg   derived
//! snapshots/{type}/{id}/{interval:020}.json      derived
//! archive/{uuid}/…                               PostgreSQL's retired events
//! delivery/watermarks.json                       how far delivery has got, for when PostgreSQL is lost
//! quarantine/…                                   what a repair replaced or removed; never read
//! probe/{uuid}                                   removed after the start-up probe
//! ```

use uuid::Uuid;

use super::object::ObjectHash;
use crate::domain::ids::{Offset, PartitionId, StreamName};

/// Key of the store's description; written once.
pub const STORE: &str = "meta/store.json";

/// Prefix of the keys of all partitions' logs.
pub const EVENTS: &str = "events/";

/// Whether a key belongs to the log, or has the log's prefix.
pub fn is_log(key: &str) -> bool {
    key.starts_with(EVENTS)
}

/// Key of a commit object.
pub fn commit(partition: PartitionId, offset: Offset) -> String {
    format!("events/{:04}/{offset:020}.ndjson", partition.0)
}

/// Prefix of the commit objects of a partition.
pub fn commits(partition: PartitionId) -> String {
    format!("events/{:04}/", partition.0)
}

/// The offset in a commit object's key.
pub fn parse_commit(key: &str) -> Option<Offset> {
    key.rsplit('/')
        .next()?
        .strip_suffix(".ndjson")?
        .parse()
        .ok()
}

/// Key of a segment of a partition's index that covers the commits `from..to`.
pub fn segment(partition: PartitionId, from: Offset, to: Offset) -> String {
    format!("index/{:04}/{from:020}-{to:020}.seg", partition.0)
}

/// Prefix of the index segments of a partition.
pub fn segments(partition: PartitionId) -> String {
    format!("index/{:04}/", partition.0)
}

/// The commits that a segment covers according to its key, as `(from, to)`.
pub fn parse_segment(key: &str) -> Option<(Offset, Offset)> {
    let (from, to) = key
        .rsplit('/')
        .next()?
        .strip_suffix(".seg")?
        .split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

/// Key of a stream's snapshot in its `interval`-th interval of versions.
pub fn snapshot(stream: &StreamName, interval: u64) -> String {
    format!("snapshots/{stream}/{interval:020}.json")
}

/// Key under which a repair saves the bytes that it replaces or removes.
pub fn quarantined(partition: PartitionId, offset: Offset, hash: &ObjectHash) -> String {
    format!("quarantine/{:04}/{offset:020}-{hash}.ndjson", partition.0)
}

/// Key under which a repair saves an object whose key is no commit object's.
pub fn quarantined_key(key: &str) -> String {
    format!("quarantine/keys/{key}")
}

/// Key of a part of an export: events of a partition from an offset on.
pub fn archive_part(export: Uuid, partition: PartitionId, from: Offset) -> String {
    format!(
        "archive/{export}/part-{:04}-{from:020}.parquet",
        partition.0
    )
}

/// Key of an export's manifest.
pub fn archive_manifest(export: Uuid) -> String {
    format!("archive/{export}/manifest.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_sort_as_the_log() {
        let a = commit(PartitionId(3), 9);
        let b = commit(PartitionId(3), 10);
        assert!(a < b && a.starts_with(&commits(PartitionId(3))));
        assert_eq!(parse_commit(&b), Some(10));
        assert_eq!(
            parse_segment(&segment(PartitionId(1), 5, 1029)),
            Some((5, 1029))
        );
        assert_eq!(parse_segment("index/0001/rubbish"), None);
    }
}
