//! The stream index of one partition: the head version and the locations of the events of every
//! stream, and the [outcomes of recent commands](RecentCommands). A cache of the log, rebuilt by
//! reading it.
//!
//! Its memory grows with history and is laid out for that: an event costs one 12-byte [`Entry`] in
//! an append-only arena (plus 4 bytes a commit), a stream one slot of 24 bytes. The entries of a
//! stream are chained backwards from its head, so that the most common read, of the newest events,
//! touches only those. Long streams also have a mark at every [`MARK_EVERY`]th event, from which
//! older pages are reached.

use hashbrown::HashMap;

use super::recent_commands::RecentCommands;
use super::summary::CommitSummary;
use crate::domain::ids::{Offset, StreamKey, Version};

/// End of a chain.
const NO_ENTRY: u32 = u32::MAX;

/// Events between two marks of a stream: few enough that the walk down from a mark is short (some
/// microseconds), so many that marks cost little memory and most streams have none.
const MARK_EVERY: u64 = 1024;

/// The location of one event.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// First byte in its commit object.
    start: u32,
    /// Length in bytes.
    len: u32,
    /// Index in the arena of the stream's previous event.
    prev: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    head: u32,
    last: u32,
}

/// The location of an event in the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Its version in its stream.
    pub version: Version,
    /// Offset of its commit object.
    pub offset: Offset,
    /// Its index among the object's events.
    pub index: u32,
    /// First byte in the object.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// The index of one partition.
#[derive(Debug, Default)]
pub struct StreamIndex {
    streams: HashMap<StreamKey, Slot, BuildKeyHasher>,
    entries: Vec<Entry>,
    /// For long streams: the entry of every [`MARK_EVERY`]th event, in order.
    marks: HashMap<StreamKey, Vec<u32>, BuildKeyHasher>,
    /// Index of the first entry of each commit; its length is the number of commits.
    commits: Vec<u32>,
    commands: RecentCommands,
    stored_bytes: u64,
}

impl StreamIndex {
    /// The offset after the last commit applied.
    pub fn next_offset(&self) -> Offset {
        self.commits.len() as Offset
    }

    /// Number of streams.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Number of events.
    pub fn event_count(&self) -> usize {
        self.entries.len()
    }

    /// Version of a stream; [`Version::NONE`] if it has no events.
    pub fn head(&self, stream: StreamKey) -> Version {
        Version(self.streams.get(&stream).map_or(0, |s| u64::from(s.head)))
    }

    /// The outcomes of recent commands.
    pub fn commands(&self) -> &RecentCommands {
        &self.commands
    }

    /// The outcomes of recent commands, to set their limits and their time.
    pub fn commands_mut(&mut self) -> &mut RecentCommands {
        &mut self.commands
    }

    /// The locations of a stream's events `from..=to`, in order.
    pub fn locate(&self, stream: StreamKey, from: Version, to: Version) -> Vec<Location> {
        let Some(slot) = self.streams.get(&stream) else {
            return Vec::new();
        };
        let to = to.0.min(u64::from(slot.head));
        let from = from.0.max(1);
        if from > to {
            return Vec::new();
        }
        let mut found = Vec::with_capacity((to - from + 1) as usize);
        let (mut at, mut version) = self
            .mark_above(stream, to)
            .unwrap_or((slot.last, u64::from(slot.head)));
        while version >= from && at != NO_ENTRY {
            let entry = self.entries[at as usize];
            if version <= to {
                let offset = self.commits.partition_point(|first| *first <= at) as u64 - 1;
                found.push(Location {
                    version: Version(version),
                    offset,
                    index: at - self.commits[offset as usize],
                    start: entry.start,
                    len: entry.len,
                });
            }
            at = entry.prev;
            version -= 1;
        }
        found.reverse();
        found
    }

    /// The nearest mark of a stream at or after a version, with that event's version.
    fn mark_above(&self, stream: StreamKey, version: u64) -> Option<(u32, u64)> {
        let nth = version.div_ceil(MARK_EVERY);
        let at = self.marks.get(&stream)?.get(nth.checked_sub(1)? as usize)?;
        Some((*at, nth * MARK_EVERY))
    }

    /// Applies the next commit. The summary's offset MUST be [`StreamIndex::next_offset`].
    pub fn apply(&mut self, summary: &CommitSummary) {
        debug_assert_eq!(summary.offset, self.next_offset());
        self.commits.push(self.entries.len() as u32);
        let mut start = summary.first_start;
        for &(key, len) in &summary.events {
            let at = self.entries.len() as u32;
            let slot = self.streams.entry(key.into()).or_insert(Slot {
                head: 0,
                last: NO_ENTRY,
            });
            self.entries.push(Entry {
                start,
                len,
                prev: slot.last,
            });
            slot.head += 1;
            slot.last = at;
            if u64::from(slot.head) % MARK_EVERY == 0 {
                self.marks.entry(key.into()).or_default().push(at);
            }
            start += len + 1;
        }
        self.stored_bytes += u64::from(start);
        for &(id, outcome) in &summary.commands {
            self.commands.remember(id, outcome);
        }
    }

    /// Bytes of the commit objects applied.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Approximate bytes of memory, for the metric.
    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.commits.capacity() * size_of::<u32>()
            + self.streams.capacity() * (size_of::<(StreamKey, Slot)>() + 1)
            + self.marks.capacity() * (size_of::<(StreamKey, Vec<u32>)>() + 1)
            + self.entries.len() / MARK_EVERY as usize * size_of::<u32>()
            + self.commands.memory_bytes()
    }
}

/// Stream keys are part of a SHA-256: any 64 bits of them are a good hash.
#[derive(Debug, Clone, Copy, Default)]
struct BuildKeyHasher;

impl std::hash::BuildHasher for BuildKeyHasher {
    type Hasher = KeyHasher;
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(0)
    }
}

struct KeyHasher(u64);

impl std::hash::Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(5) ^ u64::from_le_bytes(word);
        }
    }
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u8) -> StreamKey {
        StreamKey(u128::from(n) << 64 | u128::from(n))
    }

    fn commit(offset: Offset, events: &[(u8, u32)]) -> CommitSummary {
        CommitSummary {
            offset,
            first_start: 100,
            events: events
                .iter()
                .map(|(k, len)| (key(*k).into(), *len))
                .collect(),
            commands: Vec::new(),
        }
    }

    #[test]
    fn events_are_found_where_they_lie() {
        let mut index = StreamIndex::default();
        index.apply(&commit(0, &[]));
        index.apply(&commit(1, &[(1, 10), (2, 20), (1, 30)]));
        index.apply(&commit(2, &[(1, 40)]));
        assert_eq!(index.head(key(1)), Version(3));
        assert_eq!(index.head(key(9)), Version::NONE);
        let all = index.locate(key(1), Version(0), Version(u64::MAX));
        let at = |version, offset, i, start, len| Location {
            version: Version(version),
            offset,
            index: i,
            start,
            len,
        };
        assert_eq!(
            all,
            [
                at(1, 1, 0, 100, 10),
                at(2, 1, 2, 132, 30),
                at(3, 2, 0, 100, 40)
            ]
        );
        assert_eq!(index.locate(key(1), Version(2), Version(2)), all[1..2]);
        assert!(index.locate(key(1), Version(4), Version(9)).is_empty());
    }

    #[test]
    fn old_events_of_a_long_stream_are_found_from_a_mark() {
        let mut index = StreamIndex::default();
        let end = 3 * MARK_EVERY + 7;
        for offset in 0..end {
            index.apply(&commit(offset, &[(2, 5), (1, 10)]));
        }
        for edge in (0..=3).map(|n| n * MARK_EVERY) {
            for to in (edge.max(1) - 1)..=(edge + 2) {
                let from = to.saturating_sub(2).max(1);
                let found = index.locate(key(1), Version(from), Version(to));
                let places: Vec<_> = found
                    .iter()
                    .map(|l| (l.version.0, l.offset, l.index))
                    .collect();
                let expected: Vec<_> = (from..=to).map(|v| (v, v - 1, 1)).collect();
                assert_eq!(places, expected, "{from} to {to}");
            }
        }
        // No walk is longer than from one mark to the next below it.
        for to in 1..=3 * MARK_EVERY {
            let (_, mark) = index.mark_above(key(1), to).unwrap();
            assert!((to..to + MARK_EVERY).contains(&mark));
        }
        assert_eq!(index.mark_above(key(1), end), None);
    }

    proptest! {
        #[test]
        fn every_event_is_found_as_a_plain_list_would_have_it(
            commits in prop::collection::vec(prop::collection::vec((0u8..5, 1u32..99), 0..6), 0..30),
            from in 0u64..20,
            to in 0u64..20,
        ) {
            let mut index = StreamIndex::default();
            let mut model: Vec<Vec<Location>> = vec![Vec::new(); 5];
            for (offset, events) in commits.iter().enumerate() {
                index.apply(&commit(offset as u64, events));
                let mut start = 100;
                for (i, (k, len)) in events.iter().enumerate() {
                    let stream = &mut model[usize::from(*k)];
                    let version = Version(stream.len() as u64 + 1);
                    stream.push(Location { version, offset: offset as u64, index: i as u32, start, len: *len });
                    start += len + 1;
                }
            }
            for (k, stream) in model.iter().enumerate() {
                prop_assert_eq!(index.head(key(k as u8)), Version(stream.len() as u64));
                let expected: Vec<Location> = stream.iter()
                    .filter(|l| (from.max(1)..=to).contains(&l.version.0)).copied().collect();
                prop_assert_eq!(index.locate(key(k as u8), Version(from), Version(to)), expected);
            }
        }
    }
}
