//! How the service is, and what it stands on.

use utoipa::ToSchema;

use super::{Lead, Mode};

/// A dependency as last seen.
#[derive(ToSchema)]
pub struct Dependency {
    /// `unknown`, `up` or `down`.
    state: String,
    /// Smoothed time of a successful call, in milliseconds.
    latency_ms: f64,
    /// Since when it is in this state.
    #[schema(value_type = String, format = DateTime)]
    since: (),
}

/// The dependencies as last seen.
#[derive(ToSchema)]
pub struct Dependencies {
    s3: Dependency,
    postgres: Dependency,
    kafka: Dependency,
}

/// Free space on the disk of the data directory.
#[derive(ToSchema)]
pub struct Disk {
    /// `ok`, or `low`: commands are refused.
    state: String,
    /// Bytes that may still be written.
    free_bytes: u64,
    /// Below so many, commands are refused.
    reserve_bytes: u64,
}

/// A halt.
#[derive(ToSchema)]
pub struct Halted {
    /// `writes`, `hand_off`, `copy`, `outbox` (the log is not written to it), `relay` (nothing is
    /// published), `projection`, or a kind of job.
    what: String,
    /// The partition in which it is halted; entirely if absent.
    partition: Option<u16>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: (),
    /// Why.
    reason: String,
}

/// The health of the service.
#[derive(ToSchema)]
pub struct Health {
    /// `ok`, `degraded` (something lags behind or is halted, or writes are refused for lack of
    /// space while reads work) or `unavailable`.
    status: String,
    migration_mode: Mode,
    /// Which store leads.
    lead: Lead,
    /// The epoch of its lead: the number of hand-offs so far.
    epoch: u64,
    /// Why it is not `ok`, where a dependency's state does not say it: `storage_full` (commands are
    /// refused), `not_ready`, or `WHAT_halted` for the first of `halted`, or what is
    /// wrong with a copy of the log: `other_log`, `log_behind`, `diverged`, `bucket_unread`.
    #[schema(example = "projection_halted")]
    reason: Option<String>,
    /// What is halted, entirely or in a partition; absent if nothing is.
    halted: Option<Vec<Halted>>,
    /// Partitions that are not open yet, or whose leader is not known; absent without any.
    not_ready: Option<Vec<u16>>,
    /// What is wrong with copies of the log, what follows and what to do; absent if nothing is.
    copies: Option<Vec<String>>,
    /// Free space on the disk of the data directory, if embedded parts store data on it.
    disk: Option<Disk>,
    dependencies: Dependencies,
    /// Actors, entities apart, that failed beyond their limit or are stuck; absent without any.
    actors_down: Option<Vec<String>>,
    /// Version of the program.
    version: String,
}
