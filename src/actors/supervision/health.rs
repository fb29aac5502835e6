//! Finds stuck actors from outside. An actor cannot report that it is stuck, and its own timers do
//! not run then; so a task on the I/O runtime looks at every node of the tree and pings every
//! arbiter.
//!
//! | sight | seen by | means | beyond the policy's limit |
//! |---|---|---|---|
//! | `blocked` | one poll has not returned for [`BLOCKED_AFTER`] | it holds its thread | the process ends: a thread cannot be taken back |
//! | `not_run` | woken [`NOT_RUN_AFTER`] ago, not run since | it hangs, or its thread is held by another | it is restarted |
//! | `waiting` | it owes answers and was not run for [`WAITING_AFTER`] | what it waits for never comes | it is restarted |
//!
//! A slow S3 or PostgreSQL is none of these: calls to them have deadlines, after which their
//! callers get an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::condition::{BLOCKED_AFTER, Stuck};
#[cfg(doc)]
use super::condition::{NOT_RUN_AFTER, WAITING_AFTER};
use super::policy::ActorKind;
use super::supervisor::{EndProcess, Supervisor};
use super::tree::{Kill, Node, Tree};
use crate::actors::arbiters::{ArbiterSlot, Arbiters};
use crate::metrics::{ACTOR_STUCK, ACTOR_WAIT, ARBITER_LAG, CALLS_IN_FLIGHT};

/// How often to check; a hundred thousand nodes take some milliseconds.
pub const INSPECT_EVERY: Duration = Duration::from_secs(1);

/// Watches until it is dropped. Ends the process at most once for each node.
pub async fn watch(supervisor: Supervisor) {
    let arbiters = supervisor.arbiters();
    let pings: Vec<Ping> = arbiters.slots().into_iter().map(Ping::new).collect();
    let mut ticks = interval(INSPECT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let gap = now - std::mem::replace(&mut looked, now);
        if stood_still(gap) {
            tracing::warn!(
                seconds = gap.as_secs(),
                "this process was not run for a while"
            );
            continue;
        }
        for ping in &pings {
            ping.inspect(arbiters);
        }
        inspect(supervisor.tree(), supervisor.end_process(), now);
    }
}

/// Whether the watchdog itself did not run, because the process or its machine was paused. Then
/// every actor seems to have been stuck for that time, and none is judged before it could run
/// again.
fn stood_still(gap: Duration) -> bool {
    gap > INSPECT_EVERY * 3
}

/// Checks every actor once.
pub fn inspect(tree: &Tree, end_process: &EndProcess, now: Instant) {
    let mut by_kind: BTreeMap<&'static str, (u32, u32, Duration)> = BTreeMap::new();
    for kind in ActorKind::ALL {
        by_kind.insert(kind.as_str(), (0, 0, Duration::ZERO));
    }
    for node in tree.nodes() {
        let counts = by_kind.entry(node.kind.as_str()).or_default();
        counts.1 += node.calls();
        counts.2 = counts.2.max(node.mailbox_wait());
        let stuck = node.activity().stuck(node.calls(), now);
        counts.0 += u32::from(stuck.is_some());
        note(&node, stuck, end_process, now);
    }
    for (kind, (stuck, calls, wait)) in by_kind {
        gauge!(ACTOR_STUCK, "actor" => kind).set(stuck);
        gauge!(CALLS_IN_FLIGHT, "actor" => kind).set(calls);
        gauge!(ACTOR_WAIT, "actor" => kind).set(wait.as_secs_f64());
    }
}

fn note(node: &Node, stuck: Option<(Stuck, Instant)>, end_process: &EndProcess, now: Instant) {
    let before = node.set_stuck(stuck.map(|(how, _)| how));
    let Some((how, since)) = stuck else {
        if let Some(was) = before {
            tracing::info!(actor = %node.path, ?was, "{} goes on", node.path);
        }
        return;
    };
    let for_ = now.saturating_duration_since(since);
    if before != Some(how) {
        tracing::error!(actor = %node.path, ?how, seconds = for_.as_secs(),
            "{} is stuck: {how:?} for {} s", node.path, for_.as_secs());
    }
    if for_ < node.kind.policy().stuck_limit || !node.escalate_once(since) {
        return;
    }
    match how {
        Stuck::Blocked => {
            tracing::error!(actor = %node.path, "{} holds its thread: the process ends", node.path);
            end_process(node);
        }
        Stuck::NotRun | Stuck::Waiting => node.order(Kill::Stuck),
    }
}

/// A message to an arbiter that is answered when the arbiter gets to it.
struct Ping {
    slot: ArbiterSlot,
    /// When the unanswered ping was sent.
    asked: Arc<Mutex<Option<Instant>>>,
    late: Mutex<bool>,
}

impl Ping {
    fn new(slot: ArbiterSlot) -> Self {
        Self {
            slot,
            asked: Arc::default(),
            late: Mutex::new(false),
        }
    }

    fn inspect(&self, arbiters: &Arbiters) {
        let now = Instant::now();
        let open = *self.asked.lock();
        let lag = open.map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked));
        gauge!(ARBITER_LAG, "arbiter" => self.slot.to_string()).set(lag.as_secs_f64());
        let is_late = lag >= BLOCKED_AFTER;
        let was_late = std::mem::replace(&mut *self.late.lock(), is_late);
        if is_late && !was_late {
            tracing::error!(arbiter = %self.slot, "the thread {} does not answer", self.slot);
        } else if was_late && !is_late {
            tracing::info!(arbiter = %self.slot, "the thread {} answers again", self.slot);
        }
        if open.is_none() {
            *self.asked.lock() = Some(now);
            let question = Question(self.asked.clone());
            arbiters.handle(self.slot).spawn_fn(move || drop(question));
        }
    }
}

/// Answers when dropped, so that a thread that has ended answers too; the supervisor replaces it.
struct Question(Arc<Mutex<Option<Instant>>>);

impl Drop for Question {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_12_after_a_standstill_of_the_whole_process_nobody_is_judged_at_once() {
        assert!(!stood_still(INSPECT_EVERY));
        assert!(!stood_still(INSPECT_EVERY * 2));
        // Shorter than the shortest limit, or actors that did not run with us would count as stuck.
        let limits = ActorKind::ALL.map(|kind| kind.policy().stuck_limit);
        assert!(limits.iter().all(|limit| stood_still(*limit)));
    }
}
