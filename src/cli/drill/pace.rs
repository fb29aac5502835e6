//! When an actor may be killed again: beyond its limit of failures the service would end.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::actors::supervision::policy::Policy;

/// Failures of its own that an actor may have beside the kills.
const TO_SPARE: usize = 2;

/// An order takes a moment to be carried out, and not always the same one.
const MARGIN: Duration = Duration::from_secs(1);

/// Failures that the kills may bring an actor to within its window.
fn allowed(policy: &Policy) -> usize {
    policy.max_restarts.saturating_sub(TO_SPARE).max(1)
}

/// The shortest time between two kills of an actor under this policy.
pub fn rest(policy: &Policy) -> Duration {
    policy.window / u32::try_from(allowed(policy)).unwrap_or(1)
}

/// Who failed when.
#[derive(Debug, Default)]
pub struct Pace {
    actors: HashMap<String, Past>,
}

#[derive(Debug, Default)]
struct Past {
    failures: VecDeque<Instant>,
    killed: Option<Instant>,
}

impl Pace {
    /// Notes what was before: an actor failed so often in all, the last time at `last`. All of them
    /// are believed to have been then.
    pub fn failed(&mut self, path: &str, policy: &Policy, times: u64, last: Instant) {
        let times = usize::try_from(times).unwrap_or(usize::MAX);
        let past = self.actors.entry(path.to_owned()).or_default();
        past.failures = std::iter::repeat_n(last, times.min(policy.max_restarts)).collect();
    }

    /// From when on the actor at `path` may be killed, at the earliest `rest` after the last time.
    pub fn next(&self, path: &str, policy: &Policy, rest: Duration) -> Option<Instant> {
        let past = self.actors.get(path)?;
        // Another failure must find one place fewer taken than there are.
        let oldest = past.failures.len().checked_sub(allowed(policy));
        let oldest = oldest.and_then(|at| past.failures.get(at));
        let room = oldest.map(|at| *at + policy.window + MARGIN);
        let rested = past.killed.map(|at| at + rest);
        room.max(rested)
    }

    /// Notes a kill; the pause that the policy asks for before the restart, before jitter.
    pub fn killed(&mut self, path: &str, policy: &Policy, now: Instant) -> Duration {
        let past = self.actors.entry(path.to_owned()).or_default();
        past.killed = Some(now);
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
                        .next("a", policy, rest(policy))
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
        assert_eq!(pace.killed("c", policy, now), 4 * policy.backoff_min);
    }
}
