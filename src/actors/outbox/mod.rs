//! OutboxActor: PostgreSQL's side of the road to Kafka. A thin shell: what it does is in
//! [`tailer`]; its state is rebuilt from the watermarks.

pub mod tailer;

use actix::prelude::*;
use actix_rt::ArbiterHandle;

pub use tailer::{OutboxDeps, Tailer};

use super::supervision::guard::{GuardSettings, start_guarded};

/// See the module.
pub struct OutboxActor {
    deps: OutboxDeps,
}

impl Actor for OutboxActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.spawn(Tailer::new(self.deps.clone()).run().into_actor(self));
    }
}

impl Supervised for OutboxActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Self {
            deps: self.deps.clone(),
        };
    }
}

/// Starts the actor on an arbiter; it ends with the arbiter.
pub fn start(
    arbiter: &ArbiterHandle,
    settings: GuardSettings,
    deps: OutboxDeps,
) -> Addr<OutboxActor> {
    start_guarded(arbiter, settings, move || OutboxActor { deps })
}
