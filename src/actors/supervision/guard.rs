//! The guard: drives an actor's context inside its own future, so that a panic is caught *around*
//! the poll and the mailbox, which lives inside, survives it.
//!
//! ```text
//!             poll panics / kill ordered / stopped unasked
//!   Running ────────────────────────────────────────────────────▶ Backoff (not polled:
//!      ▲                                                             │     messages wait)
//!      └───────────── restart(): state rebuilt by the actor ◀────────┘
//!                       beyond the limit: Escalated
//! ```
//!
//! Beyond the limit, and when its task or its thread is ended under it, the actor is gone: whoever
//! started it is told, and decides what follows. Nobody is told who was asked to end.
//!
//! Contract for actors: `restarting()` replaces the whole value; no state lives outside `self`
//! that a panic could tear; `stopped()` and `Drop` never panic; asynchronous set-up happens in
//! `started()` as a waited future, so that no message is handled before the state is rebuilt.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use actix::dev::ContextFut;
use actix::dev::channel::{AddressReceiver, AddressSender};
use actix::{Actor, Addr, Context, Supervised};
use actix_rt::ArbiterHandle;
use metrics::counter;
use rand::Rng;
use tokio::time::{Instant, Sleep};

use super::condition::Gone;
use super::intensity::Intensity;
use super::policy::Policy;
use super::tree::{ActorState, Failure, Kill, Node};
use super::wakes::Wakes;
use crate::clock::SystemClock;
use crate::domain::time::Clock;
use crate::metrics::{ESCALATIONS, RESTARTS};

/// How long [`Kill::Hang`] leaves an actor without being polled.
const HANG: Duration = Duration::from_secs(10);

thread_local! {
    static CURRENT: RefCell<Option<Arc<Node>>> = const { RefCell::new(None) };
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The path of the actor that runs on this thread now, for the panic hook.
pub fn current_actor() -> Option<String> {
    CURRENT.with(|c| c.try_borrow().ok()?.as_ref().map(|node| node.path.clone()))
}

/// Records how long the message that the current actor starts to handle has waited.
pub fn note_wait(waited: std::time::Duration) {
    CURRENT.with(|c| {
        if let Ok(current) = c.try_borrow()
            && let Some(node) = current.as_ref()
        {
            node.waited(waited);
        }
    });
}

/// Records where a panic came from; called by the panic hook.
pub fn note_panic(place: String) {
    LAST_PANIC.with(|p| {
        if let Ok(mut last) = p.try_borrow_mut() {
            *last = Some(place);
        }
    });
}

/// Called once for every guard that ends without being asked to, on any thread: it must not block.
pub type OnGone = Arc<dyn Fn(&Arc<Node>, Gone) + Send + Sync>;

/// What a guard needs besides the actor.
#[derive(Clone)]
pub struct GuardSettings {
    /// The actor's place in the tree; its kind's policy applies.
    pub node: Arc<Node>,
    /// Called when the actor is gone.
    pub on_gone: OnGone,
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
    let (sender, receiver) = mailbox();
    start_on_mailbox(arbiter, settings, receiver, make);
    Addr::new(sender)
}

/// A mailbox for an actor that is yet to start.
pub(super) fn mailbox<A: Actor>() -> (AddressSender<A>, AddressReceiver<A>) {
    // The number is no limit, since addresses can exceed it: callers' permits bound the mailbox.
    actix::dev::channel::channel(16)
}

/// Starts a guarded actor on an arbiter, with a mailbox that may hold messages already.
pub(super) fn start_on_mailbox<A>(
    arbiter: &ArbiterHandle,
    settings: GuardSettings,
    receiver: AddressReceiver<A>,
    make: impl FnOnce() -> A + Send + 'static,
) where
    A: Supervised + Actor<Context = Context<A>>,
{
    let post = Post::new(settings);
    let thread = arbiter.clone();
    // An arbiter that has ended drops the function and the `Post` in it, which reports the loss.
    arbiter.spawn_fn(move || {
        let actor = match catch_unwind(AssertUnwindSafe(make)) {
            Ok(actor) => actor,
            Err(payload) => {
                tracing::error!(actor = %post.settings.node.path, message = describe(&*payload),
                    "cannot be made");
                return;
            }
        };
        let context = Context::with_receiver(receiver);
        run(Guard::new(context.into_future(actor), post), thread);
    });
}

/// Starts a guarded actor on the arbiter of the caller.
#[cfg(test)]
pub(super) fn start_guarded_here<A>(settings: GuardSettings, actor: A) -> Addr<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    let context = Context::new();
    let future = context.into_future(actor);
    let address = future.address();
    let thread = actix_rt::Arbiter::current();
    run(Guard::new(future, Post::new(settings)), thread);
    address
}

fn run<A>(guard: Guard<A>, thread: ArbiterHandle)
where
    A: Supervised + Actor<Context = Context<A>>,
{
    let node = guard.post.settings.node.clone();
    // Kill orders for the previous incarnation are not for this one.
    node.take_kill();
    node.set_state(ActorState::Running);
    let task = actix_rt::spawn(guard);
    node.seated(task.abort_handle(), thread);
}

/// Reports the actor as lost when dropped, unless its end was reported before.
struct Post {
    settings: GuardSettings,
    is_left: bool,
}

impl Post {
    fn new(settings: GuardSettings) -> Self {
        Self {
            settings,
            is_left: false,
        }
    }

    /// The actor ended in order, or its end is reported otherwise.
    fn leave(&mut self) {
        self.is_left = true;
        self.settings.node.unseated();
    }

    fn tell(&self, gone: Gone) {
        (self.settings.on_gone)(&self.settings.node, gone);
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let node = &self.settings.node;
        node.unseated();
        node.owes_nothing();
        if node.is_ending() {
            node.set_state(ActorState::Stopped);
            return;
        }
        note_failure(node, "lost", "its task or its thread has ended".into());
        self.tell(Gone::Lost);
    }
}

fn note_failure(node: &Node, cause: &'static str, message: String) {
    tracing::error!(actor = %node.path, cause, %message, "actor failed");
    counter!(RESTARTS, "actor" => node.kind.as_str(), "cause" => cause).increment(1);
    let at = SystemClock.now();
    node.failed(Failure { cause, message, at });
}

enum Phase {
    Running,
    Backoff(Pin<Box<Sleep>>),
    Hung(Pin<Box<Sleep>>),
    Ended,
}

struct Guard<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    actor: Option<ContextFut<A, Context<A>>>,
    post: Post,
    policy: &'static Policy,
    phase: Phase,
    failures: Intensity,
    wakes: Arc<Wakes>,
    /// Given to the actor instead of its task's waker; made once.
    waker: Waker,
}

impl<A> Unpin for Guard<A> where A: Supervised + Actor<Context = Context<A>> {}

impl<A> Guard<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    fn new(actor: ContextFut<A, Context<A>>, post: Post) -> Self {
        let policy = post.settings.node.kind.policy();
        let wakes = Arc::new(Wakes::default());
        Self {
            actor: Some(actor),
            post,
            policy,
            phase: Phase::Running,
            failures: Intensity::new(policy.max_restarts, policy.window),
            waker: futures_util::task::waker(wakes.clone()),
            wakes,
        }
    }

    fn node(&self) -> &Arc<Node> {
        &self.post.settings.node
    }

    /// Runs the actor's own code and catches whatever it throws.
    fn contained<T>(
        &mut self,
        run: impl FnOnce(&mut ContextFut<A, Context<A>>) -> T,
    ) -> Result<T, String>
    where
        T: Default,
    {
        let node = self.node().clone();
        let Some(actor) = self.actor.as_mut() else {
            return Ok(T::default());
        };
        CURRENT.with(|c| *c.borrow_mut() = Some(node));
        let outcome = catch_unwind(AssertUnwindSafe(|| run(actor)));
        CURRENT.with(|c| *c.borrow_mut() = None);
        outcome.map_err(|payload| describe(&*payload))
    }

    fn fail(&mut self, cause: &'static str, message: String) {
        self.node().owes_nothing();
        note_failure(self.node(), cause, message);
        let Some(failures) = self.failures.note(Instant::now()) else {
            let node = self.node();
            tracing::error!(actor = %node.path, "failed beyond its limit");
            counter!(ESCALATIONS, "actor" => node.kind.as_str()).increment(1);
            self.end(ActorState::Escalated);
            self.post.tell(Gone::Escalated);
            return;
        };
        let pause = self.policy.backoff(failures);
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        self.phase = Phase::Backoff(Box::pin(tokio::time::sleep(jittered)));
    }

    /// Records that the actor is polled, and how long it has waited for that.
    fn begin_poll(&self) {
        let (node, now) = (self.node(), Instant::now());
        let waited = self.wakes.take(now);
        if let Some(waited) = waited.filter(|_| !node.kind.stamps_messages()) {
            node.waited(waited);
        }
        node.poll_begins(now);
    }

    /// Executes a pending kill order; returns whether there was one.
    fn obey(&mut self) -> bool {
        match self.node().take_kill() {
            None => return false,
            Some(Kill::Panic) => self.fail("killed", "killed on request".into()),
            Some(Kill::Stop) => self.fail("stopped", "stopped on request".into()),
            Some(Kill::Hang) => self.phase = Phase::Hung(Box::pin(tokio::time::sleep(HANG))),
            Some(Kill::Stuck) => self.fail("stuck", "found stuck from outside".into()),
            Some(Kill::Renew) => {
                self.end(ActorState::Backoff);
                self.post.tell(Gone::Renewed);
            }
        }
        true
    }

    /// Drops the actor; its destructor runs its last hooks, which may panic too.
    fn end(&mut self, state: ActorState) {
        self.phase = Phase::Ended;
        self.node().owes_nothing();
        self.node().set_state(state);
        self.post.leave();
        self.drop_actor();
    }

    fn drop_actor(&mut self) {
        let actor = self.actor.take();
        if catch_unwind(AssertUnwindSafe(move || drop(actor))).is_err() {
            tracing::error!(actor = %self.node().path, "panicked while being dropped");
        }
    }
}

impl<A> Drop for Guard<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    fn drop(&mut self) {
        // Before the `Post` is dropped: its callback may start the next incarnation at once.
        self.drop_actor();
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
            this.node().register(cx.waker());
            if this.node().is_ending() && !matches!(this.phase, Phase::Ended) {
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
                        Ok(true) => this.node().set_state(ActorState::Running),
                        // No address is left.
                        Ok(false) => {
                            if !this.policy.may_stop {
                                tracing::error!(actor = %this.node().path,
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
                        // Woken but not polled: the watchdog looks for this.
                        this.node().owes();
                        return Poll::Pending;
                    }
                }
                Phase::Running => {
                    if this.obey() {
                        continue;
                    }
                    this.wakes.register(cx.waker());
                    this.begin_poll();
                    let waker = this.waker.clone();
                    let mut noted = TaskContext::from_waker(&waker);
                    let polled =
                        this.contained(|actor| Pin::new(actor).poll(&mut noted).is_ready());
                    this.node().poll_ended();
                    match polled {
                        Ok(false) => return Poll::Pending,
                        Ok(true) if this.policy.may_stop => this.end(ActorState::Stopped),
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
