//! The audit trail: every administrator's request and every refused caller, in the log at once and
//! in PostgreSQL as soon as it accepts them.
//!
//! Nothing waits for PostgreSQL: entries that it has not accepted yet are queued, [`QUEUE`] entries
//! at most. Beyond that entries are in the log only, and counted.
//!
//! * [`refusals`]: repeated refusals are counted instead of recorded one by one
//! * [`writer`]: writes the queue into the table

pub mod refusals;
pub mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use self::refusals::Refusals;
use self::writer::{Message, Writer};
use crate::clock::new_uuid;
use crate::domain::time::Clock;
use crate::metrics;
use crate::store::ports::audit_table::{AuditEntry, AuditKind, AuditTable};

pub use crate::store::ports::audit_table::AuditFilter;

/// Entries that wait for PostgreSQL at most: a few megabytes, hours of an operator's work.
const QUEUE: usize = 2_048;

/// Bytes of a request's body that are kept. Administrators' requests are short; longer ones were
/// refused.
pub const MAX_BODY: usize = 2_048;

/// Longest path that is kept, in bytes.
const MAX_ACTION: usize = 512;

/// An answered request that has to be recorded.
#[derive(Debug, Clone)]
pub struct Answered<'a> {
    pub kind: AuditKind,
    pub principal: Option<&'a str>,
    /// The client's address.
    pub address: Option<String>,
    pub method: &'a str,
    pub path: &'a str,
    /// Template of the route, of which there is a limited number.
    pub route: &'static str,
    /// Body of the request.
    pub body: Option<&'a [u8]>,
    pub status: u16,
    pub code: Option<&'static str>,
    pub request_id: &'a str,
}

/// Queues entries. Never blocks and never fails.
pub struct AuditTrail {
    node: String,
    clock: Arc<dyn Clock>,
    refusals: Mutex<Refusals>,
    queue: mpsc::Sender<Message>,
}

impl AuditTrail {
    /// A trail, and the writer of its entries into `table`; entries older than `keep` are removed.
    pub fn new(
        node: String,
        clock: Arc<dyn Clock>,
        table: Arc<dyn AuditTable>,
        keep: Duration,
    ) -> (Arc<Self>, Writer) {
        let (queue, taken) = mpsc::channel(QUEUE);
        let trail = Arc::new(Self {
            node,
            clock,
            refusals: Mutex::default(),
            queue,
        });
        let writer = Writer::new(trail.clone(), taken, table, keep);
        (trail, writer)
    }

    /// Records a request that was answered.
    pub fn record(&self, answered: &Answered<'_>) {
        let entry = self.entry(answered);
        match answered.kind {
            AuditKind::Command => self.enter(entry),
            AuditKind::Refusal => {
                let noted = self
                    .refusals
                    .lock()
                    .note(entry, answered.route, Instant::now());
                if let Some(entry) = noted {
                    self.enter(entry);
                }
            }
        }
    }

    fn entry(&self, answered: &Answered<'_>) -> AuditEntry {
        let action = format!("{} {}", answered.method, answered.path);
        AuditEntry {
            id: new_uuid(),
            time: self.clock.now(),
            node: self.node.clone(),
            kind: answered.kind,
            principal: answered.principal.map(str::to_owned),
            address: answered.address.clone(),
            action: cut(action, MAX_ACTION),
            body: answered.body.map(readable),
            status: answered.status,
            code: answered.code.map(str::to_owned),
            request_id: answered.request_id.to_owned(),
            times: 1,
        }
    }

    /// Turns counts that have waited long enough into entries.
    fn settle_refusals(&self) {
        let due = self.refusals.lock().due(Instant::now());
        self.enter_counted(due);
    }

    fn enter_counted(&self, entries: Vec<AuditEntry>) {
        for mut entry in entries {
            entry.id = new_uuid();
            entry.time = self.clock.now();
            self.enter(entry);
        }
    }

    fn enter(&self, entry: AuditEntry) {
        log(&entry);
        metrics::audited(entry.kind.as_str());
        if self
            .queue
            .try_send(Message::Entry(Box::new(entry)))
            .is_err()
        {
            metrics::audit_lost();
        }
    }

    /// Waits until everything recorded so far, what is only counted too, is in the table, at most
    /// `patience`; returns whether it is.
    pub async fn flush(&self, patience: Duration) -> bool {
        let counted = self.refusals.lock().all(Instant::now());
        self.enter_counted(counted);
        let (done, is_done) = oneshot::channel();
        let flushed =
            async { self.queue.send(Message::Flush(done)).await.is_ok() && is_done.await.is_ok() };
        timeout(patience, flushed).await.unwrap_or(false)
    }
}

impl fmt::Debug for AuditTrail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditTrail").finish_non_exhaustive()
    }
}

/// Writes the entry to the log as well: the table may be lost, and log collectors have it then.
fn log(entry: &AuditEntry) {
    let principal = entry.principal.as_deref().unwrap_or("nobody known");
    let AuditEntry {
        action,
        status,
        times,
        ..
    } = entry;
    let address = entry.address.as_deref().unwrap_or_default();
    let code = entry.code.as_deref().unwrap_or_default();
    let body = entry.body.as_deref().unwrap_or_default();
    let request_id = &entry.request_id;
    match entry.kind {
        AuditKind::Command => tracing::info!(
            audit = "command", principal, address, body, status, code, %request_id,
            "{principal} ordered {action}: {status} {code}"
        ),
        AuditKind::Refusal => tracing::warn!(
            audit = "refusal", principal, address, status, code, times, %request_id,
            "{principal} was refused {action}: {status} {code}, {times} times"
        ),
    }
}

/// Cuts a text at a character boundary.
fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
        text.push('…');
    }
    text
}

/// A body as text that PostgreSQL can store.
fn readable(body: &[u8]) -> String {
    let start = &body[..body.len().min(MAX_BODY)];
    let text = String::from_utf8_lossy(start).replace('\0', "\u{FFFD}");
    if body.len() > MAX_BODY {
        return text + "…";
    }
    text
}

#[cfg(test)]
mod tests;
