//! The supervision tree as data: the state and history of every guarded actor, and the orders to
//! kill it. The guards write it; HTTP and metrics read it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use actix_rt::ArbiterHandle;
use futures_util::task::AtomicWaker;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::condition::{Activity, Stuck};
use super::policy::ActorKind;

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// Handling messages.
    Running,
    /// Waiting to be restarted.
    Backoff,
    /// Ended in order.
    Stopped,
    /// Failed beyond its limit.
    Escalated,
    /// Alive but not working, as the watchdog finds: see `stuck`.
    Stuck,
}

/// Why an actor was restarted.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ActorFailure)]
pub struct Failure {
    /// `panic`, `killed`, `stopped`, `stuck` or `lost` (its task or its thread ended).
    pub cause: &'static str,
    /// The panic's message, or who killed it.
    pub message: String,
    /// When it failed.
    pub at: Timestamp,
}

/// How to kill an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KillHow {
    /// As if it had panicked.
    Panic,
    /// As if it had stopped of its own accord.
    Stop,
    /// Not polled for a while, as if it were stuck.
    Hang,
    /// Its task is aborted at any await; its mailbox is lost.
    Abort,
    /// Its thread ends, and with it all actors on it.
    Arbiter,
}

/// Where an actor runs.
#[derive(Debug)]
struct Seat {
    task: AbortHandle,
    thread: ArbiterHandle,
}

#[derive(Debug)]
struct Status {
    state: ActorState,
    restarts: u64,
    rebuilds: u64,
    last_failure: Option<Failure>,
    stuck: Option<Stuck>,
    escalated_since: Option<Instant>,
}

impl Status {
    fn shown(&self) -> ActorState {
        match (self.state, self.stuck) {
            (ActorState::Running, Some(_)) => ActorState::Stuck,
            (state, _) => state,
        }
    }
}

#[derive(Debug)]
pub struct Node {
    /// Its path in the tree, for example `event_store/2`.
    pub path: String,
    pub kind: ActorKind,
    status: Mutex<Status>,
    kill: Mutex<Option<Kill>>,
    seat: Mutex<Option<Seat>>,
    ending: AtomicBool,
    waker: AtomicWaker,
    polls: AtomicU64,
    activity: Mutex<Activity>,
    calls: AtomicU32,
    wait_us: AtomicU64,
}

/// A kill order for the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kill {
    /// As if it had panicked.
    Panic,
    /// As if it had stopped of its own accord.
    Stop,
    /// Do not poll it for a while.
    Hang,
    /// The watchdog found it stuck.
    Stuck,
    /// An actor that it depends on was rebuilt.
    Renew,
}

/// A call that the actor has not answered; ends when dropped.
#[derive(Debug)]
pub struct CallInFlight(Arc<Node>);

impl Drop for CallInFlight {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    /// A node whose actor is about to start.
    pub fn new(path: String, kind: ActorKind) -> Self {
        Self {
            path,
            kind,
            status: Mutex::new(Status {
                state: ActorState::Running,
                restarts: 0,
                rebuilds: 0,
                last_failure: None,
                stuck: None,
                escalated_since: None,
            }),
            kill: Mutex::new(None),
            seat: Mutex::new(None),
            ending: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            polls: AtomicU64::new(0),
            activity: Mutex::default(),
            calls: AtomicU32::new(0),
            wait_us: AtomicU64::new(0),
        }
    }

    /// Kills the actor, whatever it is waiting for: by its guard, or by ending its task or thread.
    /// False when it is not running.
    pub fn kill(&self, how: KillHow) -> bool {
        let seat = self.seat.lock();
        let Some(seat) = &*seat else {
            return false;
        };
        match how {
            KillHow::Panic => self.order(Kill::Panic),
            KillHow::Stop => self.order(Kill::Stop),
            KillHow::Hang => self.order(Kill::Hang),
            KillHow::Abort => seat.task.abort(),
            KillHow::Arbiter => return seat.thread.stop(),
        }
        true
    }

    pub(super) fn order(&self, kill: Kill) {
        *self.kill.lock() = Some(kill);
        self.waker.wake();
    }

    /// Records the task and the thread in which the actor runs.
    pub(super) fn seated(&self, task: AbortHandle, thread: ArbiterHandle) {
        *self.seat.lock() = Some(Seat { task, thread });
    }

    /// Records that the actor does not run any more.
    pub(super) fn unseated(&self) {
        *self.seat.lock() = None;
    }

    /// Orders the guard to end the actor for good, whatever it is waiting for; at shutdown.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    pub(super) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    pub(super) fn take_kill(&self) -> Option<Kill> {
        self.kill.lock().take()
    }

    pub(super) fn poll_begins(&self, now: Instant) {
        self.polls.fetch_add(1, Ordering::Relaxed);
        *self.activity.lock() = Activity {
            poll_began: Some(now),
            owed: None,
            last_poll: Some(now),
        };
    }

    pub(super) fn poll_ended(&self) {
        self.activity.lock().poll_began = None;
    }

    /// Records that it was woken and is not polled.
    pub(super) fn owes(&self) {
        self.activity.lock().owed.get_or_insert_with(Instant::now);
    }

    /// Records that it need not be polled: it waits to be restarted.
    pub(super) fn owes_nothing(&self) {
        *self.activity.lock() = Activity::default();
    }

    pub(super) fn activity(&self) -> Activity {
        *self.activity.lock()
    }

    /// Records how it is stuck; returns what was recorded before.
    pub(super) fn set_stuck(&self, stuck: Option<Stuck>) -> Option<Stuck> {
        std::mem::replace(&mut self.status.lock().stuck, stuck)
    }

    /// Whether to act on a condition that began at `since`: true once.
    pub(super) fn escalate_once(&self, since: Instant) -> bool {
        let known = &mut self.status.lock().escalated_since;
        known.replace(since) != Some(since)
    }

    /// Begins a call that the actor owes an answer.
    pub fn call(self: &Arc<Self>) -> CallInFlight {
        self.calls.fetch_add(1, Ordering::Relaxed);
        CallInFlight(self.clone())
    }

    /// Number of calls that it has not answered.
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Records how long a message waited in the mailbox.
    pub fn waited(&self, waited: Duration) {
        let sample = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let smooth = self.wait_us.load(Ordering::Relaxed);
        // A sample lost to a race does not matter to an average.
        let next = if smooth == 0 {
            sample
        } else {
            smooth - smooth / 8 + sample / 8
        };
        self.wait_us.store(next, Ordering::Relaxed);
    }

    /// Smoothed time that a message waits in the mailbox.
    pub fn mailbox_wait(&self) -> Duration {
        Duration::from_micros(self.wait_us.load(Ordering::Relaxed))
    }

    pub(super) fn set_state(&self, state: ActorState) {
        self.status.lock().state = state;
    }

    pub(super) fn failed(&self, failure: Failure) {
        let mut status = self.status.lock();
        status.restarts += 1;
        status.state = ActorState::Backoff;
        status.last_failure = Some(failure);
    }

    /// Counts a rebuild.
    pub(super) fn rebuilt(&self) {
        self.status.lock().rebuilds += 1;
    }

    /// How often it was rebuilt with another mailbox.
    pub fn rebuilds(&self) -> u64 {
        self.status.lock().rebuilds
    }

    pub fn restarts(&self) -> u64 {
        self.status.lock().restarts
    }

    pub fn state(&self) -> ActorState {
        self.status.lock().state
    }

    fn shown_state(&self) -> ActorState {
        self.status.lock().shown()
    }

    pub fn view(&self) -> NodeView {
        let status = self.status.lock();
        NodeView {
            path: self.path.clone(),
            name: self.path.rsplit('/').next().unwrap_or_default().to_owned(),
            kind: self.kind.as_str(),
            state: status.shown(),
            stuck: status.stuck,
            restarts: status.restarts,
            rebuilds: status.rebuilds,
            last_failure: status.last_failure.clone(),
            polls: self.polls.load(Ordering::Relaxed),
            calls_in_flight: self.calls(),
            mailbox_wait_ms: self.mailbox_wait().as_secs_f64() * 1e3,
            children: Vec::new(),
            children_omitted: 0,
        }
    }
}

/// An actor and those below it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Actor)]
pub struct NodeView {
    /// Where it stands, for example `event_store/2`.
    pub path: String,
    /// Last part of the path.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// What it is doing.
    pub state: ActorState,
    /// `blocked` (it blocks its thread), `not_run` (woken and not polled) or `waiting` (it owes
    /// answers and has not been polled for long).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub stuck: Option<Stuck>,
    /// How often it failed and was restarted.
    pub restarts: u64,
    /// How often it was rebuilt with another mailbox: because restarts did not help, its task or
    /// thread had ended, or an actor that it depends on was rebuilt.
    pub rebuilds: u64,
    /// Why it was restarted last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub last_failure: Option<Failure>,
    /// How often it was polled; grows while it lives.
    pub polls: u64,
    /// Calls that it has not answered; of a branch: the sum of those below it.
    pub calls_in_flight: u32,
    /// Smoothed time that a message waits in the mailbox, in milliseconds; of a branch: the longest
    /// below it.
    pub mailbox_wait_ms: f64,
    /// Actors below it.
    #[schema(no_recursion)]
    pub children: Vec<NodeView>,
    /// How many actors below it are not in `children`.
    #[serde(skip_serializing_if = "is_zero")]
    pub children_omitted: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// All guarded actors by path.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: Mutex<BTreeMap<String, Arc<Node>>>,
}

impl Tree {
    pub fn add(&self, path: impl Into<String>, kind: ActorKind) -> Arc<Node> {
        let node = Arc::new(Node::new(path.into(), kind));
        self.nodes.lock().insert(node.path.clone(), node.clone());
        node
    }

    /// Removes an actor, unless another one has taken its path.
    pub fn remove(&self, node: &Arc<Node>) {
        let mut nodes = self.nodes.lock();
        if nodes.get(&node.path).is_some_and(|n| Arc::ptr_eq(n, node)) {
            nodes.remove(&node.path);
        }
    }

    pub fn find(&self, path: &str) -> Option<Arc<Node>> {
        self.nodes.lock().get(path).cloned()
    }

    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().values().cloned().collect()
    }

    /// Actors that the process needs and that failed beyond their limit or are stuck.
    pub fn down(&self) -> Vec<String> {
        let nodes = self.nodes.lock();
        let down = nodes.values().filter(|node| {
            let state = node.shown_state();
            node.kind != ActorKind::Aggregate
                && matches!(state, ActorState::Escalated | ActorState::Stuck)
        });
        down.map(|node| node.path.clone()).collect()
    }

    /// The whole tree, with at most `children` actors under each branch.
    pub fn view(&self, children: usize) -> NodeView {
        let mut root = branch("root");
        for node in self.nodes.lock().values() {
            let view = node.view();
            let Some((parent, _)) = view.path.split_once('/') else {
                root.children.push(view);
                continue;
            };
            if root.children.last().is_none_or(|last| last.path != parent) {
                root.children.push(branch(parent));
            }
            if let Some(last) = root.children.last_mut() {
                last.restarts += view.restarts;
                last.rebuilds += view.rebuilds;
                last.polls += view.polls;
                last.calls_in_flight += view.calls_in_flight;
                last.mailbox_wait_ms = last.mailbox_wait_ms.max(view.mailbox_wait_ms);
                if last.children.len() < children {
                    last.children.push(view);
                } else {
                    last.children_omitted += 1;
                }
            }
        }
        root.restarts = root.children.iter().map(|c| c.restarts).sum();
        root.rebuilds = root.children.iter().map(|c| c.rebuilds).sum();
        root.calls_in_flight = root.children.iter().map(|c| c.calls_in_flight).sum();
        root
    }
}

fn branch(path: &str) -> NodeView {
    NodeView {
        path: path.to_owned(),
        name: path.to_owned(),
        kind: "supervisor",
        state: ActorState::Running,
        stuck: None,
        restarts: 0,
        rebuilds: 0,
        last_failure: None,
        polls: 0,
        calls_in_flight: 0,
        mailbox_wait_ms: 0.0,
        children: Vec::new(),
        children_omitted: 0,
    }
}
