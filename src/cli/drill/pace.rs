//! When an actor may be killed again: beyond its limit of failures the service would end.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::actors::supervision::policy::Policy;

/// Failures of its own that an actor may have beside the kills.
const TO_SPARE: usize = 2;

/// The shortest time between two kills of an actor under this policy.
pub fn rest(policy: &Policy) -> Duration {
    let kills = policy.max_restarts.saturating_sub(TO_SPARE).max(1);
    policy.window / u32::try_from(kills).unwrap_or(1)
}

/// Whom was killed when.
#[derive(Debug, Default)]
pub struct Pace {
    kills: HashMap<String, VecDeque<Instant>>,
}

impl Pace {
    /// When the actor at `path` may be killed next; `None`: it never was.
    pub fn next(&self, path: &str, rest: Duration) -> Option<Instant> {
        let last = self.kills.get(path)?.back()?;
        Some(*last + rest)
    }

    /// Notes a kill; the pause that the policy asks for before the restart, before jitter.
    pub fn killed(&mut self, path: &str, policy: &Policy, now: Instant) -> Duration {
        let kills = self.kills.entry(path.to_owned()).or_default();
        kills.push_back(now);
        while kills.front().is_some_and(|at| now - *at > policy.window) {
            kills.pop_front();
        }
        policy.backoff(kills.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::supervision::policy::POLICIES;

    #[test]
    fn law_12_no_actor_is_brought_near_its_limit() {
        for policy in &POLICIES {
            let rest = rest(policy);
            let mut pace = Pace::default();
            let begun = Instant::now();
            let mut now = begun;
            let mut kills = Vec::new();
            while now < begun + 4 * policy.window {
                pace.killed("a", policy, now);
                kills.push(now);
                now = pace.next("a", rest).unwrap();
            }
            for first in &kills {
                let within = |at: &&Instant| **at >= *first && **at - *first < policy.window;
                let failures = kills.iter().filter(within).count();
                assert!(failures < policy.max_restarts, "{policy:?}: {failures}");
            }
        }
    }

    #[test]
    fn pauses_double_within_the_window_and_begin_anew_after_it() {
        let policy = &POLICIES[1];
        let mut pace = Pace::default();
        let now = Instant::now();
        assert_eq!(pace.next("a", policy.window), None);
        assert_eq!(pace.killed("a", policy, now), policy.backoff_min);
        assert_eq!(pace.killed("a", policy, now), 2 * policy.backoff_min);
        assert_eq!(pace.killed("b", policy, now), policy.backoff_min);
        let later = now + policy.window + Duration::from_millis(1);
        assert_eq!(pace.killed("a", policy, later), policy.backoff_min);
    }
}
