//! Limits and intervals of an import.

use std::time::Duration;

/// Rows of a page: enough that a round trip does not matter, few enough to be read without a
/// noticeable pause.
pub const PAGE_ROWS: usize = 4_000;

/// Portions per second when a rate limit is set, so that the load stays even.
pub const PORTIONS: u32 = 8;

/// Appends in flight at most: enough for full commit objects of several partitions.
pub const MAX_APPENDS: usize = 4_000;

pub const PARK_ROWS: usize = 500;

/// Beyond this many parked rows the description of the source is wrong rather than the rows.
pub const MAX_PARKED: u64 = 100_000;

/// How often the checkpoint is saved. Rows after it are read again after a crash.
pub const SAVE_EVERY: Duration = Duration::from_secs(1);

pub const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Pause before new rows are looked for.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A poll that has to read the whole table takes at most a sixth of the time: it is followed by a
/// pause of so many times its duration.
pub const LOOK_PAUSE_FACTOR: u32 = 5;

/// Longest pause between two polls.
pub const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// Pause before it is asked again whether the source's writers have ended.
pub const SETTLE_EVERY: Duration = Duration::from_millis(20);

/// How long a stopped run waits for appends in flight. The next run finds out what became of the
/// others.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);
