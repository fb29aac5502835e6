//! Restart policies: one table for all actors, printed at start.

use std::time::Duration;

/// The kinds of actors.
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
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Aggregate,
        Self::EventStore,
        Self::Outbox,
        Self::Relay,
        Self::Projection,
        Self::Mirror,
        Self::MigrationMode,
    ];

    /// Whether its messages say themselves when they were sent: they wait for each other in the
    /// mailbox, while the other kinds take a message up as soon as they are run.
    pub fn stamps_messages(self) -> bool {
        self == Self::Aggregate
    }

    /// As metric label and in paths.
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

    /// The actor's policy.
    pub fn policy(self) -> &'static Policy {
        // The table has a row for every kind; a test holds it to that.
        POLICIES
            .iter()
            .find(|p| p.kind == self)
            .unwrap_or(&POLICIES[0])
    }
}

/// What follows when an actor fails beyond its limit: the second tier, and the third.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escalation {
    /// Forget this one actor; whoever needs the entity next gets a fresh one.
    DropEntity,
    /// Build it anew, with a fresh mailbox.
    Rebuild {
        /// More rebuilds than this within `window` are of no use.
        max: usize,
        /// The window.
        window: Duration,
        /// What follows then.
        then: LastResort,
    },
}

/// The third tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastResort {
    /// End the process with [`EXIT_ESCALATED`]: the orchestrator starts a fresh one.
    EndProcess,
    /// Do without the actor, and try again after so long: what it does is not worth the process.
    TryAgainAfter(Duration),
}

/// Exit code of a process that ended because an actor failed beyond its limit.
pub const EXIT_ESCALATED: i32 = 70;

/// How one kind of actor is restarted.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Whom it is for.
    pub kind: ActorKind,
    /// Whether an orderly stop is the actor's right; if not it counts as a failure.
    pub may_stop: bool,
    /// More failures than this within `window` escalate.
    pub max_restarts: usize,
    /// The window: a true sliding one.
    pub window: Duration,
    /// Pause before the first restart; doubles with every further failure in the window.
    pub backoff_min: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// What follows beyond the limit.
    pub escalation: Escalation,
    /// Rest for one: who is built anew with it, because it lives on what this one has told it.
    pub rest: &'static [ActorKind],
    /// An actor that has been stuck for so long is restarted, or ends the process if it holds its
    /// thread; see [`super::health`].
    pub stuck_limit: Duration,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A fresh mailbox on a living thread cures what a restart in place does not: a message that kills
/// whoever takes it up. What is not cured by it once in ten minutes is not cured by it.
const REBUILD_ONCE: Escalation = Escalation::Rebuild {
    max: 1,
    window: ms(600_000),
    then: LastResort::EndProcess,
};

/// The table. Backoffs are short where a caller waits and long where a dependency may need time;
/// a limit of 10 in 60 s lets a flapping dependency pass and catches a bug that never ends. Nothing
/// but a bug makes an actor stuck for 15 or 30 s: no call to a dependency holds it up that counts.
/// Without the MigrationModeActor switches are refused and traffic goes on. The relay publishes what
/// the outbox has recorded, so it is built anew with it, and both read the same rows.
pub const POLICIES: [Policy; 7] = [
    Policy {
        kind: ActorKind::Aggregate,
        may_stop: true,
        max_restarts: 3,
        window: ms(30_000),
        backoff_min: ms(5),
        backoff_max: ms(1_000),
        escalation: Escalation::DropEntity,
        rest: &[],
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
        rest: &[],
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
        rest: &[ActorKind::Relay],
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
        rest: &[],
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
        rest: &[],
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
        rest: &[],
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
        rest: &[],
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
