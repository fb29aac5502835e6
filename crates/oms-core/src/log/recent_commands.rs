//! The outcomes of recent commands of one partition: what a repeated request is told instead of
//! being executed again. Those with an idempotency key are kept for a promised time, within limits;
//! of the others the last few thousand.

use std::collections::VecDeque;

use hashbrown::HashMap;
use jiff::Timestamp;

use super::summary::CommandOutcome;
use crate::domain::event::PrincipalTag;
use crate::domain::ids::CommandId;

/// Outcomes kept of commands without an idempotency key: enough to settle what was in flight when
/// an actor or a connection died. Their ids are not used later.
const RECENT_COMMANDS: usize = 16_384;

/// How long an idempotency key is remembered: 24 hours, in milliseconds. Measured by the times of
/// events, which jump when a clock is set. Therefore some of the newest keys are kept however old
/// they seem ([`RecentCommands::never_forgotten`]); otherwise a request repeated after the jump would
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

/// The outcomes of recent commands.
#[derive(Debug, Default)]
pub struct RecentCommands {
    outcomes: HashMap<CommandId, CommandOutcome>,
    /// Commands without a key, oldest first.
    unkeyed: VecDeque<CommandId>,
    /// Commands with a key and their times, oldest first.
    keyed: VecDeque<(i64, CommandId)>,
    /// Number of keys by principal.
    keyed_by: HashMap<PrincipalTag, usize>,
    bounds: KeyBounds,
    /// What time it was last told to be.
    clock_ms: Option<i64>,
}

impl RecentCommands {
    /// The outcome of a command, if it is recent.
    pub fn get(&self, id: CommandId) -> Option<&CommandOutcome> {
        self.outcomes.get(&id)
    }

    /// Records an outcome; one that is known already is replaced.
    pub fn remember(&mut self, id: CommandId, outcome: CommandOutcome) {
        if self.outcomes.insert(id, outcome).is_some() {
            return;
        }
        if outcome.request_hash.is_some() {
            // The time is its writer's. Where that one's clock is ahead of ours neither may it keep
            // others from being forgotten, nor have them forgotten before their time.
            let at_ms = self
                .clock_ms
                .map_or(outcome.at_ms, |now| now.min(outcome.at_ms));
            self.keyed.push_back((at_ms, id));
            *self.keyed_by.entry(outcome.principal).or_default() += 1;
            self.forget_keys_at(at_ms);
        } else {
            self.unkeyed.push_back(id);
            if self.unkeyed.len() > RECENT_COMMANDS
                && let Some(old) = self.unkeyed.pop_front()
            {
                self.outcomes.remove(&old);
            }
        }
    }

    /// Sets the limits of the idempotency keys.
    pub fn bound_keys(&mut self, bounds: KeyBounds) {
        self.bounds = bounds;
    }

    /// What time it is, for the keys that come next; until it is told their writers' times are believed.
    pub fn tell_time(&mut self, now: Timestamp) {
        self.clock_ms = Some(now.as_millisecond());
    }

    /// Number of keys that stay although their time has passed: few enough to leave room for new
    /// ones.
    fn never_forgotten(&self) -> usize {
        RECENT_COMMANDS.min(self.bounds.keys_of_one / 2)
    }

    fn has_old_key(&self, now_ms: i64) -> bool {
        self.keyed.len() > self.never_forgotten()
            && self
                .keyed
                .front()
                .is_some_and(|(at, _)| now_ms.saturating_sub(*at) > self.bounds.window_ms)
    }

    /// Whether the time of some keys has passed.
    pub fn has_old_keys(&self, now: Timestamp) -> bool {
        self.has_old_key(now.as_millisecond())
    }

    /// Forgets keys whose time has passed, and frees their memory.
    pub fn forget_keys(&mut self, now: Timestamp) {
        self.forget_keys_at(now.as_millisecond());
    }

    fn forget_keys_at(&mut self, now_ms: i64) {
        while self.has_old_key(now_ms) {
            let Some((_, id)) = self.keyed.pop_front() else {
                break;
            };
            let Some(old) = self.outcomes.remove(&id) else {
                continue;
            };
            if let Some(count) = self.keyed_by.get_mut(&old.principal) {
                *count -= 1;
                if *count == 0 {
                    self.keyed_by.remove(&old.principal);
                }
            }
        }
        if self.outcomes.len() < self.outcomes.capacity() / 8 {
            self.outcomes.shrink_to(self.outcomes.len() * 2);
            self.keyed.shrink_to(self.keyed.len() * 2);
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
        if own + pending_of_one >= self.bounds.keys_of_one {
            return Err(KeysFull::OfPrincipal);
        }
        if self.keyed.len() + pending >= self.bounds.keys {
            return Err(KeysFull::OfAll);
        }
        Ok(())
    }

    /// Bytes of the idempotency keys.
    pub fn key_bytes(&self) -> usize {
        self.keyed.len() * KEY_BYTES
    }

    /// Approximate bytes of memory of the outcomes, for the metric.
    pub fn memory_bytes(&self) -> usize {
        self.outcomes.capacity() * (size_of::<(CommandId, CommandOutcome)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::{StreamKey, Version};

    fn outcome(at_ms: i64, keyed: bool, principal: u32) -> CommandOutcome {
        CommandOutcome {
            stream: StreamKey(1).into(),
            version: Version(1),
            events: 1,
            offset: 0,
            index: 0,
            request_hash: keyed.then_some(1),
            at_ms,
            principal: PrincipalTag(principal),
        }
    }

    fn id(id: u64) -> CommandId {
        CommandId(Uuid::from_u128(u128::from(id)))
    }

    fn remember(recent: &mut RecentCommands, command: u64, at_ms: i64, principal: u32) {
        recent.remember(id(command), outcome(at_ms, true, principal));
    }

    #[test]
    fn a_clock_that_leaps_makes_no_recent_key_forgotten() {
        let mut recent = RecentCommands::default();
        let leap = 2 * KEYED_COMMANDS_MS as u64;
        // The number is the time here.
        for at in [0, 1, leap, leap + 1, 2] {
            remember(&mut recent, at, at as i64, 1);
        }
        let known = |at: u64| recent.get(id(at));
        assert!(
            [0, 1, 2, leap, leap + 1]
                .iter()
                .all(|at| known(*at).is_some())
        );
        // Beyond so many, age counts.
        for at in leap + 2..leap + 2 + RECENT_COMMANDS as u64 {
            remember(&mut recent, at, at as i64, 1);
        }
        let known = |at: u64| recent.get(id(at));
        assert!(known(0).is_none() && known(leap + 2).is_some());
    }

    #[test]
    fn law_2_a_writer_whose_clock_is_ahead_makes_no_key_forgotten_and_keeps_none() {
        let mut recent = RecentCommands::default();
        let window_ms = 1000;
        recent.bound_keys(KeyBounds {
            window_ms,
            ..KeyBounds::default()
        });
        recent.clock_ms = Some(50);
        let many = RECENT_COMMANDS as u64 + 2;
        for id in 0..many {
            remember(&mut recent, id, 50, 1);
        }
        // Two days ahead, and what comes after it.
        remember(&mut recent, many, 172_800_000, 2);
        remember(&mut recent, many + 1, 51, 1);
        let known = |recent: &RecentCommands, command: u64| recent.get(id(command)).is_some();
        assert!(
            known(&recent, 0) && known(&recent, 1),
            "their time is not over"
        );
        recent.forget_keys_at(50 + window_ms + 1);
        assert!(!known(&recent, 0) && known(&recent, many));
        assert_eq!(recent.key_bytes(), RECENT_COMMANDS * KEY_BYTES);
        // The one from ahead is the first of those that stay, and goes when its turn comes.
        for id in many + 2..2 * many {
            recent.clock_ms = Some(60);
            remember(&mut recent, id, 60, 1);
        }
        recent.forget_keys_at(60 + window_ms + 1);
        assert!(!known(&recent, many), "nobody waits for its time");
    }

    #[test]
    fn law_13_no_key_is_forgotten_within_its_time_however_many_there_are() {
        let mut recent = RecentCommands::default();
        recent.bound_keys(KeyBounds {
            window_ms: 1000,
            keys: 6,
            keys_of_one: 4,
        });
        let (ann, bob, cyd) = (PrincipalTag(1), PrincipalTag(2), PrincipalTag(3));
        for id in 0..4 {
            assert_eq!(recent.room_for_key(ann, 0, 0), Ok(()));
            remember(&mut recent, id, id as i64, 1);
        }
        // What one has used up is not taken from the others.
        assert_eq!(recent.room_for_key(ann, 0, 0), Err(KeysFull::OfPrincipal));
        assert_eq!(recent.room_for_key(bob, 1, 1), Ok(()));
        assert_eq!(recent.room_for_key(bob, 2, 2), Err(KeysFull::OfAll));
        // Another process may be over the bound; its keys are kept all the same.
        for id in 4..20 {
            remember(&mut recent, id, 500, 2);
        }
        assert_eq!(recent.room_for_key(cyd, 0, 0), Err(KeysFull::OfAll));
        let known = |recent: &RecentCommands, command: u64| recent.get(id(command)).is_some();
        recent.forget_keys_at(1000);
        assert!((0..20).all(|id| known(&recent, id)));
        assert_eq!(recent.key_bytes(), 20 * KEY_BYTES);
        recent.forget_keys_at(1002);
        assert!(!known(&recent, 0) && !known(&recent, 1) && known(&recent, 2));
        assert_eq!(recent.room_for_key(ann, 0, 0), Err(KeysFull::OfAll));
        recent.forget_keys_at(5000);
        assert_eq!(recent.room_for_key(ann, 0, 0), Ok(()));
        assert_eq!(recent.key_bytes(), 2 * KEY_BYTES, "some of the last stay");
    }

    #[test]
    fn law_13_remembered_commands_are_bounded() {
        let mut recent = RecentCommands::default();
        for number in 0..(RECENT_COMMANDS as u64 + 10) {
            recent.remember(id(number), outcome(0, false, 1));
        }
        assert_eq!(recent.outcomes.len(), RECENT_COMMANDS);
        assert!(recent.get(id(3)).is_none());
    }
}
