//! The supervision tree as data: every guarded actor's state and history, and the switch that
//! kills it. The guards write, HTTP and metrics read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::task::AtomicWaker;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use super::policy::ActorKind;

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
}

/// Why an actor was restarted.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// `panic`, `killed` or `stopped`.
    pub cause: &'static str,
    /// The panic's message, or who killed it.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// How to kill an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KillHow {
    /// As if it had panicked.
    Panic,
    /// As if it had stopped of its own accord.
    Stop,
    /// It is not run for a while, as if it were stuck.
    Hang,
}

#[derive(Debug)]
struct Status {
    state: ActorState,
    restarts: u64,
    last_failure: Option<Failure>,
}

/// One guarded actor.
#[derive(Debug)]
pub struct Node {
    /// Where it stands in the tree, for example `event_store/2`.
    pub path: String,
    /// What it is.
    pub kind: ActorKind,
    status: Mutex<Status>,
    kill: Mutex<Option<KillHow>>,
    ending: AtomicBool,
    waker: AtomicWaker,
    polls: AtomicU64,
}

impl Node {
    /// A node that is about to run.
    pub fn new(path: String, kind: ActorKind) -> Self {
        Self {
            path,
            kind,
            status: Mutex::new(Status {
                state: ActorState::Running,
                restarts: 0,
                last_failure: None,
            }),
            kill: Mutex::new(None),
            ending: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            polls: AtomicU64::new(0),
        }
    }

    /// Orders the guard to kill the actor; it does so whatever the actor is waiting for.
    pub fn kill(&self, how: KillHow) {
        *self.kill.lock() = Some(how);
        self.waker.wake();
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

    pub(super) fn take_kill(&self) -> Option<KillHow> {
        self.kill.lock().take()
    }

    pub(super) fn polled(&self) {
        self.polls.fetch_add(1, Ordering::Relaxed);
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

    /// How often it was restarted.
    pub fn restarts(&self) -> u64 {
        self.status.lock().restarts
    }

    /// What it is doing.
    pub fn state(&self) -> ActorState {
        self.status.lock().state
    }

    /// The node as shown to people.
    pub fn view(&self) -> NodeView {
        let status = self.status.lock();
        NodeView {
            path: self.path.clone(),
            name: self.path.rsplit('/').next().unwrap_or_default().to_owned(),
            kind: self.kind.as_str(),
            state: status.state,
            restarts: status.restarts,
            last_failure: status.last_failure.clone(),
            polls: self.polls.load(Ordering::Relaxed),
            children: Vec::new(),
        }
    }
}

/// A node of the tree as shown to people.
#[derive(Debug, Clone, Serialize)]
pub struct NodeView {
    /// Where it stands.
    pub path: String,
    /// Last part of the path.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// What it is doing.
    pub state: ActorState,
    /// How often it was restarted.
    pub restarts: u64,
    /// Why it was restarted last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
    /// How often it was run; grows while it lives.
    pub polls: u64,
    /// Actors below it.
    pub children: Vec<NodeView>,
}

/// Every guarded actor by path.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: Mutex<BTreeMap<String, Arc<Node>>>,
}

impl Tree {
    /// Puts an actor in.
    pub fn add(&self, path: impl Into<String>, kind: ActorKind) -> Arc<Node> {
        let node = Arc::new(Node::new(path.into(), kind));
        self.nodes.lock().insert(node.path.clone(), node.clone());
        node
    }

    /// Takes an actor out, if it is still this one.
    pub fn remove(&self, node: &Arc<Node>) {
        let mut nodes = self.nodes.lock();
        if nodes.get(&node.path).is_some_and(|n| Arc::ptr_eq(n, node)) {
            nodes.remove(&node.path);
        }
    }

    /// The actor at a path.
    pub fn find(&self, path: &str) -> Option<Arc<Node>> {
        self.nodes.lock().get(path).cloned()
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
                last.polls += view.polls;
                if last.children.len() < children {
                    last.children.push(view);
                }
            }
        }
        root.restarts = root.children.iter().map(|c| c.restarts).sum();
        root
    }
}

fn branch(path: &str) -> NodeView {
    NodeView {
        path: path.to_owned(),
        name: path.to_owned(),
        kind: "supervisor",
        state: ActorState::Running,
        restarts: 0,
        last_failure: None,
        polls: 0,
        children: Vec::new(),
    }
}
