//! The stream index of one partition: the head version and the locations of the events of every
//! stream, and the outcomes of recent commands. A cache of the log, rebuilt by reading it.
//!
//! Its memory grows with history and is laid out for that: an event costs one 12-byte [`Entry`] in
//! an append-only arena (plus 4 bytes a commit), a stream one slot of 24 bytes. The entries of a
//! stream are chained backwards from its head, so that the most common read, of the newest events,
//! touches only those. Long streams also have a mark at every [`MARK_EVERY`]th event, from which
//! older pages are reached.

use std::collections::VecDeque;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::object::{CommitKind, CommitObject, CorruptObject};
use crate::domain::event::{Envelope, PrincipalTag};
use crate::domain::ids::{CommandId, Offset, StreamKey, Version};

/// End of a chain.
const NO_ENTRY: u32 = u32::MAX;

/// Events between two marks of a stream: few enough that the walk down from a mark is short (some
/// microseconds), so many that marks cost little memory and most streams have none.
const MARK_EVERY: u64 = 1024;

/// Outcomes kept of commands without an idempotency key: enough to settle what was in flight when
/// an actor or a connection died. Their ids are not used later.
const RECENT_COMMANDS: usize = 16_384;

/// How long an idempotency key is remembered: 24 hours, in milliseconds. Measured by the times of
/// events, which jump when a clock is set. Therefore some of the newest keys are kept however old
/// they seem ([`StreamIndex::never_forgotten`]); otherwise a request repeated after the jump would
/// be executed twice.
const KEYED_COMMANDS_MS: i64 = 24 * 3600 * 1000;

/// Memory of one key: its place in the map, at the map's usual load, and in the queue.
pub const KEY_BYTES: usize =
    (size_of::<(CommandId, CommandOutcome)>() + 1 + size_of::<(i64, CommandId)>()) * 3 / 2;

/// Limits of the idempotency keys of a partition. A key is never forgotten within its time: over a
/// limit, new keys are refused.
#[derive(Debug, Clone, Copy)]
pub struct KeyBounds {
    /// How long a key is remembered, in milliseconds.
    pub window_ms: i64,
    /// Keys of all principals at most, each taking [`KEY_BYTES`].
    pub keys: usize,
    /// Keys of one principal at most.
    pub keys_of_one: usize,
}

impl KeyBounds {
    /// The limits of one of `partitions` partitions that share `bytes`, of which one principal may
    /// use `bytes_of_one`.
    pub fn share(window_ms: i64, bytes: u64, bytes_of_one: u64, partitions: u16) -> Self {
        let keys = |bytes: u64| {
            let share = bytes / u64::from(partitions.max(1)) / KEY_BYTES as u64;
            usize::try_from(share).unwrap_or(usize::MAX).max(2)
        };
        Self {
            window_ms,
            keys: keys(bytes),
            keys_of_one: keys(bytes_of_one),
        }
    }
}

impl Default for KeyBounds {
    /// Limited by time only.
    fn default() -> Self {
        Self {
            window_ms: KEYED_COMMANDS_MS,
            keys: usize::MAX,
            keys_of_one: usize::MAX,
        }
    }
}

/// Why a new idempotency key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysFull {
    /// The limit of the principal is reached.
    OfPrincipal,
    /// The limit of all principals is reached.
    OfAll,
}

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

/// The outcome of a committed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutcome {
    /// The stream it changed.
    pub stream: StreamKeyBytes,
    /// Version of its last event.
    pub version: Version,
    /// Number of its events.
    pub events: u32,
    /// Offset of the commit object that holds them.
    pub offset: Offset,
    /// Index of its first event in the object.
    pub index: u32,
    /// Hash of the request, if it had an idempotency key.
    pub request_hash: Option<u64>,
    /// When its first event was recorded, in milliseconds since 1970.
    pub at_ms: i64,
    /// The principal who caused it. Stored beside the summaries ([`super::segment`]), so that
    /// checkpoints stay compatible with versions that do not record it.
    #[serde(skip)]
    pub principal: PrincipalTag,
}

/// A [`StreamKey`] in a form that every serialisation format supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamKeyBytes(pub [u8; 16]);

impl From<StreamKey> for StreamKeyBytes {
    fn from(key: StreamKey) -> Self {
        Self(key.0.to_be_bytes())
    }
}

impl From<StreamKeyBytes> for StreamKey {
    fn from(bytes: StreamKeyBytes) -> Self {
        StreamKey(u128::from_be_bytes(bytes.0))
    }
}

/// What the index stores of one commit object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitSummary {
    /// The object's offset.
    pub offset: Offset,
    /// First byte of its first event.
    pub first_start: u32,
    /// Stream and length of each event, in order; each is followed by one line end.
    pub events: Vec<(StreamKeyBytes, u32)>,
    /// The commands in it.
    pub commands: Vec<(CommandId, CommandOutcome)>,
}

impl CommitSummary {
    /// Reads the summary of a commit object. `head` returns a stream's version before the object:
    /// the versions in the object must follow it without a gap.
    pub fn of(
        object: &CommitObject,
        head: impl Fn(StreamKey) -> Version,
    ) -> Result<Self, CorruptObject> {
        let mut summary = Self {
            offset: object.header.offset,
            first_start: object
                .lines
                .first()
                .map_or(object.bytes.len() as u32, |l| l.start),
            events: Vec::with_capacity(object.event_count()),
            commands: Vec::new(),
        };
        if object.header.kind == CommitKind::Control {
            return Ok(summary);
        }
        let mut heads: HashMap<StreamKey, Version> = HashMap::new();
        for (i, line) in object.lines.iter().enumerate() {
            let bytes = &object.bytes[line.start as usize..line.end as usize];
            let event = Envelope::parse(bytes).map_err(|e| {
                CorruptObject(format!("offset {} line {i}: {e}", object.header.offset))
            })?;
            let key = event.stream().key();
            let before = heads.get(&key).copied().unwrap_or_else(|| head(key));
            if event.version != before.plus(1) {
                return Err(CorruptObject(format!(
                    "offset {} line {i}: stream {} is at version {before}, the event says {}",
                    object.header.offset,
                    event.stream(),
                    event.version
                )));
            }
            heads.insert(key, event.version);
            summary.events.push((key.into(), line.end - line.start));
            match summary.commands.last_mut() {
                Some((id, outcome)) if *id == event.command_id => {
                    outcome.version = event.version;
                    outcome.events += 1;
                }
                _ => summary.commands.push((
                    event.command_id,
                    CommandOutcome {
                        stream: key.into(),
                        version: event.version,
                        events: 1,
                        offset: object.header.offset,
                        index: i as u32,
                        request_hash: event.idempotency().map(|k| k.request_hash),
                        at_ms: event.time.as_millisecond(),
                        principal: PrincipalTag::of(&event.actor),
                    },
                )),
            }
        }
        Ok(summary)
    }
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
    commands: HashMap<CommandId, CommandOutcome>,
    recent: VecDeque<CommandId>,
    recent_keyed: VecDeque<(i64, CommandId)>,
    /// Number of keys by principal.
    keyed_by: HashMap<PrincipalTag, usize>,
    key_bounds: KeyBounds,
    /// What time it was last told to be.
    clock_ms: Option<i64>,
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

    /// The outcome of a command, if it is recent.
    pub fn command(&self, id: CommandId) -> Option<&CommandOutcome> {
        self.commands.get(&id)
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
            self.remember(id, outcome);
        }
    }

    /// Bytes of the commit objects applied.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    fn remember(&mut self, id: CommandId, outcome: CommandOutcome) {
        if self.commands.insert(id, outcome).is_some() {
            return;
        }
        if outcome.request_hash.is_some() {
            // The time is its writer's. Where that one's clock is ahead of ours neither may it keep
            // others from being forgotten, nor have them forgotten before their time.
            let at_ms = self
                .clock_ms
                .map_or(outcome.at_ms, |now| now.min(outcome.at_ms));
            self.recent_keyed.push_back((at_ms, id));
            *self.keyed_by.entry(outcome.principal).or_default() += 1;
            self.forget_keys(at_ms);
        } else {
            self.recent.push_back(id);
            if self.recent.len() > RECENT_COMMANDS
                && let Some(old) = self.recent.pop_front()
            {
                self.commands.remove(&old);
            }
        }
    }

    /// Sets the limits of the idempotency keys.
    pub fn bound_keys(&mut self, bounds: KeyBounds) {
        self.key_bounds = bounds;
    }

    /// What time it is, for the keys that come next; until it is told their writers' times are believed.
    pub fn tell_time(&mut self, now_ms: i64) {
        self.clock_ms = Some(now_ms);
    }

    /// Number of keys that stay although their time has passed: few enough to leave room for new
    /// ones.
    fn never_forgotten(&self) -> usize {
        RECENT_COMMANDS.min(self.key_bounds.keys_of_one / 2)
    }

    fn has_old_key(&self, now_ms: i64) -> bool {
        self.recent_keyed.len() > self.never_forgotten()
            && self
                .recent_keyed
                .front()
                .is_some_and(|(at, _)| now_ms.saturating_sub(*at) > self.key_bounds.window_ms)
    }

    /// Whether the time of some keys has passed.
    pub fn has_old_keys(&self, now_ms: i64) -> bool {
        self.has_old_key(now_ms)
    }

    /// Forgets keys whose time has passed, and frees their memory.
    pub fn forget_keys(&mut self, now_ms: i64) {
        while self.has_old_key(now_ms) {
            let Some((_, id)) = self.recent_keyed.pop_front() else {
                break;
            };
            let Some(old) = self.commands.remove(&id) else {
                continue;
            };
            if let Some(count) = self.keyed_by.get_mut(&old.principal) {
                *count -= 1;
                if *count == 0 {
                    self.keyed_by.remove(&old.principal);
                }
            }
        }
        if self.commands.len() < self.commands.capacity() / 8 {
            self.commands.shrink_to(self.commands.len() * 2);
            self.recent_keyed.shrink_to(self.recent_keyed.len() * 2);
        }
    }

    /// Checks whether one more key can be remembered, beside `pending` others of which
    /// `pending_of_one` belong to the same principal.
    pub fn room_for_key(
        &self,
        principal: PrincipalTag,
        pending: usize,
        pending_of_one: usize,
    ) -> Result<(), KeysFull> {
        let own = self.keyed_by.get(&principal).copied().unwrap_or(0);
        if own + pending_of_one >= self.key_bounds.keys_of_one {
            return Err(KeysFull::OfPrincipal);
        }
        if self.recent_keyed.len() + pending >= self.key_bounds.keys {
            return Err(KeysFull::OfAll);
        }
        Ok(())
    }

    /// Bytes of the idempotency keys.
    pub fn key_bytes(&self) -> usize {
        self.recent_keyed.len() * KEY_BYTES
    }

    /// Approximate bytes of memory, for the metric.
    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.commits.capacity() * size_of::<u32>()
            + self.streams.capacity() * (size_of::<(StreamKey, Slot)>() + 1)
            + self.marks.capacity() * (size_of::<(StreamKey, Vec<u32>)>() + 1)
            + self.entries.len() / MARK_EVERY as usize * size_of::<u32>()
            + self.commands.capacity() * (size_of::<(CommandId, CommandOutcome)>() + 1)
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
    use uuid::Uuid;

    fn key(n: u8) -> StreamKey {
        StreamKey(u128::from(n) << 64 | u128::from(n))
    }

    fn commit(offset: Offset, events: &[(u8, u32)], keyed: bool) -> CommitSummary {
        CommitSummary {
            offset,
            first_start: 100,
            events: events
                .iter()
                .map(|(k, len)| (key(*k).into(), *len))
                .collect(),
            commands: events
                .first()
                .map(|(k, _)| {
                    let outcome = CommandOutcome {
                        stream: key(*k).into(),
                        version: Version(1),
                        events: 1,
                        offset,
                        index: 0,
                        request_hash: keyed.then_some(1),
                        at_ms: offset as i64,
                        principal: PrincipalTag(1),
                    };
                    (CommandId(Uuid::from_u128(u128::from(offset))), outcome)
                })
                .into_iter()
                .collect(),
        }
    }

    #[test]
    fn a_clock_that_leaps_makes_no_recent_key_forgotten() {
        let mut index = StreamIndex::default();
        let leap = 2 * KEYED_COMMANDS_MS as u64;
        // The offset is the time here.
        for at in [0, 1, leap, leap + 1, 2] {
            let summary = commit(at, &[(1, 10)], true);
            for (id, outcome) in summary.commands {
                index.remember(id, outcome);
            }
        }
        let known = |at: u64| index.command(CommandId(Uuid::from_u128(u128::from(at))));
        assert!(
            [0, 1, 2, leap, leap + 1]
                .iter()
                .all(|at| known(*at).is_some())
        );
        // Beyond so many, age counts.
        for at in leap + 2..leap + 2 + RECENT_COMMANDS as u64 {
            for (id, outcome) in commit(at, &[(1, 10)], true).commands {
                index.remember(id, outcome);
            }
        }
        let known = |at: u64| index.command(CommandId(Uuid::from_u128(u128::from(at))));
        assert!(known(0).is_none() && known(leap + 2).is_some());
    }

    fn remember(index: &mut StreamIndex, id: u64, at_ms: i64, principal: u32) {
        for (id, mut outcome) in commit(id, &[(1, 10)], true).commands {
            outcome.at_ms = at_ms;
            outcome.principal = PrincipalTag(principal);
            index.remember(id, outcome);
        }
    }

    #[test]
    fn law_2_a_writer_whose_clock_is_ahead_makes_no_key_forgotten_and_keeps_none() {
        let mut index = StreamIndex::default();
        let window_ms = 1000;
        index.bound_keys(KeyBounds {
            window_ms,
            ..KeyBounds::default()
        });
        index.tell_time(50);
        let many = RECENT_COMMANDS as u64 + 2;
        for id in 0..many {
            remember(&mut index, id, 50, 1);
        }
        // Two days ahead, and what comes after it.
        remember(&mut index, many, 172_800_000, 2);
        remember(&mut index, many + 1, 51, 1);
        let known = |index: &StreamIndex, id: u64| {
            index
                .command(CommandId(Uuid::from_u128(u128::from(id))))
                .is_some()
        };
        assert!(
            known(&index, 0) && known(&index, 1),
            "their time is not over"
        );
        index.forget_keys(50 + window_ms + 1);
        assert!(!known(&index, 0) && known(&index, many));
        assert_eq!(index.key_bytes(), RECENT_COMMANDS * KEY_BYTES);
        // The one from ahead is the first of those that stay, and goes when its turn comes.
        for id in many + 2..2 * many {
            index.tell_time(60);
            remember(&mut index, id, 60, 1);
        }
        index.forget_keys(60 + window_ms + 1);
        assert!(!known(&index, many), "nobody waits for its time");
    }

    #[test]
    fn law_13_no_key_is_forgotten_within_its_time_however_many_there_are() {
        let mut index = StreamIndex::default();
        index.bound_keys(KeyBounds {
            window_ms: 1000,
            keys: 6,
            keys_of_one: 4,
        });
        let (ann, bob, cyd) = (PrincipalTag(1), PrincipalTag(2), PrincipalTag(3));
        for id in 0..4 {
            assert_eq!(index.room_for_key(ann, 0, 0), Ok(()));
            remember(&mut index, id, id as i64, 1);
        }
        // What one has used up is not taken from the others.
        assert_eq!(index.room_for_key(ann, 0, 0), Err(KeysFull::OfPrincipal));
        assert_eq!(index.room_for_key(bob, 1, 1), Ok(()));
        assert_eq!(index.room_for_key(bob, 2, 2), Err(KeysFull::OfAll));
        // Another process may be over the bound; its keys are kept all the same.
        for id in 4..20 {
            remember(&mut index, id, 500, 2);
        }
        assert_eq!(index.room_for_key(cyd, 0, 0), Err(KeysFull::OfAll));
        let known = |index: &StreamIndex, id: u64| {
            index
                .command(CommandId(Uuid::from_u128(u128::from(id))))
                .is_some()
        };
        index.forget_keys(1000);
        assert!((0..20).all(|id| known(&index, id)));
        assert_eq!(index.key_bytes(), 20 * KEY_BYTES);
        index.forget_keys(1002);
        assert!(!known(&index, 0) && !known(&index, 1) && known(&index, 2));
        assert_eq!(index.room_for_key(ann, 0, 0), Err(KeysFull::OfAll));
        index.forget_keys(5000);
        assert_eq!(index.room_for_key(ann, 0, 0), Ok(()));
        assert_eq!(index.key_bytes(), 2 * KEY_BYTES, "some of the last stay");
    }

    #[test]
    fn events_are_found_where_they_lie() {
        let mut index = StreamIndex::default();
        index.apply(&commit(0, &[], false));
        index.apply(&commit(1, &[(1, 10), (2, 20), (1, 30)], false));
        index.apply(&commit(2, &[(1, 40)], false));
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
            index.apply(&commit(offset, &[(2, 5), (1, 10)], false));
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

    #[test]
    fn law_13_remembered_commands_are_bounded() {
        let mut index = StreamIndex::default();
        for offset in 0..(RECENT_COMMANDS as u64 + 10) {
            index.apply(&commit(offset, &[(1, 1)], false));
        }
        assert_eq!(index.commands.len(), RECENT_COMMANDS);
        assert!(index.command(CommandId(Uuid::from_u128(3))).is_none());
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
                index.apply(&commit(offset as u64, events, false));
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
