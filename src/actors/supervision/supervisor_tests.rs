//! The second and third tier. Law 12: an actor whose task or thread ends comes back behind
//! the same handle, with its neighbours, and no caller waits in vain.

use std::sync::atomic::{AtomicU32, Ordering};

use actix::{Handler, Message, System};
use tokio::time::timeout;

use super::super::tree::KillHow;
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Tells which incarnation it is.
struct Numbered(u32);

impl Actor for Numbered {
    type Context = Context<Self>;
}

impl Supervised for Numbered {}

#[derive(Message)]
#[rtype(result = "u32")]
struct Which;

impl Handler<Which> for Numbered {
    type Result = u32;
    fn handle(&mut self, _: Which, _: &mut Self::Context) -> u32 {
        self.0
    }
}

struct World {
    supervisor: Supervisor,
    ended: Arc<AtomicU32>,
}

impl World {
    fn new() -> Self {
        let ended = Arc::new(AtomicU32::new(0));
        let count = ended.clone();
        let end_process: EndProcess = Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let arbiters = Arc::new(Arbiters::start(1));
        Self {
            supervisor: Supervisor::start(arbiters, Arc::default(), end_process),
            ended,
        }
    }

    fn child(&self, path: &str, kind: ActorKind, slot: ArbiterSlot) -> Handle<Numbered> {
        let made = AtomicU32::new(0);
        self.supervisor.child(path, kind, slot, move || {
            Numbered(made.fetch_add(1, Ordering::SeqCst) + 1)
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.supervisor.arbiters().stop();
    }
}

/// The number of the incarnation that answers; repeats the call while one is lost and the next one
/// has not started.
async fn which(child: &Handle<Numbered>) -> u32 {
    let asked = async {
        loop {
            if let Ok(which) = child.call(Which).await {
                return which;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, asked).await.expect("an answer")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, waited).await.expect(what);
}

#[test]
fn law_12_an_aborted_task_is_started_again_behind_the_same_handle() {
    System::new().block_on(async {
        let world = World::new();
        let child = world.child("event_store/0", ActorKind::EventStore, ArbiterSlot::Log);
        assert_eq!(which(&child).await, 1);
        assert!(child.node().kill(KillHow::Abort));
        until("the loss is noted", || child.node().restarts() == 1).await;
        assert_eq!(which(&child).await, 2);
        let view = child.node().view();
        assert_eq!(
            (view.restarts, view.rebuilds, view.calls_in_flight),
            (1, 1, 0)
        );
        assert_eq!(view.last_failure.map(|f| f.cause), Some("lost"));
        assert_eq!(view.state, ActorState::Running);
    });
}

#[test]
fn law_12_a_thread_that_ends_is_replaced_and_all_who_lived_there_come_back() {
    System::new().block_on(async {
        let world = World::new();
        let (kind, slot) = (ActorKind::Projection, ArbiterSlot::Background);
        let one = world.child("one", kind, slot);
        let two = world.child("two", kind, slot);
        let elsewhere = world.child("elsewhere", kind, ArbiterSlot::Log);
        assert_eq!((which(&one).await, which(&two).await), (1, 1));
        assert!(one.node().kill(KillHow::Arbiter));
        until("both are lost", || {
            one.node().restarts() == 1 && two.node().restarts() == 1
        })
        .await;
        assert_eq!((which(&one).await, which(&two).await), (2, 2));
        assert_eq!(which(&elsewhere).await, 1);
        // The new thread is looked after as the old one was.
        assert!(two.node().kill(KillHow::Arbiter));
        until("both are lost again", || {
            one.node().restarts() == 2 && two.node().restarts() == 2
        })
        .await;
        assert_eq!((which(&one).await, which(&two).await), (3, 3));
    });
}

#[test]
fn law_12_an_empty_thread_that_ends_is_replaced_too() {
    System::new().block_on(async {
        let world = World::new();
        let arbiters = world.supervisor.arbiters();
        let slot = ArbiterSlot::Entities(0);
        let ended = arbiters.handle(slot);
        assert!(ended.stop());
        until("it has ended", || !ended.alive()).await;
        until("there is another", || arbiters.handle(slot).alive()).await;
    });
}

#[test]
fn rest_for_one_whoever_lives_on_the_outbox_is_built_anew_with_it_and_not_the_other_way_round() {
    System::new().block_on(async {
        let world = World::new();
        let outbox = world.child("outbox", ActorKind::Outbox, ArbiterSlot::Background);
        let relay = world.child("relay", ActorKind::Relay, ArbiterSlot::Background);
        assert_eq!((which(&outbox).await, which(&relay).await), (1, 1));
        assert!(relay.node().kill(KillHow::Abort));
        until("the relay is built anew", || relay.node().rebuilds() == 1).await;
        assert_eq!((which(&outbox).await, which(&relay).await), (1, 2));
        assert!(outbox.node().kill(KillHow::Abort));
        until("both are built anew", || {
            outbox.node().rebuilds() == 1 && relay.node().rebuilds() == 2
        })
        .await;
        assert_eq!((which(&outbox).await, which(&relay).await), (2, 3));
        assert_eq!(relay.node().restarts(), 1, "making room is no failure");
        // A restart in place is the guard's own affair.
        assert!(outbox.node().kill(KillHow::Panic));
        until("it is restarted", || outbox.node().restarts() == 2).await;
        assert_eq!(relay.node().rebuilds(), 2);
    });
}

#[test]
fn law_12_what_a_rebuild_does_not_cure_ends_the_process() {
    System::new().block_on(async {
        let world = World::new();
        let child = world.child("mirror", ActorKind::Mirror, ArbiterSlot::Background);
        let escalated = || Report::Gone(child.node().clone(), Gone::Escalated);
        assert!(world.supervisor.reports.send(escalated()).is_ok());
        until("it is rebuilt", || child.node().rebuilds() == 1).await;
        assert_eq!(world.ended.load(Ordering::SeqCst), 0);
        assert!(world.supervisor.reports.send(escalated()).is_ok());
        until("the process is ended", || {
            world.ended.load(Ordering::SeqCst) == 1
        })
        .await;
    });
}

#[test]
fn law_12_without_the_actor_that_switches_the_process_goes_on_and_callers_are_told_at_once() {
    System::new().block_on(async {
        let world = World::new();
        let (kind, slot) = (ActorKind::MigrationMode, ArbiterSlot::Background);
        let child = world
            .supervisor
            .child("migration_mode", kind, slot, || Hopeless);
        // Its limit in place, one rebuild, its limit again.
        let failures = kind.policy().max_restarts as u64 + 1;
        until("it is left down", || {
            // Beyond its limit it is also before the rebuild, for a moment.
            let node = child.node();
            node.state() == ActorState::Escalated && node.restarts() == 2 * failures
        })
        .await;
        assert_eq!(child.node().rebuilds(), 1);
        assert_eq!(world.ended.load(Ordering::SeqCst), 0);
        let told = timeout(Duration::from_secs(5), child.call(Which)).await;
        assert!(told.is_ok_and(|answer| answer.is_err()));
        until("nobody takes it", || !child.tell(Which)).await;
    });
}

/// Never gets up.
struct Hopeless;

impl Actor for Hopeless {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Self::Context) {
        panic!("told to panic");
    }
}

impl Supervised for Hopeless {}

impl Handler<Which> for Hopeless {
    type Result = u32;
    fn handle(&mut self, _: Which, _: &mut Self::Context) -> u32 {
        0
    }
}
