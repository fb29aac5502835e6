//! When the service stops and in which order: no new requests; requests in flight end; the tailers
//! end; the index is checkpointed; leases are given up; the producer is closed; the threads end.
//! What does not end in time is settled by the next start.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::assembly::Running;
use crate::actors::supervision::tree::{ActorState, Tree};
use crate::http::HttpLimits;

/// How long calls on the I/O runtime may take to end at exit.
pub const IO_PATIENCE: Duration = Duration::from_secs(1);

/// How long the audit trail may take to write its last entries to its table; the log has them
/// already.
const AUDIT_PATIENCE: Duration = Duration::from_secs(2);

/// How long the last spans of traces may take to be sent.
pub const TRACES_PATIENCE: Duration = Duration::from_secs(2);

/// How much longer than the server's own limit the step of stopping it may take.
const STEP_MARGIN: Duration = Duration::from_secs(1);

/// How often to check whether actors that were told to end have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Stops everything in order; each step gets `patience`, requests in flight what the server allows.
pub async fn in_order(
    running: Running,
    limits: Arc<HttpLimits>,
    http: ServerHandle,
    serving: JoinHandle<io::Result<()>>,
    patience: Duration,
) {
    limits.close_streams();
    let requests = patience.max(limits.settings.shutdown_timeout + STEP_MARGIN);
    drop(limits);
    step("requests in flight", requests, async {
        http.stop(true).await;
        if let Ok(Err(error)) = serving.await {
            tracing::error!(%error, "the HTTP server ended with an error");
        }
    })
    .await;
    let Running {
        service,
        delivery,
        audit,
        kafka,
        supervisor,
        node,
        housekeeping,
        store,
    } = running;
    if !audit.flush(patience.min(AUDIT_PATIENCE)).await {
        tracing::warn!(
            "the end of the audit trail is in the log only: PostgreSQL does not take it"
        );
    }
    for task in housekeeping {
        task.abort();
    }
    // They may be stopped at any point: the next process settles what they did.
    step(
        "tailers",
        patience,
        end_actors(supervisor.tree(), &["relay", "outbox", "projection"]),
    )
    .await;
    step("checkpoints", patience, store.save_checkpoints()).await;
    step("leases", patience, async {
        if let Err(error) = delivery.release(&node).await {
            tracing::warn!(%error, "leases are left to expire");
        }
    })
    .await;
    step("producer", patience, kafka.close()).await;
    drop((service, store));
    step("threads", patience, async {
        // A plain thread that is not joined: one that its actor blocks ends with the process.
        let (ended, has_ended) = oneshot::channel();
        std::thread::spawn(move || {
            // Actors are ended one by one first: those that end with their thread would be reported
            // as lost.
            for node in supervisor.tree().nodes() {
                node.end();
            }
            supervisor.arbiters().stop();
            let _ = ended.send(());
        });
        if has_ended.await.is_err() {
            tracing::error!("the threads were not ended");
        }
    })
    .await;
}

async fn end_actors(tree: &Tree, paths: &[&str]) {
    let nodes: Vec<_> = paths.iter().filter_map(|path| tree.find(path)).collect();
    for node in &nodes {
        node.end();
    }
    while nodes.iter().any(|n| n.state() == ActorState::Running) {
        sleep(LOOK_AGAIN).await;
    }
}

async fn step(what: &'static str, patience: Duration, work: impl Future<Output = ()>) {
    if timeout(patience, work).await.is_err() {
        tracing::warn!(what, "did not end in time");
    }
}
