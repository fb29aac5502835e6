//! How much an import does at a time, and how often.

use std::time::Duration;

/// Rows of a page: enough that a round trip does not matter, few enough that it is not felt.
pub const PAGE_ROWS: usize = 4_000;

/// Pages in a second under a limit, so that it is kept to in small portions.
pub const PORTIONS: u32 = 8;

/// Appends under way: enough for full commit objects of several partitions.
pub const MAX_APPENDS: usize = 4_000;

/// Rows parked in one statement.
pub const PARK_ROWS: usize = 500;

/// Beyond this many parked rows the description of the source is wrong, not the rows.
pub const MAX_PARKED: u64 = 100_000;

/// How often the checkpoint is kept. What comes after it is read again after a crash.
pub const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How often progress is told.
pub const REPORT_EVERY: Duration = Duration::from_millis(200);

/// How long to wait before looking for new rows.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A look that has to read the whole table takes at most a sixth of the time.
pub const LOOK_PAUSE_FACTOR: u32 = 5;

/// Longest pause between two looks.
pub const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// How long to wait before asking again whether writers have ended.
pub const SETTLE_EVERY: Duration = Duration::from_millis(20);

/// How long a run that was told to stop waits for what is under way. What is dropped then is
/// found out by the next run.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);
