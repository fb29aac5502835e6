//! The supervisor: rebuilds the actors that the process needs, when their guards cannot restart
//! them within their own tasks. It has a thread to itself and one inbox.
//!
//! ```text
//!   guard ──gone──▶ ┌────────────┐ ──tiers: what follows?──▶ a fresh mailbox at once (messages
//!   thread ─ended─▶ │ supervisor │                            wait there), a fresh actor after a
//!                   └────────────┘                            pause; or the end of the process
//! ```
//!
//! Entities are not its children: the registry starts them on demand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context, Supervised};
use actix_rt::ArbiterHandle;
use metrics::counter;
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep};

use super::condition::Gone;
use super::guard::{GuardSettings, OnGone, mailbox, start_on_mailbox};
use super::handle::Handle;
use super::policy::ActorKind;
use super::tiers::{Next, Tiers};
use super::tree::{ActorState, Kill, Node, Tree};
use crate::actors::arbiters::{ArbiterSlot, Arbiters};
use crate::metrics::{ARBITER_RESTARTS, REBUILDS};

/// Ends the process because of this actor.
pub type EndProcess = Arc<dyn Fn(&Node) + Send + Sync>;

/// Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
    reports: UnboundedSender<Report>,
}

struct Shared {
    arbiters: Arc<Arbiters>,
    tree: Arc<Tree>,
    end_process: EndProcess,
    children: Mutex<BTreeMap<String, Arc<dyn Child>>>,
}

enum Report {
    Gone(Arc<Node>, Gone),
    Ended(ArbiterSlot),
}

impl Supervisor {
    /// Starts to supervise actors on `arbiters`; `end_process` is the last resort.
    pub fn start(arbiters: Arc<Arbiters>, tree: Arc<Tree>, end_process: EndProcess) -> Self {
        let (reports, inbox) = unbounded_channel();
        let shared = Arc::new(Shared {
            arbiters,
            tree,
            end_process,
            children: Mutex::default(),
        });
        let supervisor = Self { shared, reports };
        for slot in supervisor.shared.arbiters.slots() {
            supervisor.watch_thread(slot);
        }
        let arbiter = supervisor.shared.arbiters.supervisor();
        let looking = Looking {
            supervisor: supervisor.clone(),
            histories: BTreeMap::new(),
        };
        arbiter.spawn(looking.run(inbox));
        supervisor
    }

    pub fn tree(&self) -> &Arc<Tree> {
        &self.shared.tree
    }

    pub fn arbiters(&self) -> &Arc<Arbiters> {
        &self.shared.arbiters
    }

    pub fn end_process(&self) -> &EndProcess {
        &self.shared.end_process
    }

    /// Starts an actor that the process needs, at `path` of the tree. `make` runs on the actor's
    /// thread, for every incarnation with a mailbox of its own.
    pub fn child<A>(
        &self,
        path: impl Into<String>,
        kind: ActorKind,
        slot: ArbiterSlot,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Handle<A>
    where
        A: Supervised + Actor<Context = Context<A>>,
    {
        let node = self.shared.tree.add(path, kind);
        let reports = self.reports.clone();
        let on_gone: OnGone = Arc::new(move |node, gone| {
            // Fails only if the supervisor has ended, together with the process.
            let _ = reports.send(Report::Gone(node.clone(), gone));
        });
        let (sender, receiver) = mailbox();
        let handle = Handle::new(node.clone(), Addr::new(sender));
        let spec = Arc::new(Spec {
            slot,
            handle: handle.clone(),
            settings: GuardSettings { node, on_gone },
            make: Arc::new(make),
        });
        let path = handle.node().path.clone();
        self.shared.children.lock().insert(path, spec.clone());
        let arbiter = self.shared.arbiters.handle(slot);
        start_on_mailbox(&arbiter, spec.settings.clone(), receiver, spec.make_once());
        handle
    }

    /// Reports when the thread of a slot ends.
    fn watch_thread(&self, slot: ArbiterSlot) {
        let sentinel = Sentinel {
            slot,
            reports: self.reports.clone(),
        };
        // The future is dropped when its thread ends, or at once if that has ended already.
        self.shared.arbiters.handle(slot).spawn(async move {
            let _sentinel = sentinel;
            std::future::pending::<()>().await;
        });
    }

    fn replace_thread(&self, slot: ArbiterSlot) {
        if self.shared.arbiters.replace_ended(slot) {
            tracing::error!(%slot, "the thread {slot} has ended; it is started again");
            counter!(ARBITER_RESTARTS, "arbiter" => slot.to_string()).increment(1);
            self.watch_thread(slot);
        }
    }
}

/// Lives on a thread and reports its end when dropped.
struct Sentinel {
    slot: ArbiterSlot,
    reports: UnboundedSender<Report>,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.reports.send(Report::Ended(self.slot));
    }
}

/// Starts a fresh incarnation whose mailbox is open already.
type Start = Box<dyn FnOnce(&ArbiterHandle) + Send>;

/// An actor of any type.
trait Child: Send + Sync {
    fn slot(&self) -> ArbiterSlot;
    fn node(&self) -> &Arc<Node>;
    /// Opens a fresh mailbox, into which messages go from now on.
    fn renew(&self) -> Start;
}

struct Spec<A: Actor> {
    slot: ArbiterSlot,
    handle: Handle<A>,
    settings: GuardSettings,
    make: Arc<dyn Fn() -> A + Send + Sync>,
}

impl<A: Actor> Spec<A> {
    fn make_once(&self) -> impl FnOnce() -> A + Send + 'static {
        let make = self.make.clone();
        move || make()
    }
}

impl<A> Child for Spec<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    fn slot(&self) -> ArbiterSlot {
        self.slot
    }

    fn node(&self) -> &Arc<Node> {
        self.handle.node()
    }

    fn renew(&self) -> Start {
        let (sender, receiver) = mailbox();
        self.handle.swap(Addr::new(sender));
        let (settings, make) = (self.settings.clone(), self.make_once());
        Box::new(move |arbiter| start_on_mailbox(arbiter, settings, receiver, make))
    }
}

/// The supervisor's loop and the history of each child.
struct Looking {
    supervisor: Supervisor,
    histories: BTreeMap<String, Tiers>,
}

impl Looking {
    async fn run(mut self, mut inbox: UnboundedReceiver<Report>) {
        while let Some(report) = inbox.recv().await {
            if self.supervisor.arbiters().is_stopping() {
                return;
            }
            match report {
                Report::Ended(slot) => self.supervisor.replace_thread(slot),
                Report::Gone(node, gone) => self.is_gone(&node, gone),
            }
        }
    }

    fn is_gone(&mut self, node: &Arc<Node>, gone: Gone) {
        let child = self
            .supervisor
            .shared
            .children
            .lock()
            .get(&node.path)
            .cloned();
        let Some(child) = child.filter(|_| !node.is_ending()) else {
            return;
        };
        let policy = node.kind.policy();
        let tiers = self
            .histories
            .entry(node.path.clone())
            .or_insert_with(|| Tiers::new(policy));
        let next = tiers.next(gone, Instant::now());
        tracing::warn!(actor = %node.path, ?gone, ?next, "{} is gone", node.path);
        match next {
            Next::Forget => return,
            Next::EndProcess => return (self.supervisor.shared.end_process)(node),
            Next::DownFor(pause) => {
                node.set_state(ActorState::Escalated);
                self.start_after(child, pause, Mailbox::WhenItStarts);
            }
            Next::RebuildAfter(pause) => {
                let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
                self.start_after(child, jittered, Mailbox::AtOnce);
            }
        }
        if gone != Gone::Renewed {
            self.rebuild_dependents(policy.dependents);
        }
    }

    /// Rebuilds the actors that depend on one that was rebuilt.
    fn rebuild_dependents(&self, dependents: &[ActorKind]) {
        for child in self.supervisor.shared.children.lock().values() {
            if dependents.contains(&child.node().kind) {
                child.node().order(Kill::Renew);
            }
        }
    }

    fn start_after(&self, child: Arc<dyn Child>, pause: Duration, mailbox: Mailbox) {
        let supervisor = self.supervisor.clone();
        let opened = (mailbox == Mailbox::AtOnce).then(|| child.renew());
        actix_rt::spawn(async move {
            sleep(pause).await;
            if supervisor.arbiters().is_stopping() {
                return;
            }
            // The end of the thread may not have been reported yet.
            supervisor.replace_thread(child.slot());
            counter!(REBUILDS, "actor" => child.node().kind.as_str()).increment(1);
            child.node().rebuilt();
            let start = opened.unwrap_or_else(|| child.renew());
            start(&supervisor.shared.arbiters.handle(child.slot()));
        });
    }
}

/// When the mailbox of the next incarnation is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mailbox {
    AtOnce,
    WhenItStarts,
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
