//! The log in the bucket: how commits are formed and read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::problems::Problems;
use crate::domain::weight::MAX_EVENT_BYTES;

/// One partition carries tens of thousands of events a second, since a put takes whatever has
/// arrived; more partitions make smaller batches, which cost more. Two allow a hand-off to be tried
/// on one half first. Several writing processes want one each. Fixed when a store is created.
const PARTITIONS: u16 = 2;
/// Keys hold four digits; a put in flight and an index each must stay affordable.
const MAX_PARTITIONS: u16 = 1024;

/// Bounds how long a conflict takes to re-check; at 1 KiB an event the bytes limit comes first.
const BATCH_EVENTS: usize = 4096;

/// Well below the 8 MiB up to which S3 servers take a plain put at full speed.
const BATCH_BYTES: usize = 4 << 20;
/// Upper limit of [`LogConfig::batch_bytes`].
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// About one round trip of a client on the same machine: clients answered by the last commit have
/// sent their next request by then.
const LINGER: Duration = Duration::from_millis(1);

/// Long enough for three lost puts (3 s each) to be settled.
const APPEND_DEADLINE: Duration = Duration::from_secs(10);

/// Commits of this process wake the tailers; this finds those of other processes.
const TAIL_INTERVAL: Duration = Duration::from_millis(500);

/// A start reads at most so many objects per partition: about a second's worth.
const CHECKPOINT_COMMITS: u64 = 1024;

/// Some thousand recent objects: what tailers and readers ask for right after a commit.
const CACHE_BYTES: u64 = 64 << 20;

/// The time in which a client may repeat a request.
const KEY_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// Some 2.8 million keys of 200 bytes: a day at thirty a second, an hour at eight hundred.
const KEY_BYTES: u64 = 512 << 20;

/// Half of it: a principal that uses all of its share leaves as much to the others.
const KEY_BYTES_PER_PRINCIPAL: u64 = 256 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Partitions of a new store; an existing store keeps its own number.
    pub partitions: u16,
    /// Most events in a commit object.
    pub batch_events: usize,
    /// Most bytes in a commit object, and so of what one request may store.
    pub batch_bytes: usize,
    /// Most bytes of one instance, class, database or plain event, as JSON; a larger one is refused
    /// (422). At most a quarter of `batch_bytes`.
    pub max_event_bytes: usize,
    /// How long a commit waits for more commands at most. It waits only while fewer are queued than
    /// the commit before it carried, so a lone writer never waits.
    #[serde(with = "duration")]
    pub linger: Duration,
    /// An append that took this long is answered: `unavailable` where it is certain that nothing was
    /// written, otherwise that the outcome is unknown.
    #[serde(with = "duration")]
    pub append_deadline: Duration,
    /// How often tailers look for commits of other processes.
    #[serde(with = "duration")]
    pub tail_interval: Duration,
    /// Commits of a partition between two checkpoints of its index.
    pub checkpoint_commits: u64,
    /// Bytes of recent commit objects kept in memory.
    pub cache_bytes: u64,
    /// How long an idempotency key is remembered, at most 24 h.
    #[serde(with = "duration")]
    pub key_window: Duration,
    /// Bytes of idempotency keys remembered, shared evenly by the partitions. Over it, commands with
    /// a new key are refused (503); no key is forgotten within `key_window`.
    pub key_bytes: u64,
    /// The same for one principal (429).
    pub key_bytes_per_principal: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            partitions: PARTITIONS,
            batch_events: BATCH_EVENTS,
            batch_bytes: BATCH_BYTES,
            max_event_bytes: MAX_EVENT_BYTES,
            linger: LINGER,
            append_deadline: APPEND_DEADLINE,
            tail_interval: TAIL_INTERVAL,
            checkpoint_commits: CHECKPOINT_COMMITS,
            cache_bytes: CACHE_BYTES,
            key_window: KEY_WINDOW,
            key_bytes: KEY_BYTES,
            key_bytes_per_principal: KEY_BYTES_PER_PRINCIPAL,
        }
    }
}

impl LogConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.require(
            (1..=MAX_PARTITIONS).contains(&self.partitions),
            "log.partitions",
            "must be between 1 and 1024",
        );
        problems.require(
            (1..=100_000).contains(&self.batch_events),
            "log.batch_events",
            "must be between 1 and 100000",
        );
        problems.require(
            (65_536..=MAX_BATCH_BYTES).contains(&self.batch_bytes),
            "log.batch_bytes",
            "must be between 65536 and 4194304",
        );
        problems.require(
            self.max_event_bytes >= 1024
                && self.max_event_bytes.saturating_mul(4) <= self.batch_bytes,
            "log.max_event_bytes",
            "must be between 1024 and a quarter of log.batch_bytes: some of the largest must fit a commit",
        );
        problems.require(
            self.linger <= Duration::from_secs(1),
            "log.linger",
            "must be at most 1s: every write waits that long",
        );
        problems.require(
            !self.append_deadline.is_zero(),
            "log.append_deadline",
            "must be longer than 0",
        );
        problems.require(
            self.tail_interval >= Duration::from_millis(10),
            "log.tail_interval",
            "must be at least 10ms: every look is a request to S3",
        );
        problems.require(
            (Duration::from_secs(60)..=KEY_WINDOW).contains(&self.key_window),
            "log.key_window",
            "must be between 1m and 24h",
        );
        problems.require(
            self.key_bytes >= 1 << 20,
            "log.key_bytes",
            "must be at least 1048576",
        );
        problems.require(
            (1 << 19..=self.key_bytes).contains(&self.key_bytes_per_principal),
            "log.key_bytes_per_principal",
            "must be between 524288 and `log.key_bytes`",
        );
        problems.require(
            self.checkpoint_commits > 0,
            "log.checkpoint_commits",
            "must be at least 1",
        );
    }
}
