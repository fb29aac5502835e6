//! MigrationModeActor: owns the stage of every partition and publishes it on a watch channel. The
//! channel keeps the last stage, so this actor's death stops switches, never traffic.
//!
//! With S3 leading, the lead and epoch of record are the last control record in the log, so the
//! stage is read from there, and PostgreSQL need not be up.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::watch;

use super::event_store::EventStore;
use super::supervision::guard::{GuardSettings, start_guarded};
use super::write_path::Stages;
use crate::domain::ids::PartitionId;
use crate::metrics;
use crate::migration::lead::Lead;
use crate::migration::stage::{Mode, Stage};

/// What the actor needs.
pub struct MigrationModeDeps {
    /// Where control records are read.
    pub store: EventStore,
    /// Where stages are published.
    pub stages: watch::Sender<Stages>,
}

/// Starts the guarded actor.
pub fn start(
    arbiter: &actix_rt::ArbiterHandle,
    guard: GuardSettings,
    deps: MigrationModeDeps,
) -> Addr<MigrationModeActor> {
    let deps = Arc::new(deps);
    start_guarded(arbiter, guard, move || MigrationModeActor { deps })
}

/// See the module.
pub struct MigrationModeActor {
    deps: Arc<MigrationModeDeps>,
}

impl MigrationModeActor {
    fn publish(&self) {
        let partitions = self.deps.store.log().partitions();
        let found: Stages = (0..partitions)
            .map(|p| stage_of(&self.deps.store, PartitionId(p)))
            .collect();
        self.deps.stages.send_if_modified(|known| {
            if *known == found {
                return false;
            }
            for (stage, p) in found.iter().zip(0u16..) {
                if let Some(stage) = stage {
                    metrics::stage(PartitionId(p), stage);
                }
            }
            tracing::info!(?found, "stages");
            *known = found;
            true
        });
    }
}

/// The stage a partition's control records say. A lead of PostgreSQL belongs to stages that also
/// have a row in PostgreSQL, which this version does not have.
fn stage_of(store: &EventStore, partition: PartitionId) -> Option<Stage> {
    let leadership = store.leadership(partition)?;
    let mode = match leadership.lead {
        Lead::S3 => Mode::S3Only,
        Lead::Postgres => Mode::DualWrite,
    };
    Some(Stage { mode, leadership })
}

impl Actor for MigrationModeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Writers nudge when a partition is open and when a control record arrives. Watched from
        // before the first look, or what happens in between would never be seen.
        let heads = self.deps.store.heads().subscribe();
        let changes = futures_util::stream::unfold(heads, |mut heads| async move {
            heads.changed().await.ok().map(|()| ((), heads))
        });
        ctx.add_stream(changes);
        self.publish();
    }
}

impl StreamHandler<()> for MigrationModeActor {
    fn handle(&mut self, (): (), _: &mut Self::Context) {
        self.publish();
    }

    /// The heads' sender lives as long as the service does; nothing is left to watch after it.
    fn finished(&mut self, _: &mut Self::Context) {}
}

impl Supervised for MigrationModeActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Self {
            deps: self.deps.clone(),
        };
    }
}
