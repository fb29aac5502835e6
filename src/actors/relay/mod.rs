//! RelayActor: publishes the outbox to Kafka. A thin shell: the loop is in [`publisher`], its
//! decisions in [`queue`]; its state is rebuilt from the outbox, its leases are retaken.

pub mod bodies;
pub mod message;
pub mod publisher;
pub mod queue;

use actix::prelude::*;
use actix_rt::ArbiterHandle;

pub use publisher::{Publisher, RelayDeps, RelaySettings};
pub use queue::QueueLimits;

use super::supervision::guard::{GuardSettings, start_guarded};

/// See the module.
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

/// Starts the actor on an arbiter; it ends with the arbiter. Whoever ends it for good gives its
/// leases up with [`DeliveryStore::release`](crate::store::delivery::DeliveryStore::release).
pub fn start(
    arbiter: &ArbiterHandle,
    settings: GuardSettings,
    deps: RelayDeps,
) -> Addr<RelayActor> {
    start_guarded(arbiter, settings, move || RelayActor { deps })
}
