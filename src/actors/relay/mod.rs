//! RelayActor: publishes the outbox to Kafka. A thin shell: the loop is in [`publisher`], its
//! decisions in [`queue`]; its state is rebuilt from the outbox, and its leases are taken again.

pub mod bodies;
mod leases;
pub mod message;
mod ours;
pub mod publisher;
pub mod queue;
mod spans;

use actix::prelude::*;

pub use publisher::{Publisher, RelayDeps, RelaySettings};
pub use queue::QueueLimits;

use super::arbiters::ArbiterSlot;
use super::supervision::handle::Handle;
use super::supervision::policy::ActorKind;
use super::supervision::supervisor::Supervisor;

pub struct RelayActor {
    deps: RelayDeps,
}

impl Actor for RelayActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.spawn(Publisher::new(self.deps.clone()).run().into_actor(self));
    }
}

impl Supervised for RelayActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Self {
            deps: self.deps.clone(),
        };
    }
}

/// Starts the actor. At shutdown its leases have to be released with
/// [`DeliveryStore::release`](crate::store::ports::delivery::DeliveryStore::release).
pub fn start(supervisor: &Supervisor, deps: RelayDeps) -> Handle<RelayActor> {
    supervisor.child(
        "relay",
        ActorKind::Relay,
        ArbiterSlot::Background,
        move || RelayActor { deps: deps.clone() },
    )
}
