//! The ordered index of the store's content. Readers use nothing else, and it is changed only when
//! the change is durable.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::segment::Segment;

/// A key; ordered by its bytes, as in S3, and found by them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub Box<str>);

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The location of an object, and what listings and conditions need of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Number of its segment.
    pub segment: u32,
    /// Byte offset of its record there; segments are far below 4 GiB.
    pub offset: u32,
    /// Bytes before the body.
    pub frame_len: u32,
    /// Bytes of the body.
    pub body_len: u32,
    /// CRC-32 of the body.
    pub body_crc: u32,
    /// MD5 of the body.
    pub etag: [u8; 16],
    /// When it was put, in milliseconds since 1970.
    pub modified_ms: i64,
}

impl Entry {
    /// Bytes of its record.
    pub fn record_len(&self) -> u64 {
        u64::from(self.frame_len) + u64::from(self.body_len)
    }

    /// Whether both are the same record.
    pub fn same_place(&self, other: &Self) -> bool {
        (self.segment, self.offset) == (other.segment, other.offset)
    }
}

/// A bucket.
#[derive(Debug, Default)]
pub struct Bucket {
    /// Time of creation, in milliseconds since 1970.
    pub created_ms: i64,
    /// Its objects.
    pub objects: BTreeMap<Key, Entry>,
}

/// A segment, and how much of it is in use.
#[derive(Debug)]
pub struct SegmentState {
    /// The open file, to read from.
    pub segment: Arc<Segment>,
    /// Bytes in it.
    pub len: u64,
    /// Bytes of records that the index points to.
    pub live: u64,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An object with its key.
    Object(Box<str>, Entry),
    /// All keys with this common prefix.
    CommonPrefix(String),
}

/// The index of the whole store.
#[derive(Debug, Default)]
pub struct Index {
    /// Buckets by name.
    pub buckets: BTreeMap<Box<str>, Bucket>,
    /// Segments by number.
    pub segments: BTreeMap<u32, SegmentState>,
    /// Segments emptied by compaction.
    pub removed: BTreeSet<u32>,
}

/// The smallest byte string after all that begin with `prefix`; `None` if there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if last < u8::MAX {
            next.push(last + 1);
            return Some(next);
        }
    }
    None
}

impl Index {
    /// The entry of an object.
    pub fn get(&self, bucket: &str, key: &str) -> Option<&Entry> {
        self.buckets.get(bucket)?.objects.get(key.as_bytes())
    }

    /// Number of objects.
    pub fn objects(&self) -> usize {
        self.buckets.values().map(|b| b.objects.len()).sum()
    }

    /// Adds a bucket.
    pub fn create_bucket(&mut self, bucket: &str, created_ms: i64) {
        self.buckets.entry(bucket.into()).or_default().created_ms = created_ms;
    }

    /// Adds or replaces an object. Creates the bucket if it is missing: during a replay, compaction
    /// may have moved the bucket's record behind those of its objects.
    pub fn put(&mut self, bucket: &str, key: &str, entry: Entry) {
        let objects = match self.buckets.get_mut(bucket) {
            Some(bucket) => &mut bucket.objects,
            None => {
                self.create_bucket(bucket, entry.modified_ms);
                &mut self.buckets.entry(bucket.into()).or_default().objects
            }
        };
        let old = match objects.get_mut(key.as_bytes()) {
            Some(slot) => Some(std::mem::replace(slot, entry)),
            None => objects.insert(Key(key.into()), entry),
        };
        if let Some(old) = old {
            self.no_longer_live(&old);
        }
        if let Some(state) = self.segments.get_mut(&entry.segment) {
            state.live += entry.record_len();
        }
    }

    /// Removes an object.
    pub fn delete(&mut self, bucket: &str, key: &str) {
        let old = self
            .buckets
            .get_mut(bucket)
            .and_then(|b| b.objects.remove(key.as_bytes()));
        if let Some(old) = old {
            self.no_longer_live(&old);
        }
    }

    fn no_longer_live(&mut self, entry: &Entry) {
        if let Some(state) = self.segments.get_mut(&entry.segment) {
            state.live = state.live.saturating_sub(entry.record_len());
        }
    }

    /// At most `limit` entries of a listing from `from` on, and whether there are more.
    pub fn list(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: Option<&str>,
        from: &From,
        limit: usize,
    ) -> Option<(Vec<Listed>, bool)> {
        let objects = &self.buckets.get(bucket)?.objects;
        let mut listed = Vec::new();
        let mut low: Bound<Vec<u8>> = match from {
            From::Start => Bound::Unbounded,
            From::After(key) => Bound::Excluded(key.as_bytes().to_vec()),
            From::AfterPrefix(p) => match after_prefix(p.as_bytes()) {
                Some(next) => Bound::Included(next),
                None => return Some((listed, false)),
            },
        };
        let begins_before_prefix = match &low {
            Bound::Unbounded => true,
            Bound::Included(key) | Bound::Excluded(key) => key.as_slice() < prefix.as_bytes(),
        };
        if begins_before_prefix {
            low = Bound::Included(prefix.as_bytes().to_vec());
        }
        'seek: loop {
            let range = (low.as_ref().map(Vec::as_slice), Bound::Unbounded);
            for (key, entry) in objects.range::<[u8], _>(range) {
                let Some(rest) = key.0.strip_prefix(prefix) else {
                    return Some((listed, false));
                };
                if listed.len() == limit {
                    return Some((listed, true));
                }
                let rolled = delimiter.and_then(|d| Some(rest.find(d)? + d.len()));
                match rolled {
                    None => listed.push(Listed::Object(key.0.clone(), *entry)),
                    Some(end) => {
                        let common = &key.0[..prefix.len() + end];
                        listed.push(Listed::CommonPrefix(common.to_owned()));
                        match after_prefix(common.as_bytes()) {
                            // Skips everything under the prefix, however much it is.
                            Some(next) => low = Bound::Included(next),
                            None => return Some((listed, false)),
                        }
                        continue 'seek;
                    }
                }
            }
            return Some((listed, false));
        }
    }
}

/// The start of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// At the first key.
    Start,
    /// After a key.
    After(String),
    /// After all keys with this prefix.
    AfterPrefix(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(keys: &BTreeSet<String>) -> Index {
        let mut index = Index::default();
        index.create_bucket("b", 0);
        for key in keys {
            let entry = Entry {
                segment: 1,
                offset: 0,
                frame_len: 1,
                body_len: 1,
                body_crc: 0,
                etag: [0; 16],
                modified_ms: 0,
            };
            index.put("b", key, entry);
        }
        index
    }

    fn name(listed: &Listed) -> String {
        match listed {
            Listed::Object(key, _) => key.to_string(),
            Listed::CommonPrefix(prefix) => prefix.clone(),
        }
    }

    proptest! {
        /// Page by page a listing is what a plain walk over all keys gives.
        #[test]
        fn listings_are_those_of_a_plain_walk(
            keys in prop::collection::btree_set("[a/é]{1,6}", 0..40),
            prefix in "[a/]{0,2}",
            delimiter in prop::option::of(Just("/")),
            after in prop::option::of("[a/é]{1,3}"),
            limit in 1_usize..5,
        ) {
            let index = index(&keys);
            let mut expected: Vec<String> = keys
                .iter()
                .filter(|k| k.starts_with(&prefix))
                .filter(|k| after.as_ref().is_none_or(|a| *k > a))
                .map(|k| match delimiter.and_then(|d| k[prefix.len()..].find(d)) {
                    Some(at) => k[..prefix.len() + at + 1].to_owned(),
                    None => k.clone(),
                })
                .collect();
            expected.dedup();
            let mut from = after.map_or(From::Start, From::After);
            let mut all = Vec::new();
            loop {
                let (page, more) = index.list("b", &prefix, delimiter, &from, limit).unwrap();
                prop_assert!(page.len() <= limit);
                all.extend(page.iter().map(name));
                from = match page.last() {
                    Some(Listed::Object(key, _)) => From::After(key.to_string()),
                    Some(Listed::CommonPrefix(p)) => From::AfterPrefix(p.clone()),
                    None => break,
                };
                if !more {
                    break;
                }
            }
            prop_assert_eq!(all, expected);
        }
    }
}
