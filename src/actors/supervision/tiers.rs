//! Decides what follows when a guard is gone: the second tier, which rebuilds the actor, and the
//! third. Pure: depends only on what happened and when.

use std::time::Duration;

use tokio::time::Instant;

use super::condition::Gone;
use super::intensity::Intensity;
use super::policy::{Escalation, LastResort, Policy};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Rebuild it after a pause; messages wait in its mailbox meanwhile.
    RebuildAfter(Duration),
    /// Leave it down, without a mailbox, for so long; then rebuild it.
    DownFor(Duration),
    EndProcess,
    /// Do nothing: nobody needs it.
    Forget,
}

/// The history of one actor beyond its restarts in place.
#[derive(Debug)]
pub struct Tiers {
    policy: &'static Policy,
    losses: Intensity,
    rebuilds: Intensity,
}

impl Tiers {
    pub fn new(policy: &'static Policy) -> Self {
        let (max, window) = match policy.escalation {
            Escalation::DropEntity => (0, Duration::ZERO),
            Escalation::Rebuild { max, window, .. } => (max, window),
        };
        Self {
            policy,
            losses: Intensity::new(policy.max_restarts, policy.window),
            rebuilds: Intensity::new(max, window),
        }
    }

    /// Decides what follows on `gone`. A loss counts as much as a failure and is tolerated as
    /// often; ending for a rebuild is no failure.
    pub fn next(&mut self, gone: Gone, at: Instant) -> Next {
        let Escalation::Rebuild { then, .. } = self.policy.escalation else {
            return Next::Forget;
        };
        if gone == Gone::Renewed {
            return Next::RebuildAfter(Duration::ZERO);
        }
        if gone == Gone::Lost
            && let Some(losses) = self.losses.note(at)
        {
            return Next::RebuildAfter(self.policy.backoff(losses));
        }
        if self.rebuilds.note(at).is_some() {
            return Next::RebuildAfter(self.policy.backoff_max);
        }
        match then {
            LastResort::EndProcess => Next::EndProcess,
            LastResort::TryAgainAfter(pause) => Next::DownFor(pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::supervision::policy::ActorKind;

    fn rebuilds(kind: ActorKind) -> usize {
        match kind.policy().escalation {
            Escalation::DropEntity => 0,
            Escalation::Rebuild { max, .. } => max,
        }
    }

    #[test]
    fn law_12_whoever_fails_beyond_its_limit_is_rebuilt_and_then_the_process_ends() {
        let (kind, now) = (ActorKind::EventStore, Instant::now());
        let mut tiers = Tiers::new(kind.policy());
        for _ in 0..rebuilds(kind) {
            let pause = kind.policy().backoff_max;
            assert_eq!(tiers.next(Gone::Escalated, now), Next::RebuildAfter(pause));
        }
        assert_eq!(tiers.next(Gone::Escalated, now), Next::EndProcess);
    }

    #[test]
    fn law_12_losses_count_like_failures_and_then_like_an_escalation() {
        let (kind, now) = (ActorKind::Relay, Instant::now());
        let mut tiers = Tiers::new(kind.policy());
        for loss in 1..=kind.policy().max_restarts {
            let pause = kind.policy().backoff(loss);
            assert_eq!(tiers.next(Gone::Lost, now), Next::RebuildAfter(pause));
        }
        for _ in 0..rebuilds(kind) {
            let pause = kind.policy().backoff_max;
            assert_eq!(tiers.next(Gone::Lost, now), Next::RebuildAfter(pause));
        }
        assert_eq!(tiers.next(Gone::Lost, now), Next::EndProcess);
    }

    #[test]
    fn law_12_without_the_actor_that_switches_traffic_goes_on() {
        let (kind, now) = (ActorKind::MigrationMode, Instant::now());
        let mut tiers = Tiers::new(kind.policy());
        for _ in 0..rebuilds(kind) {
            tiers.next(Gone::Escalated, now);
        }
        assert!(matches!(
            tiers.next(Gone::Escalated, now),
            Next::DownFor(pause) if !pause.is_zero()
        ));
    }

    #[test]
    fn who_makes_room_for_another_has_not_failed() {
        let (kind, now) = (ActorKind::Relay, Instant::now());
        let mut tiers = Tiers::new(kind.policy());
        for _ in 0..1_000 {
            assert_eq!(
                tiers.next(Gone::Renewed, now),
                Next::RebuildAfter(Duration::ZERO)
            );
        }
        let first = kind.policy().backoff(1);
        assert_eq!(tiers.next(Gone::Lost, now), Next::RebuildAfter(first));
    }
}
