//! The guard's laws. Law 12: crashes are contained and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use actix::prelude::*;

use super::condition::{Gone, NOT_RUN_AFTER, Stuck, WAITING_AFTER};
use super::guard::{GuardSettings, OnGone, start_guarded_here};
use super::health;
use super::policy::{ActorKind, POLICIES};
use super::supervisor::EndProcess;
use super::tree::{ActorState, KillHow, Tree};

/// Counts messages; panics when told to. `incarnation` is what a rebuilt state shows.
struct Counter {
    incarnations: Arc<AtomicU32>,
    incarnation: u32,
    seen: u32,
    panic_at_start: u32,
}

impl Counter {
    fn new(incarnations: Arc<AtomicU32>, panic_at_start: u32) -> Self {
        let incarnation = incarnations.fetch_add(1, Ordering::SeqCst) + 1;
        Self {
            incarnations,
            incarnation,
            seen: 0,
            panic_at_start,
        }
    }
}

impl Actor for Counter {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Self::Context) {
        assert!(
            self.incarnation > self.panic_at_start,
            "told to panic in started()"
        );
    }
}

impl Supervised for Counter {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Self::new(self.incarnations.clone(), self.panic_at_start);
    }
}

#[derive(Message)]
#[rtype(result = "(u32, u32)")]
struct Count {
    panic: bool,
}

impl Handler<Count> for Counter {
    type Result = MessageResult<Count>;
    fn handle(&mut self, message: Count, _: &mut Self::Context) -> Self::Result {
        self.seen += 1;
        assert!(!message.panic, "told to panic");
        MessageResult((self.incarnation, self.seen))
    }
}

fn guarded(
    kind: ActorKind,
    panic_at_start: u32,
) -> (Addr<Counter>, Arc<super::tree::Node>, Arc<AtomicU32>) {
    let tree = Tree::default();
    let node = tree.add("test/1", kind);
    let escalated = Arc::new(AtomicU32::new(0));
    let seen = escalated.clone();
    let on_gone: OnGone = Arc::new(move |_, gone| {
        if gone == Gone::Escalated {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    let settings = GuardSettings {
        node: node.clone(),
        on_gone,
    };
    let actor = Counter::new(Arc::default(), panic_at_start);
    (start_guarded_here(settings, actor), node, escalated)
}

/// Runs on a clock that only moves when everyone waits, so backoffs take no time.
fn paused(test: impl Future<Output = ()> + 'static) {
    let system = System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime")
    });
    system.block_on(test);
}

#[test]
fn law_12_the_mailbox_survives_and_the_state_does_not() {
    paused(async {
        let (address, node, _) = guarded(ActorKind::EventStore, 0);
        assert_eq!(address.send(Count { panic: false }).await, Ok((1, 1)));
        let burst: Vec<_> = (0..50)
            .map(|i| address.send(Count { panic: i == 10 }))
            .collect();
        let answers = futures_util::future::join_all(burst).await;
        assert_eq!(
            answers.iter().filter(|a| a.is_err()).count(),
            1,
            "only the message that panicked"
        );
        assert_eq!(
            answers[49],
            Ok((2, 39)),
            "the rest was handled by a fresh state"
        );
        assert_eq!(node.restarts(), 1);
        assert_eq!(node.view().last_failure.map(|f| f.cause), Some("panic"));
    });
}

#[test]
fn law_12_a_panic_in_started_is_retried_with_backoff() {
    paused(async {
        let begun = tokio::time::Instant::now();
        let (address, node, _) = guarded(ActorKind::EventStore, 3);
        assert_eq!(address.send(Count { panic: false }).await, Ok((4, 1)));
        assert_eq!(node.restarts(), 3);
        assert!(
            begun.elapsed()
                >= ActorKind::EventStore
                    .policy()
                    .backoff_min
                    .mul_f64(0.5 * 7.0)
        );
    });
}

#[test]
fn law_12_beyond_the_limit_it_escalates_and_never_spins() {
    paused(async {
        let (address, node, escalated) = guarded(ActorKind::EventStore, u32::MAX);
        assert!(address.send(Count { panic: false }).await.is_err());
        assert_eq!(escalated.load(Ordering::SeqCst), 1);
        assert_eq!(node.state(), ActorState::Escalated);
        let limit = ActorKind::EventStore.policy().max_restarts as u64;
        assert_eq!(node.restarts(), limit + 1);
    });
}

#[test]
fn law_12_failures_outside_the_window_are_forgiven() {
    paused(async {
        let (address, node, escalated) = guarded(ActorKind::EventStore, 0);
        let policy = ActorKind::EventStore.policy();
        for _ in 0..policy.max_restarts * 3 {
            assert!(address.send(Count { panic: true }).await.is_err());
            tokio::time::sleep(policy.window / 5).await;
        }
        assert_eq!(node.restarts(), policy.max_restarts as u64 * 3);
        assert_eq!(escalated.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn law_12_a_kill_works_while_the_actor_waits() {
    paused(async {
        let (address, node, _) = guarded(ActorKind::EventStore, 0);
        assert_eq!(address.send(Count { panic: false }).await, Ok((1, 1)));
        for (how, cause) in [(KillHow::Panic, "killed"), (KillHow::Stop, "stopped")] {
            let before = node.restarts();
            node.kill(how);
            let answer = address.send(Count { panic: false }).await;
            assert!(answer.is_ok_and(|(incarnation, seen)| incarnation > 1 && seen == 1));
            assert_eq!(node.restarts(), before + 1);
            assert_eq!(node.view().last_failure.map(|f| f.cause), Some(cause));
        }
    });
}

#[test]
fn every_kind_of_actor_has_one_policy() {
    for policy in &POLICIES {
        assert_eq!(POLICIES.iter().filter(|p| p.kind == policy.kind).count(), 1);
        assert!(policy.backoff(1) == policy.backoff_min);
        assert!(policy.backoff(100) == policy.backoff_max);
    }
    for kind in ActorKind::ALL {
        assert_eq!(kind.policy().kind, kind);
    }
}

#[test]
fn an_actor_that_is_told_to_end_is_gone_for_good() {
    paused(async {
        let (address, node, escalated) = guarded(ActorKind::Relay, 0);
        assert_eq!(address.send(Count { panic: false }).await, Ok((1, 1)));
        node.end();
        assert!(address.send(Count { panic: false }).await.is_err());
        assert_eq!(node.state(), ActorState::Stopped);
        assert_eq!(node.restarts(), 0);
        assert_eq!(escalated.load(Ordering::SeqCst), 0);
    });
}

/// A guarded actor in a tree of its own, and a look at it from outside.
fn watched() -> (Addr<Counter>, Arc<super::tree::Node>, impl Fn() -> u32) {
    let tree = Tree::default();
    let node = tree.add("test/1", ActorKind::EventStore);
    let settings = GuardSettings {
        node: node.clone(),
        on_gone: Arc::new(|_, _| {}),
    };
    let address = start_guarded_here(settings, Counter::new(Arc::default(), 0));
    let ended = Arc::new(AtomicU32::new(0));
    let look = move || {
        let count = ended.clone();
        let end_process: EndProcess = Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        health::inspect(&tree, &end_process, tokio::time::Instant::now());
        ended.load(Ordering::SeqCst)
    };
    (address, node, look)
}

#[test]
fn law_12_an_actor_that_hangs_is_seen_from_outside_and_again_when_it_goes_on() {
    paused(async {
        let (address, node, look) = watched();
        assert_eq!(address.send(Count { panic: false }).await, Ok((1, 1)));
        look();
        assert_eq!(node.view().state, ActorState::Running);
        node.kill(KillHow::Hang);
        let hung = address.send(Count { panic: false });
        tokio::time::sleep(NOT_RUN_AFTER).await;
        look();
        let view = node.view();
        assert_eq!(
            (view.state, view.stuck),
            (ActorState::Stuck, Some(Stuck::NotRun))
        );
        assert_eq!(hung.await, Ok((1, 2)), "it is the same one, and goes on");
        look();
        assert_eq!(node.view().state, ActorState::Running);
    });
}

#[test]
fn law_12_an_actor_that_waits_in_vain_is_restarted_once() {
    paused(async {
        let (address, node, look) = watched();
        assert_eq!(address.send(Count { panic: false }).await, Ok((1, 1)));
        tokio::time::sleep(WAITING_AFTER * 2).await;
        assert_eq!(look(), 0);
        assert_eq!(node.restarts(), 0, "nobody waits for it");
        let call = node.call();
        assert_eq!(node.view().calls_in_flight, 1);
        look();
        look();
        assert_eq!(address.send(Count { panic: false }).await, Ok((2, 1)));
        assert_eq!(node.view().last_failure.map(|f| f.cause), Some("stuck"));
        drop(call);
        assert_eq!(look(), 0, "it did not hold its thread");
        assert_eq!((node.restarts(), node.view().calls_in_flight), (1, 0));
    });
}
