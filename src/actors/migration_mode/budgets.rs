//! The guardrail: while a stage is young, its budgets are checked once a second. When one is
//! exceeded an alert is raised, and, where that is allowed, the partitions are led one edge back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::walk::Walker;
use super::{MigrationModeDeps, SwitchAnswer, SwitchMode, consider, drive};
use crate::metrics;
use crate::migration::guardrail::{Breach, Judgement};
use crate::migration::stage::StageKind;
use crate::migration::switch_order::SwitchOrder;
use crate::store::backoff::Backoff;

const EVERY: Duration = Duration::from_secs(1);

/// Pauses between two attempts to walk back while a gate refuses.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// Checks the budgets, for ever.
pub(super) async fn watch_budgets(deps: Arc<MigrationModeDeps>, walker: Arc<Walker>) {
    let mut ticks = tokio::time::interval(EVERY);
    let mut stages = deps.registry.stages();
    let mut alerted = false;
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut not_before = Instant::now();
    loop {
        ticks.tick().await;
        let found = deps.registry.stages();
        if found != stages {
            stages = found;
            deps.write_stats.begin_anew();
            backoff.reset();
            not_before = Instant::now();
        }
        let shadow = deps.registry.writer().log().shadow();
        deps.write_stats.divergent(shadow.take_new_mismatches());
        let breach = match deps.write_stats.judge() {
            Judgement::Ok => {
                if std::mem::take(&mut alerted) {
                    tracing::info!("within every budget again");
                }
                metrics::guardrail(false);
                continue;
            }
            Judgement::Alert(breach) => {
                if !std::mem::replace(&mut alerted, true) {
                    tracing::warn!(%breach, "a budget of this stage is exceeded");
                }
                metrics::guardrail(true);
                continue;
            }
            Judgement::WalkBack(breach) => breach,
        };
        metrics::guardrail(true);
        // Each refusal is a record in the history: hence the growing pause while a gate is closed.
        if !deps.driving.load(Ordering::Acquire) && Instant::now() >= not_before {
            walk_back(&deps, &walker, breach).await;
            not_before = Instant::now() + backoff.pause();
        }
    }
}

async fn walk_back(deps: &MigrationModeDeps, walker: &Walker, breach: Breach) {
    let Some(stages) = deps.registry.stages() else {
        return;
    };
    // The partitions that are furthest are on trial.
    let furthest = stages.iter().max().copied();
    let back = furthest.and_then(StageKind::previous);
    let (Some(furthest), Some(goal)) = (furthest, back) else {
        return;
    };
    let all = deps.registry.writer().log().partition_ids().zip(&stages);
    let partitions = all
        .filter(|(_, stage)| **stage == furthest)
        .map(|(partition, _)| partition)
        .collect();
    tracing::error!(%breach, %goal, from = %furthest,
        "a budget was exceeded for too long: walking one edge back, to {goal}");
    let order = SwitchOrder {
        partitions: Some(partitions),
        force: true,
        ..SwitchOrder::to(goal, breach.to_string())
    };
    let message = SwitchMode {
        order,
        by: "guardrail".into(),
        automatic: true,
    };
    match consider(deps, message).await {
        Ok(SwitchAnswer::Walking(switch)) => drive(deps, walker, switch).await,
        Ok(SwitchAnswer::Refused { switch, .. }) => tracing::error!(
            switch = %switch.id,
            "the way back cannot be walked: its gates do not hold"
        ),
        Ok(SwitchAnswer::Busy(_)) => {
            tracing::error!("the way back waits: another switch is under way")
        }
        Ok(SwitchAnswer::Planned { .. } | SwitchAnswer::Ended(_)) => {
            tracing::info!("the way back is walked already")
        }
        Err(error) => tracing::error!(%error, "the way back cannot be walked now"),
    }
}
