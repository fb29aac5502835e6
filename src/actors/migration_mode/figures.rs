//! Measures the figures that the gates need.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::partition_registry::PartitionRegistry;
use crate::actors::mirror_progress::Mirrors;
use crate::clock::new_uuid;
use crate::domain::ids::PartitionId;
use crate::log::lead::Lead;
use crate::log::object::ObjectHash;
use crate::migration::edge::{Direction, Edge, Move};
use crate::migration::gate::Figures;
use crate::store::error::StoreError;
use crate::store::health::Health;
use crate::store::ports::commit_store::CommitStore;
use crate::store::ports::delivery::{DeliveryStatus, DeliveryStore, PartitionDelivery};
use crate::store::ports::object_store::ObjectStore;
use crate::store::probe::{ProbeError, probe};

/// The last full verification that completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Time since it ended.
    pub age: Duration,
    /// Streams that differed.
    pub divergent_streams: u64,
}

#[async_trait]
pub trait Verifications: Send + Sync + 'static {
    async fn last(&self) -> Result<Option<Verified>, StoreError>;
}

/// Sources of the figures.
pub struct FigureDeps {
    /// The bucket, to be probed.
    pub objects: Arc<dyn ObjectStore>,
    /// Success of the calls to S3.
    pub s3_health: Arc<Health>,
    /// How far the relay is.
    pub delivery: Arc<dyn DeliveryStore>,
    /// How far the copies are.
    pub mirrors: Arc<Mirrors>,
    /// Records of verifications.
    pub verifications: Arc<dyn Verifications>,
    /// The period over which the success of writes to S3 is judged.
    pub s3_window: Duration,
}

/// Measures the figures for the gates of `step`, for the partitions that are to walk it. A figure
/// that cannot be measured stays unknown, and its gate fails.
pub async fn measure(
    registry: &PartitionRegistry,
    deps: &FigureDeps,
    step: Move,
    partitions: &[PartitionId],
) -> Figures {
    use Direction::{Backward, Forward};
    let mut figures = Figures::default();
    match (step.edge, step.direction) {
        (Edge::A, Forward) => {
            figures.s3_probe = probed(deps).await;
            figures.same_history = same_history(registry, partitions).await;
        }
        (Edge::B, Forward) => {
            let verified = measured("verification", deps.verifications.last().await).flatten();
            figures.verification_age = verified.map(|v| v.age);
            figures.divergent_streams = verified.map(|v| v.divergent_streams);
            figures.s3_success_share = deps.s3_health.success_share(deps.s3_window);
            figures.shadow_mismatches = Some(registry.writer().log().shadow().mismatches());
            let lag = most_behind(registry, Lead::S3, partitions).await;
            figures.unmirrored = lag;
            // One copier copies history and new writes from the log's beginning on, so the lag
            // covers both.
            figures.backfill_remaining = lag.map(|lag| {
                if partitions.iter().all(|p| deps.mirrors.of(*p).in_step) {
                    0
                } else {
                    lag
                }
            });
        }
        (Edge::C, Forward) => {
            figures.s3_led_for = led_for(registry, partitions);
            figures.fallback_reads = Some(registry.writer().log().fallback_reads());
            let status = measured("relay_lag_s", deps.delivery.status().await);
            figures.relay_lag = status.and_then(|status| {
                let log = registry.writer().log();
                relay_lag(
                    &status.with_heads(registry.writer().heads()),
                    log.partitions(),
                )
            });
        }
        (Edge::B, Backward) => {
            figures.mirror_behind = most_behind(registry, Lead::Postgres, partitions).await;
        }
        (Edge::C | Edge::A, Backward) => {
            let answers = match registry.table() {
                Some(table) => table.rows().await.is_ok(),
                None => false,
            };
            figures.postgres_reachable = Some(answers);
        }
    }
    figures
}

/// Commits that the outbox may lag behind the log while the age of its oldest row still tells how
/// far delivery is: about what is committed in a moment.
const OUTBOX_IN_STEP: u64 = 256;

/// Age of the oldest event that was not delivered. Unknown while the outbox lags behind the log,
/// even if it is empty.
fn relay_lag(status: &DeliveryStatus, partitions: u16) -> Option<Duration> {
    let taken_in = |p: &PartitionDelivery| p.lag.is_some_and(|lag| lag <= OUTBOX_IN_STEP);
    let whole = status.partitions.len() == usize::from(partitions);
    if !whole || !status.partitions.iter().all(taken_in) {
        return None;
    }
    let oldest = status.oldest_seconds.unwrap_or(0.0).max(0.0);
    Some(Duration::try_from_secs_f64(oldest).unwrap_or(Duration::MAX))
}

async fn probed(deps: &FigureDeps) -> Option<bool> {
    match probe(&*deps.objects, new_uuid()).await {
        Ok(()) => Some(true),
        Err(ProbeError::Unfit(what)) => {
            tracing::error!(what, "the bucket cannot be trusted");
            Some(false)
        }
        Err(ProbeError::Store(error)) => {
            tracing::warn!(%error, "S3 does not pass the probe");
            Some(false)
        }
    }
}

/// The figure, or `None` with the reason in the log; its gate then fails.
fn measured<T>(figure: &'static str, outcome: Result<T, StoreError>) -> Option<T> {
    outcome
        .inspect_err(|error| tracing::warn!(figure, %error, "not measured"))
        .ok()
}

/// Whether both stores hold the same object at the last offset that both have: its hash covers all
/// objects before it.
async fn same_history(registry: &PartitionRegistry, partitions: &[PartitionId]) -> Option<bool> {
    let log = registry.writer().log();
    let postgres = log.place(Lead::Postgres)?;
    for partition in partitions {
        let common = async {
            let ends = (
                log.s3().end(*partition, 0).await?,
                postgres.end(*partition, 0).await?,
            );
            let Some(last) = ends.0.min(ends.1).checked_sub(1) else {
                // One of the stores is empty. S3 must not be ahead of what is to be copied into it.
                return Ok::<_, StoreError>(ends.0 == 0 || ends.1 > 0);
            };
            let hash = |o: Option<crate::log::object::CommitObject>| {
                o.map_or(ObjectHash::NONE, |o| o.hash())
            };
            let in_s3 = hash(log.s3().get(*partition, last).await?);
            let in_postgres = hash(postgres.get(*partition, last).await?);
            Ok(in_s3 == in_postgres && ends.0 <= ends.1)
        };
        match common.await {
            Ok(true) => {}
            Ok(false) => return Some(false),
            Err(error) => {
                tracing::warn!(%partition, %error, "the history cannot be compared");
                return None;
            }
        }
    }
    Some(true)
}

/// Commits that `to` lacks, in the partition where that is most.
async fn most_behind(
    registry: &PartitionRegistry,
    to: Lead,
    partitions: &[PartitionId],
) -> Option<u64> {
    let store = registry.writer();
    let place = store.log().place(to)?;
    let mut most = 0;
    for partition in partitions {
        let head = store.heads().next_offset(*partition);
        let hint = store.log().routes().mirrored(*partition).min(head);
        let end = measured("lag", place.end(*partition, hint).await)?;
        most = most.max(head.saturating_sub(end));
    }
    Some(most)
}

/// For how long S3 has led, in the partition where that is shortest. By PostgreSQL's clock at the
/// last read of the rows, because this process's clock may jump.
fn led_for(registry: &PartitionRegistry, partitions: &[PartitionId]) -> Option<Duration> {
    let rows = registry.rows();
    let age = |partition: &PartitionId| {
        let seen = rows.get(partition)?;
        (seen.row.stage.lead() == Lead::S3).then_some(())?;
        seen.held()
    };
    let ages: Option<Vec<Duration>> = partitions.iter().map(age).collect();
    ages?.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_15_an_outbox_that_lacks_the_log_knows_no_lag() {
        let of = |lag: Option<u64>| PartitionDelivery {
            partition: PartitionId(0),
            watermark: 7,
            delivered: 7,
            lag,
            lease_owner: None,
            lease_until: None,
        };
        let status = |partitions: Vec<PartitionDelivery>| DeliveryStatus {
            partitions,
            ..DeliveryStatus::default()
        };
        let empty = status(vec![of(Some(0)), of(Some(3))]);
        assert_eq!(relay_lag(&empty, 2), Some(Duration::ZERO));
        assert_eq!(relay_lag(&empty, 3), None, "a partition was never taken in");
        let behind = status(vec![of(Some(0)), of(Some(OUTBOX_IN_STEP + 1))]);
        assert_eq!(relay_lag(&behind, 2), None);
        assert_eq!(relay_lag(&status(vec![of(None)]), 1), None);
    }
}
