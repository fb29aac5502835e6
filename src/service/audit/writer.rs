//! Writes the queue into the table.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::AuditTrail;
use crate::store::backoff::Backoff;
use crate::store::ports::audit_table::{AuditEntry, AuditTable};

/// Entries written in one transaction at most.
const BATCH: usize = 128;

/// How often counted refusals are checked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often entries that are too old are removed.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What is sent through the queue.
pub(super) enum Message {
    Entry(Box<AuditEntry>),
    /// Answered once everything before it is written.
    Flush(oneshot::Sender<()>),
}

pub struct Writer {
    trail: Arc<AuditTrail>,
    queue: mpsc::Receiver<Message>,
    table: Arc<dyn AuditTable>,
    keep: Duration,
}

impl Writer {
    pub(super) fn new(
        trail: Arc<AuditTrail>,
        queue: mpsc::Receiver<Message>,
        table: Arc<dyn AuditTable>,
        keep: Duration,
    ) -> Self {
        Self {
            trail,
            queue,
            table,
            keep,
        }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let trail = self.trail.clone();
        // Beside the writing, which may wait for PostgreSQL: the log has them meanwhile.
        let settling = async move {
            let mut look = interval(LOOK_EVERY);
            loop {
                look.tick().await;
                trail.settle_refusals();
            }
        };
        tokio::select! {
            () = self.write_all() => {}
            () = settling => {}
        }
    }

    async fn write_all(mut self) {
        let mut prune = interval(PRUNE_EVERY);
        prune.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut messages = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                received = self.queue.recv_many(&mut messages, BATCH) => {
                    if received == 0 {
                        return;
                    }
                    self.write(&mut messages).await;
                }
                _ = prune.tick() => self.prune().await,
            }
        }
    }

    async fn write(&self, messages: &mut Vec<Message>) {
        let mut entries = vec![];
        let mut flushed = vec![];
        for message in messages.drain(..) {
            match message {
                Message::Entry(entry) => entries.push(*entry),
                Message::Flush(done) => flushed.push(done),
            }
        }
        self.append(entries).await;
        for done in flushed {
            // The receiver is gone: nobody waits any more.
            let _ = done.send(());
        }
    }

    /// Retries until PostgreSQL has the entries, or refuses them permanently.
    async fn append(&self, entries: Vec<AuditEntry>) {
        if entries.is_empty() {
            return;
        }
        let mut backoff = Backoff::new(MIN_PAUSE, MAX_PAUSE);
        loop {
            match self.table.append(entries.clone()).await {
                Ok(()) => return,
                Err(error) if error.is_transient() => {
                    if backoff.failures() == 0 {
                        tracing::warn!(%error, "the audit trail is in the log only until PostgreSQL takes it");
                    }
                    sleep(backoff.pause()).await;
                }
                Err(error) => {
                    tracing::error!(%error, entries = entries.len(),
                        "entries of the audit trail are in the log only: PostgreSQL refuses them");
                    for _ in &entries {
                        crate::metrics::audit_lost();
                    }
                    return;
                }
            }
        }
    }

    async fn prune(&self) {
        match self.table.prune(self.keep).await {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(
                    removed,
                    "entries of the audit trail were older than audit.keep"
                );
            }
            // Tried again in an hour.
            Err(error) => tracing::debug!(%error, "old entries of the audit trail stay for now"),
        }
    }
}
