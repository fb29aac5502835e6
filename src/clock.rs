//! The machine's clock, and ids made from it. The clock can be shifted for this whole process,
//! which needs a static: that is why it is here, at the edge. Everything below is given a
//! [`Clock`].

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use uuid::{NoContext, Uuid};

use crate::domain::time::Clock;

/// The shift of [`SystemClock`] from the machine's clock, in seconds.
static SHIFT: AtomicI64 = AtomicI64::new(0);

/// Largest shift in either direction: a year.
pub const MAX_SHIFT_SECONDS: i64 = 366 * 24 * 3600;

/// Shifts the clock of this process by so many seconds, as if the machine's time was set wrong or
/// corrected: it affects everything that asks for the time, and nothing that measures durations.
/// For chaos tests only; the caller checks that they are enabled. At most [`MAX_SHIFT_SECONDS`]
/// either way.
pub fn shift_clock(seconds: i64) {
    let seconds = seconds.clamp(-MAX_SHIFT_SECONDS, MAX_SHIFT_SECONDS);
    SHIFT.store(seconds, Ordering::Relaxed);
}

/// The current shift, in seconds.
pub fn clock_shift() -> i64 {
    SHIFT.load(Ordering::Relaxed)
}

#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn now(&self) -> Timestamp {
        shifted(Timestamp::now(), clock_shift())
    }
}

/// The time of [`SystemClock`], as a function.
pub fn now() -> Timestamp {
    SystemClock.now()
}

/// A fresh UUIDv7: sortable by creation time, unique across processes.
#[allow(clippy::disallowed_methods, reason = "the one place that makes ids")]
pub fn new_uuid() -> Uuid {
    if clock_shift() == 0 {
        return Uuid::now_v7();
    }
    uuid_of(SystemClock.now())
}

/// `now` plus the shift, limited to the range of timestamps.
fn shifted(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(now)
}

/// A fresh id for this time; times before 1970 count as 1970.
fn uuid_of(time: Timestamp) -> Uuid {
    let seconds = u64::try_from(time.as_second()).unwrap_or(0);
    let nanos = u32::try_from(time.subsec_nanosecond()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_put_off_both_ways_and_ids_follow() {
        let now: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let told = |seconds| shifted(now, seconds).to_string();
        assert_eq!(told(86_400), "2026-01-03T03:04:05.678Z");
        assert_eq!(told(-86_400), "2026-01-01T03:04:05.678Z");
        assert_eq!(told(0), now.to_string());
        assert_eq!(shifted(Timestamp::MAX, 1), Timestamp::MAX);
        let (seconds, nanos) = uuid_of(now).get_timestamp().unwrap().to_unix();
        assert_eq!((seconds as i64, nanos), (now.as_second(), 678_000_000));
        assert_ne!(uuid_of(now), uuid_of(now));
        assert_eq!(uuid_of(Timestamp::MIN).get_version_num(), 7);
    }
}
