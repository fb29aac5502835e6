//! How callers hold an actor: by a handle that stays good when the actor is rebuilt with another
//! mailbox, and that counts what the actor owes.

use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, MailboxError, Message};
use parking_lot::RwLock;

use super::tree::Node;

/// See the module. Cheap to clone.
pub struct Handle<A: Actor> {
    inner: Arc<Inner<A>>,
}

struct Inner<A: Actor> {
    node: Arc<Node>,
    address: RwLock<Addr<A>>,
}

impl<A: Actor> Clone for Handle<A> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<A: Actor<Context = Context<A>>> Handle<A> {
    /// A handle on the actor at `node`.
    pub(super) fn new(node: Arc<Node>, address: Addr<A>) -> Self {
        let address = RwLock::new(address);
        Self {
            inner: Arc::new(Inner { node, address }),
        }
    }

    /// From now on messages go to another mailbox.
    pub(super) fn swap(&self, address: Addr<A>) {
        *self.inner.address.write() = address;
    }

    /// The actor's place in the tree.
    pub fn node(&self) -> &Arc<Node> {
        &self.inner.node
    }

    /// Sends a message and waits for the answer; until then it counts as a call in flight. An error
    /// when the actor dies meanwhile, or has failed for good.
    pub async fn call<M>(&self, message: M) -> Result<M::Result, MailboxError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let _owed = self.inner.node.call();
        let request = self.inner.address.read().send(message);
        request.await
    }

    /// Leaves a message, which brings its own way to answer. Returns false when there is no mailbox
    /// to leave it in: then it was certainly not taken up.
    pub fn tell<M>(&self, message: M) -> bool
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let address = self.inner.address.read();
        let is_open = address.connected();
        if is_open {
            address.do_send(message);
        }
        is_open
    }
}
