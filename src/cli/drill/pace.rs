//! Limits how often an actor is killed: with more failures than its policy allows, the service
//! would end.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::actors::supervision::policy::Policy;

/// Failures of its own that an actor may have beside the kills.
const TO_SPARE: usize = 2;

/// Allowance for the time until a kill is carried out, which varies.
const MARGIN: Duration = Duration::from_secs(1);

/// Failures that kills may cause within the policy's window.
fn allowed(policy: &Policy) -> usize {
    policy.max_restarts.saturating_sub(TO_SPARE).max(1)
}

pub fn min_interval(policy: &Policy) -> Duration {
    policy.window / u32::try_from(allowed(policy)).unwrap_or(1)
}

/// When each actor failed.
#[derive(Debug, Default)]
pub struct Pace {
    actors: HashMap<String, Past>,
}

#[derive(Debug, Default)]
struct Past {
    failures: VecDeque<Instant>,
    killed: Option<Instant>,
    /// Restarts that are accounted for.
    known: u64,
}

impl Pace {
    /// Records the failures before the drill: `times` in total, the last one at `last`. All are
    /// assumed to have happened then.
    pub fn failed(&mut self, path: &str, policy: &Policy, times: u64, last: Instant) {
        let past = self.actors.entry(path.to_owned()).or_default();
        past.known = times;
        let times = usize::try_from(times).unwrap_or(usize::MAX);
        past.failures = std::iter::repeat_n(last, times.min(policy.max_restarts)).collect();
    }

    /// Records the current number of restarts: those beyond the kills were failures of its own or
    /// of actors it depends on, assumed as late as `now`.
    pub fn seen(&mut self, path: &str, policy: &Policy, restarts: u64, now: Instant) {
        let past = self.actors.entry(path.to_owned()).or_default();
        let others = restarts.saturating_sub(past.known);
        past.known = restarts;
        let others = usize::try_from(others).unwrap_or(usize::MAX);
        past.failures
            .extend(std::iter::repeat_n(now, others.min(policy.max_restarts)));
    }

    /// From when the actor at `path` may be killed again, at least `rest` after the last kill.
    pub fn next(&self, path: &str, policy: &Policy, rest: Duration) -> Option<Instant> {
        let past = self.actors.get(path)?;
        // One place in the window must be free for the next failure.
        let oldest = past.failures.len().checked_sub(allowed(policy));
        let oldest = oldest.and_then(|at| past.failures.get(at));
        let room = oldest.map(|at| *at + policy.window + MARGIN);
        let rested = past.killed.map(|at| at + rest);
        room.max(rested)
    }

    /// Records a kill; returns the pause that the policy asks for before the restart, before
    /// jitter.
    pub fn killed(&mut self, path: &str, policy: &Policy, now: Instant) -> Duration {
        let past = self.actors.entry(path.to_owned()).or_default();
        past.killed = Some(now);
        past.known += 1;
        let failures = &mut past.failures;
        failures.push_back(now);
        while failures.front().is_some_and(|at| now - *at > policy.window) {
            failures.pop_front();
        }
        policy.backoff(failures.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::supervision::policy::POLICIES;

    #[test]
    fn law_12_no_actor_is_brought_near_its_limit() {
        for policy in &POLICIES {
            for before in [0, 1, 99] {
                let mut pace = Pace::default();
                let begun = Instant::now();
                pace.failed("a", policy, before, begun);
                let mut failures = vec![begun; (before as usize).min(policy.max_restarts)];
                let mut now = begun;
                while now < begun + 4 * policy.window {
                    now = pace
                        .next("a", policy, min_interval(policy))
                        .map_or(now, |at| at.max(now));
                    pace.killed("a", policy, now);
                    failures.push(now);
                }
                for first in failures.iter().filter(|at| before < 99 || **at > begun) {
                    let within = |at: &&Instant| **at >= *first && **at - *first < policy.window;
                    let count = failures.iter().filter(within).count();
                    assert!(count < policy.max_restarts, "{policy:?}: {count}");
                }
            }
        }
    }

    #[test]
    fn pauses_double_within_the_window_and_begin_anew_after_it() {
        let policy = &POLICIES[1];
        let mut pace = Pace::default();
        let now = Instant::now();
        assert_eq!(pace.next("a", policy, policy.window), None);
        assert_eq!(pace.killed("a", policy, now), policy.backoff_min);
        assert_eq!(pace.killed("a", policy, now), 2 * policy.backoff_min);
        assert_eq!(pace.killed("b", policy, now), policy.backoff_min);
        let later = now + policy.window + Duration::from_millis(1);
        assert_eq!(pace.killed("a", policy, later), policy.backoff_min);
        pace.failed("c", policy, 2, now);
        assert_eq!(pace.next("c", policy, policy.window), None, "there is room");
        pace.seen("c", policy, 2, now);
        assert_eq!(pace.next("c", policy, policy.window), None, "nothing new");
        assert_eq!(pace.killed("c", policy, now), 4 * policy.backoff_min);
    }

    #[test]
    fn law_12_what_fails_beside_the_kills_takes_up_room_too() {
        let policy = &POLICIES[1];
        let mut pace = Pace::default();
        let now = Instant::now();
        pace.killed("a", policy, now);
        pace.seen("a", policy, 1, now);
        assert_eq!(pace.next("a", policy, Duration::ZERO), Some(now));
        let most = u64::try_from(policy.max_restarts).unwrap();
        pace.seen("a", policy, most, now);
        let free = pace.next("a", policy, Duration::ZERO).unwrap();
        assert!(free > now + policy.window);
        // A hung actor is not restarted, and another process begins to count anew.
        pace.killed("b", policy, now);
        pace.seen("b", policy, 0, now);
        pace.seen("b", policy, 1, now);
        assert_eq!(pace.next("b", policy, Duration::ZERO), Some(now));
    }
}
