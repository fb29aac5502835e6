//! Restart policies: one table for all actors, printed at start.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// One per live entity.
    Aggregate,
    /// One per partition of the log.
    EventStore,
    /// Tails the log into the outbox.
    Outbox,
    /// Publishes the outbox.
    Relay,
    /// Keeps the read model.
    Projection,
    /// Keeps the copy in the store that does not lead.
    Mirror,
    /// Owns mode, lead and epoch.
    MigrationMode,
}

impl ActorKind {
    pub const ALL: [Self; 7] = [
        Self::Aggregate,
        Self::EventStore,
        Self::Outbox,
        Self::Relay,
        Self::Projection,
        Self::Mirror,
        Self::MigrationMode,
    ];

    /// Whether its messages carry the time at which they were sent. Those of aggregates wait in the
    /// mailbox for each other; other kinds take a message as soon as they are polled, so that the
    /// guard can measure the wait.
    pub fn stamps_messages(self) -> bool {
        self == Self::Aggregate
    }

    /// The name as metric label and in paths.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aggregate => "aggregate",
            Self::EventStore => "event_store",
            Self::Outbox => "outbox",
            Self::Relay => "relay",
            Self::Projection => "projection",
            Self::Mirror => "mirror",
            Self::MigrationMode => "migration_mode",
        }
    }

    pub fn policy(self) -> &'static Policy {
        // The table has a row for every kind, which a test checks.
        POLICIES
            .iter()
            .find(|p| p.kind == self)
            .unwrap_or(&POLICIES[0])
    }
}

/// What follows when an actor fails beyond its limit: the second tier and the third.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escalation {
    /// Forget this actor; the next caller of the entity starts a fresh one.
    DropEntity,
    /// Rebuild it with a fresh mailbox.
    Rebuild {
        /// More rebuilds than this within `window` lead to `then`.
        max: usize,
        window: Duration,
        then: LastResort,
    },
}

/// The third tier, when rebuilding does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastResort {
    /// End the process with [`EXIT_ESCALATED`]: the orchestrator starts a new one.
    EndProcess,
    /// Go on without the actor and try again after this pause: its work is not worth the process.
    TryAgainAfter(Duration),
}

/// Exit code of a process that ended because an actor failed beyond its limit.
pub const EXIT_ESCALATED: i32 = 70;

/// How one kind of actor is restarted.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    pub kind: ActorKind,
    /// Whether the actor may stop by itself; otherwise a stop counts as a failure.
    pub may_stop: bool,
    /// More failures than this within `window` escalate.
    pub max_restarts: usize,
    pub window: Duration,
    /// Pause before the first restart; doubles with every further failure in the window.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    pub escalation: Escalation,
    /// Kinds of actors that are rebuilt together with this one, because their state depends on it
    /// (rest-for-one supervision).
    pub dependents: &'static [ActorKind],
    /// An actor that is stuck for so long is restarted, or ends the process if it blocks its
    /// thread; see [`super::health`].
    pub stuck_limit: Duration,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A fresh mailbox on a living thread helps where a restart in place does not: against a message
/// that kills every incarnation that handles it. If one rebuild in ten minutes does not help, more
/// will not.
const REBUILD_ONCE: Escalation = Escalation::Rebuild {
    max: 1,
    window: ms(600_000),
    then: LastResort::EndProcess,
};

/// The policies. Backoffs are short where a caller waits and long where a dependency may need time;
/// a limit of 10 in 60 s tolerates a flapping dependency and catches a permanent bug. Calls to
/// dependencies do not count as being stuck, so only a bug keeps an actor stuck for 15 or 30 s.
/// Without the MigrationModeActor switches are refused and traffic goes on. The relay publishes the
/// rows that the outbox has recorded and both read them, so the two are rebuilt together.
pub const POLICIES: [Policy; 7] = [
    Policy {
        kind: ActorKind::Aggregate,
        may_stop: true,
        max_restarts: 3,
        window: ms(30_000),
        backoff_min: ms(5),
        backoff_max: ms(1_000),
        escalation: Escalation::DropEntity,
        dependents: &[],
        stuck_limit: ms(15_000),
    },
    Policy {
        kind: ActorKind::EventStore,
        may_stop: false,
        max_restarts: 10,
        window: ms(60_000),
        backoff_min: ms(10),
        backoff_max: ms(5_000),
        escalation: REBUILD_ONCE,
        dependents: &[],
        stuck_limit: ms(30_000),
    },
    Policy {
        kind: ActorKind::Outbox,
        may_stop: false,
        max_restarts: 10,
        window: ms(60_000),
        backoff_min: ms(50),
        backoff_max: ms(5_000),
        escalation: REBUILD_ONCE,
        dependents: &[ActorKind::Relay],
        stuck_limit: ms(30_000),
    },
    Policy {
        kind: ActorKind::Relay,
        may_stop: false,
        max_restarts: 10,
        window: ms(60_000),
        backoff_min: ms(50),
        backoff_max: ms(5_000),
        escalation: REBUILD_ONCE,
        dependents: &[],
        stuck_limit: ms(30_000),
    },
    Policy {
        kind: ActorKind::Projection,
        may_stop: false,
        max_restarts: 10,
        window: ms(60_000),
        backoff_min: ms(50),
        backoff_max: ms(10_000),
        escalation: REBUILD_ONCE,
        dependents: &[],
        stuck_limit: ms(30_000),
    },
    Policy {
        kind: ActorKind::Mirror,
        may_stop: false,
        max_restarts: 10,
        window: ms(60_000),
        backoff_min: ms(50),
        backoff_max: ms(5_000),
        escalation: REBUILD_ONCE,
        dependents: &[],
        stuck_limit: ms(30_000),
    },
    Policy {
        kind: ActorKind::MigrationMode,
        may_stop: false,
        max_restarts: 5,
        window: ms(60_000),
        backoff_min: ms(100),
        backoff_max: ms(2_000),
        escalation: Escalation::Rebuild {
            max: 1,
            window: ms(600_000),
            then: LastResort::TryAgainAfter(ms(30_000)),
        },
        dependents: &[],
        stuck_limit: ms(30_000),
    },
];

impl Policy {
    /// The pause before the restart after the `failures`-th failure in the window (from 1), before
    /// jitter.
    pub fn backoff(&self, failures: usize) -> Duration {
        let doublings = failures.saturating_sub(1).min(16) as u32;
        self.backoff_min
            .saturating_mul(1 << doublings)
            .min(self.backoff_max)
    }
}
