//! The guard: drives an actor's context inside its own future, so that a panic is caught *around*
//! the poll and the mailbox, which lives inside, survives it.
//!
//! ```text
//!             poll panics / kill ordered / stopped without right
//!   Running ────────────────────────────────────────────────────▶ Backoff (not polled:
//!      ▲                                                             │     messages wait)
//!      └───────────── restart(): state rebuilt by the actor ◀────────┘
//!                       beyond the limit: Escalated
//! ```
//!
//! Contract for actors: `restarting()` replaces the whole value; no state lives outside `self`
//! that a panic could tear; `stopped()` and `Drop` never panic; asynchronous set-up happens in
//! `started()` as a waited future, so that no message is handled before the state is rebuilt.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::dev::ContextFut;
use actix::{Actor, Addr, Context, Supervised};
use actix_rt::ArbiterHandle;
use jiff::Timestamp;
use metrics::counter;
use rand::Rng;
use tokio::time::{Instant, Sleep};

use super::policy::{Escalation, Policy};
use super::tree::{ActorState, Failure, Kill, KillHow, Node};
use crate::domain::time::{Clock, SystemClock};
use crate::metrics::{ESCALATIONS, RESTARTS};

/// How long a hung actor is not run.
const HANG: Duration = Duration::from_secs(10);

thread_local! {
    static CURRENT: RefCell<Option<Arc<Node>>> = const { RefCell::new(None) };
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The path of the actor that runs on this thread right now, for the panic hook.
pub fn current_actor() -> Option<String> {
    CURRENT.with(|c| c.try_borrow().ok()?.as_ref().map(|node| node.path.clone()))
}

/// Notes that the message the current actor takes up has waited so long.
pub fn note_wait(waited: std::time::Duration) {
    CURRENT.with(|c| {
        if let Ok(current) = c.try_borrow()
            && let Some(node) = current.as_ref()
        {
            node.waited(waited);
        }
    });
}

/// Remembers where a panic came from; called by the panic hook.
pub fn note_panic(place: String) {
    LAST_PANIC.with(|p| {
        if let Ok(mut last) = p.try_borrow_mut() {
            *last = Some(place);
        }
    });
}

/// Called once, when an actor has failed beyond its limit.
pub type OnEscalation = Arc<dyn Fn(&Node) + Send + Sync>;

/// What a guard needs besides the actor.
#[derive(Clone)]
pub struct GuardSettings {
    /// The actor's place in the tree.
    pub node: Arc<Node>,
    /// How it is restarted.
    pub policy: &'static Policy,
    /// What to do when it fails beyond the limit.
    pub on_escalation: OnEscalation,
}

impl GuardSettings {
    /// Guards `node` by its kind's policy; `end_process` is called when that policy says so.
    pub fn new(node: Arc<Node>, end_process: OnEscalation) -> Self {
        let policy = node.kind.policy();
        let on_escalation: OnEscalation = match policy.escalation {
            Escalation::EndProcess => end_process,
            Escalation::DropEntity => Arc::new(|_| {}),
        };
        Self {
            node,
            policy,
            on_escalation,
        }
    }
}

/// Starts a guarded actor on an arbiter. `make` runs there, so the actor need not be `Send`.
pub fn start_guarded<A>(
    arbiter: &ArbiterHandle,
    settings: GuardSettings,
    make: impl FnOnce() -> A + Send + 'static,
) -> Addr<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    let (sender, receiver) = actix::dev::channel::channel(16);
    arbiter.spawn_fn(move || {
        let context = Context::with_receiver(receiver);
        actix_rt::spawn(Guard::new(context.into_future(make()), settings));
    });
    Addr::new(sender)
}

/// Starts a guarded actor on the arbiter of the caller.
pub fn start_guarded_here<A>(settings: GuardSettings, actor: A) -> Addr<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    let context = Context::new();
    let future = context.into_future(actor);
    let address = future.address();
    actix_rt::spawn(Guard::new(future, settings));
    address
}

enum Phase {
    Running,
    Backoff(Pin<Box<Sleep>>),
    Hung(Pin<Box<Sleep>>),
    Ended,
}

/// See the module.
struct Guard<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    actor: Option<ContextFut<A, Context<A>>>,
    settings: GuardSettings,
    phase: Phase,
    failures: VecDeque<Instant>,
}

impl<A> Unpin for Guard<A> where A: Supervised + Actor<Context = Context<A>> {}

impl<A> Guard<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    fn new(actor: ContextFut<A, Context<A>>, settings: GuardSettings) -> Self {
        Self {
            actor: Some(actor),
            settings,
            phase: Phase::Running,
            failures: VecDeque::new(),
        }
    }

    /// Runs the actor's own code with everything it may throw caught.
    fn contained<T>(
        &mut self,
        run: impl FnOnce(&mut ContextFut<A, Context<A>>) -> T,
    ) -> Result<T, String>
    where
        T: Default,
    {
        let Some(actor) = self.actor.as_mut() else {
            return Ok(T::default());
        };
        CURRENT.with(|c| *c.borrow_mut() = Some(self.settings.node.clone()));
        let outcome = catch_unwind(AssertUnwindSafe(|| run(actor)));
        CURRENT.with(|c| *c.borrow_mut() = None);
        outcome.map_err(|payload| describe(&*payload))
    }

    fn fail(&mut self, cause: &'static str, message: String) {
        let node = &self.settings.node;
        node.owes_nothing();
        let kind = node.kind.as_str();
        tracing::error!(actor = %node.path, cause, %message, "actor failed");
        counter!(RESTARTS, "actor" => kind, "cause" => cause).increment(1);
        node.failed(Failure {
            cause,
            message,
            at: now(),
        });
        let at = Instant::now();
        self.failures.push_back(at);
        while self
            .failures
            .front()
            .is_some_and(|f| at - *f > self.settings.policy.window)
        {
            self.failures.pop_front();
        }
        let failures = self.failures.len();
        if failures > self.settings.policy.max_restarts {
            tracing::error!(actor = %node.path, failures, "failed beyond its limit");
            counter!(ESCALATIONS, "actor" => kind).increment(1);
            self.end(ActorState::Escalated);
            (self.settings.on_escalation)(&self.settings.node);
            return;
        }
        let pause = self.settings.policy.backoff(failures);
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        self.phase = Phase::Backoff(Box::pin(tokio::time::sleep(jittered)));
    }

    /// Carries out an order to kill, if there is one.
    fn obey(&mut self) -> bool {
        match self.settings.node.take_kill() {
            None => return false,
            Some(Kill::Asked(KillHow::Panic)) => {
                self.fail("killed", "killed on request".into());
            }
            Some(Kill::Asked(KillHow::Stop)) => {
                self.fail("stopped", "stopped on request".into());
            }
            Some(Kill::Asked(KillHow::Hang)) => {
                self.phase = Phase::Hung(Box::pin(tokio::time::sleep(HANG)));
            }
            Some(Kill::Stuck) => self.fail("stuck", "found stuck from outside".into()),
        }
        true
    }

    /// Drops the actor; its destructor runs its last hooks, which may throw too.
    fn end(&mut self, state: ActorState) {
        self.phase = Phase::Ended;
        self.settings.node.set_state(state);
        let actor = self.actor.take();
        if catch_unwind(AssertUnwindSafe(move || drop(actor))).is_err() {
            tracing::error!(actor = %self.settings.node.path, "panicked while being dropped");
        }
    }
}

impl<A> Future for Guard<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            this.settings.node.register(cx.waker());
            if this.settings.node.is_ending() && !matches!(this.phase, Phase::Ended) {
                this.end(ActorState::Stopped);
            }
            match &mut this.phase {
                Phase::Ended => return Poll::Ready(()),
                Phase::Backoff(sleep) => {
                    if sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    this.phase = Phase::Running;
                    match this.contained(|actor| actor.restart()) {
                        Ok(true) => this.settings.node.set_state(ActorState::Running),
                        // Nobody holds an address any more.
                        Ok(false) => {
                            if !this.settings.policy.may_stop {
                                tracing::error!(actor = %this.settings.node.path,
                                    "not restarted: nobody holds its address");
                            }
                            this.end(ActorState::Stopped);
                        }
                        Err(message) => this.fail("panic", message),
                    }
                }
                Phase::Hung(sleep) => {
                    if sleep.as_mut().poll(cx).is_ready() {
                        this.phase = Phase::Running;
                    } else if !this.obey() {
                        // Woken for something, and not run: what the watchdog looks for.
                        this.settings.node.owes();
                        return Poll::Pending;
                    }
                }
                Phase::Running => {
                    if this.obey() {
                        continue;
                    }
                    this.settings.node.poll_begins();
                    let polled = this.contained(|actor| Pin::new(actor).poll(cx).is_ready());
                    this.settings.node.poll_ended();
                    match polled {
                        Ok(false) => return Poll::Pending,
                        Ok(true) if this.settings.policy.may_stop => this.end(ActorState::Stopped),
                        Ok(true) => {
                            let connected =
                                this.actor.as_mut().is_some_and(|a| a.ctx().connected());
                            if connected {
                                this.fail("stopped", "stopped without being asked".into());
                            } else {
                                this.end(ActorState::Stopped);
                            }
                        }
                        Err(message) => this.fail("panic", message),
                    }
                }
            }
        }
    }
}

fn now() -> Timestamp {
    SystemClock.now()
}

fn describe(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked without a message".to_owned());
    match LAST_PANIC.with(|p| p.borrow_mut().take()) {
        Some(place) => format!("{text} ({place})"),
        None => text,
    }
}
