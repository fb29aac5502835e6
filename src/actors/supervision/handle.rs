//! A handle on an actor that stays valid when the actor is rebuilt with another mailbox, and that
//! counts the calls that the actor has not answered.

use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, MailboxError, Message};
use parking_lot::RwLock;

use super::tree::Node;

/// Cheap to clone.
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
    pub(super) fn new(node: Arc<Node>, address: Addr<A>) -> Self {
        let address = RwLock::new(address);
        Self {
            inner: Arc::new(Inner { node, address }),
        }
    }

    /// Sends messages to another mailbox from now on.
    pub(super) fn swap(&self, address: Addr<A>) {
        *self.inner.address.write() = address;
    }

    /// The actor's place in the tree.
    pub fn node(&self) -> &Arc<Node> {
        &self.inner.node
    }

    /// Sends a message and waits for the answer, counted as a call in flight meanwhile. Fails if
    /// the actor dies meanwhile or has failed for good.
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

    /// Sends a message without waiting; the message carries its own way to answer. False if there
    /// is no mailbox: then the message was certainly not handled.
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
