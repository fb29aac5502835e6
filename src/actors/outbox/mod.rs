//! OutboxActor: keeps the outbox in PostgreSQL, from which the relay sends to Kafka. A thin shell:
//! the work is in [`tailer`]; its state is rebuilt from the watermarks.

pub mod tailer;

use actix::prelude::*;

pub use tailer::{OutboxDeps, Tailer};

use super::arbiters::ArbiterSlot;
use super::supervision::handle::Handle;
use super::supervision::policy::ActorKind;
use super::supervision::supervisor::Supervisor;

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

pub fn start(supervisor: &Supervisor, deps: OutboxDeps) -> Handle<OutboxActor> {
    supervisor.child(
        "outbox",
        ActorKind::Outbox,
        ArbiterSlot::Background,
        move || OutboxActor { deps: deps.clone() },
    )
}
