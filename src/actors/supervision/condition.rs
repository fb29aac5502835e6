//! What an actor is seen to be in: stuck in one of three ways, or gone.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// No handler computes for so long: the longest, folding a stream, takes milliseconds.
pub const BLOCKED_AFTER: Duration = Duration::from_secs(2);

/// An arbiter polls a woken task within milliseconds.
pub const NOT_RUN_AFTER: Duration = Duration::from_secs(3);

/// Twice the longest deadline of a request: every caller has been answered or has gone by then.
pub const WAITING_AFTER: Duration = Duration::from_secs(60);

/// In which way an actor is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ActorStuck)]
pub enum Stuck {
    /// It blocks its thread.
    Blocked,
    /// It was woken and not polled.
    NotRun,
    /// It owes answers and has not been polled for long: what it waits for does not come.
    Waiting,
}

/// What the guard records for the watchdog.
#[derive(Debug, Clone, Copy, Default)]
pub struct Activity {
    /// When the poll that has not returned yet began.
    pub poll_began: Option<Instant>,
    /// Since when it is woken without having been polled.
    pub owed: Option<Instant>,
    /// When its last poll began.
    pub last_poll: Option<Instant>,
}

impl Activity {
    /// How it is stuck at `now`, with `calls` unanswered, and since when.
    pub fn stuck(&self, calls: u32, now: Instant) -> Option<(Stuck, Instant)> {
        let overdue = |since: Option<Instant>, after: Duration| {
            since.filter(|since| now.saturating_duration_since(*since) >= after)
        };
        if let Some(since) = overdue(self.poll_began, BLOCKED_AFTER) {
            return Some((Stuck::Blocked, since));
        }
        if let Some(since) = overdue(self.owed, NOT_RUN_AFTER) {
            return Some((Stuck::NotRun, since));
        }
        let waits = self.last_poll.filter(|_| calls > 0);
        overdue(waits, WAITING_AFTER).map(|since| (Stuck::Waiting, since))
    }
}

/// How an actor ended without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It failed beyond its limit.
    Escalated,
    /// Its task was aborted or its thread ended, perhaps before it ran.
    Lost,
    /// It ended so that it can be rebuilt, because an actor that it depends on was.
    Renewed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_its_thread_hangs_or_waits_in_vain_is_told_apart() {
        let now = Instant::now();
        let ago = |d: Duration| now.checked_sub(d);
        let long = Duration::from_secs(90);
        let idle = Activity {
            last_poll: ago(long),
            ..Activity::default()
        };
        assert_eq!(idle.stuck(0, now), None, "idle is not stuck");
        assert_eq!(idle.stuck(1, now).map(|s| s.0), Some(Stuck::Waiting));
        let hung = Activity {
            owed: ago(NOT_RUN_AFTER),
            ..idle
        };
        assert_eq!(hung.stuck(0, now).map(|s| s.0), Some(Stuck::NotRun));
        let blocked = Activity {
            poll_began: ago(BLOCKED_AFTER),
            ..hung
        };
        assert_eq!(blocked.stuck(0, now).map(|s| s.0), Some(Stuck::Blocked));
        let busy = Activity {
            poll_began: ago(Duration::from_millis(5)),
            owed: ago(Duration::from_millis(5)),
            last_poll: ago(Duration::from_millis(5)),
        };
        assert_eq!(busy.stuck(9, now), None);
    }
}
