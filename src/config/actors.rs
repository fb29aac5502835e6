//! The actors: how many threads and how many of them live.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::{cores, duration};
use crate::domain::property::compile::MAX_CHAIN_BYTES;
use crate::domain::weight::MAX_READ_BYTES;

/// About 0.1 GB plus the entities' own state.
const MAX_LIVE_AGGREGATES: usize = 100_000;

/// A hundred thousand instances of a kilobyte.
const MAX_LIVE_BYTES: usize = 128 << 20;

/// Thousands of usual classes, or two of the largest chains.
const CLASS_CACHE_BYTES: u64 = 2 * MAX_CHAIN_BYTES as u64;

/// Enough for two to four commands on the largest instances, each of which is held several times
/// over: as many as keep the aggregates' threads busy. More of them would wait on those threads,
/// and other commands behind them.
const MAX_COMMAND_BYTES: usize = 16 << 20;

/// Longer than a user's pause between two steps; coming back costs one read of the stream.
const IDLE_AFTER: Duration = Duration::from_secs(60);

/// Callers of one entity are served one after the other: the 33rd would wait for 32 commits.
const PER_ENTITY_LIMIT: usize = 32;

/// Folding a hundred events takes less time than the request that fetches them.
const SNAPSHOT_EVERY: u64 = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActorsConfig {
    /// Threads that run aggregates: half the cores, at least two.
    pub entity_arbiters: usize,
    /// Most aggregates in memory; the least recently used make room.
    pub max_live_aggregates: usize,
    /// Most bytes of the states of the aggregates in memory, by type; the least recently used make
    /// room.
    pub max_live_bytes: usize,
    /// Most bytes of classes kept ready to check instances, compiled patterns included.
    pub class_cache_bytes: u64,
    /// Most bytes that commands about large things hold together; beyond it they are answered 503.
    pub max_command_bytes: usize,
    /// Most bytes of events that large pages and states that are being rebuilt hold together; beyond it
    /// they wait.
    pub max_read_bytes: usize,
    /// An aggregate without requests for this long is dropped from memory.
    #[serde(with = "duration")]
    pub idle_after: Duration,
    /// Callers of one aggregate at once; one more is answered 429.
    pub per_entity_limit: usize,
    /// Versions between two snapshots of an aggregate.
    pub snapshot_every: u64,
}

impl Default for ActorsConfig {
    fn default() -> Self {
        Self {
            entity_arbiters: (cores() / 2).max(2),
            max_live_aggregates: MAX_LIVE_AGGREGATES,
            max_live_bytes: MAX_LIVE_BYTES,
            class_cache_bytes: CLASS_CACHE_BYTES,
            max_command_bytes: MAX_COMMAND_BYTES,
            max_read_bytes: MAX_READ_BYTES,
            idle_after: IDLE_AFTER,
            per_entity_limit: PER_ENTITY_LIMIT,
            snapshot_every: SNAPSHOT_EVERY,
        }
    }
}

impl ActorsConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.require(
            (1..=256).contains(&self.entity_arbiters),
            "actors.entity_arbiters",
            "must be between 1 and 256",
        );
        problems.require(
            self.max_live_aggregates > 0,
            "actors.max_live_aggregates",
            "must be at least 1",
        );
        problems.require(
            self.max_live_bytes > 0,
            "actors.max_live_bytes",
            "must be at least 1",
        );
        problems.require(
            self.class_cache_bytes >= MAX_CHAIN_BYTES as u64,
            "actors.class_cache_bytes",
            "must be at least 67108864, what one chain of classes may take",
        );
        problems.require(
            (1 << 20..=u32::MAX as usize).contains(&self.max_command_bytes),
            "actors.max_command_bytes",
            "must be between 1048576 and 4294967295",
        );
        problems.require(
            (1 << 20..=u32::MAX as usize).contains(&self.max_read_bytes),
            "actors.max_read_bytes",
            "must be between 1048576 and 4294967295",
        );
        problems.require(
            !self.idle_after.is_zero(),
            "actors.idle_after",
            "must be longer than 0",
        );
        problems.require(
            self.per_entity_limit > 0,
            "actors.per_entity_limit",
            "must be at least 1",
        );
        problems.require(
            self.snapshot_every > 0,
            "actors.snapshot_every",
            "must be at least 1",
        );
    }
}
