//! Why the process ends: asked by a signal, or because an actor failed beyond its limit.

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::actors::supervision::policy::EXIT_ESCALATED;
use crate::actors::supervision::supervisor::EndProcess;

/// How long one step of an orderly shutdown may take.
const STEP_PATIENCE: Duration = Duration::from_secs(10);

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
