//! When the service stops and in which order: no new requests; requests in flight end; the tailers
//! end; the index is checkpointed; leases are given up; the producer is closed; the threads end.
//! What does not end in time is settled by the next start.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::assembly::Running;
use crate::actors::supervision::policy::EXIT_ESCALATED;
use crate::actors::supervision::supervisor::EndProcess;
use crate::actors::supervision::tree::{ActorState, Tree};
use crate::http::HttpLimits;

/// How long calls on the I/O runtime may take to end at exit.
pub const IO_PATIENCE: Duration = Duration::from_secs(1);

/// How long one step of an orderly shutdown may take.
const STEP_PATIENCE: Duration = Duration::from_secs(10);

/// How long the audit trail may take to write its last entries to its table; the log has them
/// already.
const AUDIT_PATIENCE: Duration = Duration::from_secs(2);

/// How long the last spans of traces may take to be sent.
pub const TRACES_PATIENCE: Duration = Duration::from_secs(2);

/// How much longer than the server's own limit the step of stopping it may take.
const STEP_MARGIN: Duration = Duration::from_secs(1);

/// How often to check whether actors that were told to end have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// [`STEP_PATIENCE`] after an actor failed beyond its limit: the orchestrator is to restart the
/// process soon.
const ESCALATED_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub enum Ending {
    /// By SIGTERM or SIGINT.
    Asked(&'static str),
    /// An actor failed beyond its limit.
    Escalated(String),
}

impl Ending {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Asked(_) => ExitCode::SUCCESS,
            Self::Escalated(_) => ExitCode::from(EXIT_ESCALATED as u8),
        }
    }

    /// How long each step of stopping may take.
    pub fn patience(&self) -> Duration {
        match self {
            Self::Asked(_) => STEP_PATIENCE,
            Self::Escalated(_) => ESCALATED_PATIENCE,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(signal) => f.write_str(signal),
            Self::Escalated(path) => write!(f, "{path} failed beyond its limit"),
        }
    }
}

/// Where guards report actors that failed beyond their limit.
pub struct Escalations {
    first: watch::Sender<Option<String>>,
}

impl Default for Escalations {
    fn default() -> Self {
        Self {
            first: watch::Sender::new(None),
        }
    }
}

impl Escalations {
    pub fn end_process(&self) -> EndProcess {
        let first = self.first.clone();
        Arc::new(move |node| {
            first.send_if_modified(|known| {
                let is_first = known.is_none();
                if is_first {
                    *known = Some(node.path.clone());
                }
                is_first
            });
        })
    }

    /// Waits for a reason to end.
    pub async fn wait_for_end(&self) -> Ending {
        let mut first = self.first.subscribe();
        let escalated = async {
            match first.wait_for(Option::is_some).await {
                Ok(path) => path.clone().unwrap_or_default(),
                Err(_) => String::new(),
            }
        };
        tokio::select! {
            path = escalated => Ending::Escalated(path),
            () = caught(SignalKind::terminate()) => Ending::Asked("SIGTERM"),
            () = caught(SignalKind::interrupt()) => Ending::Asked("SIGINT"),
        }
    }
}

async fn caught(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(error) => {
            tracing::error!(%error, "cannot listen for a signal");
            std::future::pending::<()>().await;
        }
    }
}

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
