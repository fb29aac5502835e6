//! Opens a partition: reads what the bucket holds of it, then, once the leader is known, the rest
//! from there.

use std::sync::Arc;

use tokio::time::{Duration, sleep};

use super::writer_deps::WriterDeps;
use crate::log::lead::Lead;
use crate::log::partition::PartitionLog;
use crate::migration::partition_state::PartitionState;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::halts::WRITES;

/// Pause between two attempts to open a partition while the store does not answer.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// Pause between two checks for a log's first object.
const BEGINNING_PAUSE: Duration = Duration::from_millis(10);

/// Opens the partition, retrying for as long as the stores do not answer.
pub async fn open(deps: Arc<WriterDeps>) -> PartitionLog {
    loop {
        match try_open(&deps).await {
            Ok(log) => {
                deps.halts.goes_on(WRITES, Some(deps.shared.id));
                return log;
            }
            Err(error) => {
                deps.halts.failed(WRITES, Some(deps.shared.id), &error);
                tracing::error!(partition = %deps.shared.id, %error, "cannot open the partition yet");
                sleep(REOPEN_PAUSE).await;
            }
        }
    }
}

async fn try_open(deps: &WriterDeps) -> Result<PartitionLog, StoreError> {
    let mut log = match deps.log.open(deps.shared.id, deps.clock.now()).await {
        Ok(log) => {
            // The registry finds out who leads from this.
            *deps.shared.known_leadership.lock() = Some(log.leadership());
            deps.heads.nudge();
            log
        }
        // With PostgreSQL leading the bucket is only a copy: PostgreSQL has everything too.
        Err(e) if e.is_transient() && led_by_postgres(deps) => {
            tracing::warn!(partition = %deps.shared.id, error = %e,
                "the bucket cannot be read: reading the whole partition from PostgreSQL");
            let mut log = PartitionLog::new(deps.shared.id);
            log.commands_mut().tell_time(deps.clock.now());
            log
        }
        Err(e) => return Err(e),
    };
    let state = leader(deps).await?;
    let lead = state.stage.leadership.lead;
    loop {
        deps.log.catch_up(&mut log, lead).await?;
        // The log's beginning may have been announced before its object was there.
        if lead == Lead::Postgres || log.leadership().is_some() {
            return Ok(log);
        }
        sleep(BEGINNING_PAUSE).await;
    }
}

fn led_by_postgres(deps: &WriterDeps) -> bool {
    let state = deps.state();
    state.is_some_and(|s| s.stage.leadership.lead == Lead::Postgres)
}

/// The state of the partition, waiting until it is known.
async fn leader(deps: &WriterDeps) -> Result<PartitionState, StoreError> {
    let at = usize::from(deps.shared.id.0);
    let mut stages = deps.stages.clone();
    let known = stages
        .wait_for(|all| all.get(at).copied().flatten().is_some())
        .await;
    let found = known.ok().and_then(|all| all.get(at).copied().flatten());
    found.ok_or_else(|| {
        StoreError::determinate(
            StoreErrorKind::Closed,
            "log",
            "open partition",
            "the service is shutting down",
        )
    })
}
