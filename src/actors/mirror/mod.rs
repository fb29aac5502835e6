//! MirrorActor: keeps the copy in the store that does not lead, while both are kept. A thin shell:
//! what it does is in [`copier`]; its state is rebuilt by asking the copy where it ends.

pub mod copier;
pub mod throttle;

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::watch;

pub use copier::Copier;
pub use throttle::Throttle;

use super::arbiters::ArbiterSlot;
use super::mirror_progress::Mirrors;
use super::supervision::handle::Handle;
use super::supervision::policy::ActorKind;
use super::supervision::supervisor::Supervisor;
use crate::migration::partition_state::PartitionStates;
use crate::store::halts::Halts;
use crate::store::log::log_heads::LogHeads;
use crate::store::log::log_reader::LogReader;

#[derive(Clone)]
pub struct MirrorDeps {
    /// The log in both stores.
    pub log: Arc<LogReader>,
    /// How far the log is known to reach.
    pub heads: Arc<LogHeads>,
    /// The stages, which say which way to copy.
    pub stages: watch::Receiver<PartitionStates>,
    /// Where the progress of the copies is published.
    pub mirrors: Arc<Mirrors>,
    pub throttle: Arc<Throttle>,
    /// Where it reports that a copy does not go on.
    pub halts: Halts,
}

pub struct MirrorActor {
    deps: MirrorDeps,
}

impl Actor for MirrorActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        for partition in self.deps.log.partition_ids() {
            let copier = Copier::new(self.deps.clone(), partition);
            context.spawn(copier.run().into_actor(self));
        }
    }
}

impl Supervised for MirrorActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Self {
            deps: self.deps.clone(),
        };
    }
}

pub fn start(supervisor: &Supervisor, deps: MirrorDeps) -> Handle<MirrorActor> {
    supervisor.child(
        "mirror",
        ActorKind::Mirror,
        ArbiterSlot::Background,
        move || MirrorActor { deps: deps.clone() },
    )
}
