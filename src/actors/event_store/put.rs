//! Puts a batch and finds out who owns its offset: the I/O between forming a batch and settling it.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep};

use super::waiting::Waiting;
use crate::flaws::{Flaw, flawed, strikes};
use crate::log::batch::{Batch, Owner};
use crate::log::lead::{Lead, Leadership};
use crate::log::object::CommitObject;
use crate::metrics;
use crate::migration::stage::Mode;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::log::log_reader::LogReader;
use crate::store::log::outbox_rows::rows_of;
use crate::store::ports::commit_store::{Appended, CommitStore, LeadingTable};
use crate::store::ports::object_store::Created;
use crate::store::ports::transport::TopicNames;
use crate::store::traces::{Kind, SharedSpan};

/// First pause before the same put is tried again.
const BACKOFF_MIN: Duration = Duration::from_millis(10);

/// Longest pause: a recovered store is noticed within this time.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// What became of an offset.
#[derive(Debug)]
pub enum Outcome {
    /// An object is there.
    Owned(Owner),
    /// The store does not lead, or not with this authority: nothing was written.
    Fenced,
}

/// The deadline passed, or the store refused, before it was known who owns the offset.
#[derive(Debug)]
pub struct Unsettled {
    /// Whether the object may have been written.
    pub may_be_there: bool,
    pub error: StoreError,
}

/// Puts an object into the store that leads.
pub struct Put<'a> {
    pub log: &'a LogReader,
    /// The authority under which it is put; names the store.
    pub authority: Leadership,
    /// The mode, for the outbox rows.
    pub mode: Mode,
    /// The topics' names, for the outbox rows.
    pub topics: &'a TopicNames,
}

/// The span of a batch's put, in the trace of each command that is in it.
pub fn put_span(batch: &Batch<Waiting>, lead: Lead) -> SharedSpan {
    let name = match lead {
        Lead::S3 => "S3 PutObject",
        Lead::Postgres => "PostgreSQL append",
    };
    let waiting = batch.replies().filter_map(|waiting| waiting.trace);
    let mut span = SharedSpan::begin(waiting, Kind::Client, name);
    match lead {
        Lead::S3 => {
            span.set("rpc.system", "aws-api");
            span.set("rpc.service", "S3");
            span.set("rpc.method", "PutObject");
        }
        Lead::Postgres => span.set("db.system.name", "postgresql"),
    }
    let header = &batch.object.header;
    span.set("oms.partition", u64::from(header.partition.0));
    span.set("oms.offset", header.offset);
    span.set("oms.batch.commands", batch.commands());
    span.set("oms.batch.events", batch.object.event_count());
    span.set("oms.batch.bytes", batch.object.bytes.len());
    span
}

/// Says of a put's span what came of it, and ends it.
pub fn ended(mut span: SharedSpan, outcome: &Result<Outcome, Unsettled>) {
    match outcome {
        Ok(Outcome::Owned(Owner::Us)) => {}
        // The object may still be ours: read back after an answer was lost.
        Ok(Outcome::Owned(Owner::Found(_))) => span.set("oms.outcome", "found"),
        Ok(Outcome::Fenced) => span.set("oms.outcome", "fenced"),
        Err(unsettled) => span.fail(unsettled.error.kind.as_str()),
    }
}

enum Attempt {
    Created,
    Exists,
    Fenced,
}

impl Put<'_> {
    /// Puts `object`, again and again with the same bytes, until it is known who owns its offset
    /// (law 4: an indeterminate outcome is settled by asking again and reading back).
    pub async fn find_owner(
        &self,
        object: &Arc<CommitObject>,
        deadline: Instant,
    ) -> Result<Outcome, Unsettled> {
        let (partition, offset) = (object.header.partition, object.header.offset);
        let mut may_be_there = false;
        let mut pause = BACKOFF_MIN;
        loop {
            let error = match self.once(object, &mut may_be_there).await {
                Ok(Some(Outcome::Owned(owner))) => {
                    if may_be_there {
                        metrics::put_settled(&owner, object);
                    }
                    return Ok(Outcome::Owned(owner));
                }
                Ok(Some(fenced)) => return Ok(fenced),
                // Reported as taken, yet not found: another attempt will tell.
                Ok(None) => StoreError::determinate(
                    StoreErrorKind::Conflict,
                    "log",
                    "put-if-absent",
                    format!("partition {partition} offset {offset} is taken but cannot be read"),
                ),
                Err(e) => e,
            };
            // Space is not freed within the deadline: where it is certain that nothing was written,
            // the error is returned at once.
            let hopeless = error.kind == StoreErrorKind::Full && !may_be_there;
            let worth_another = error.is_transient()
                || error.is_indeterminate()
                || error.kind == StoreErrorKind::Conflict;
            let wait = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            if hopeless || !worth_another || Instant::now() + wait >= deadline {
                return Err(Unsettled {
                    may_be_there,
                    error,
                });
            }
            tracing::debug!(%partition, offset, %error, "put is tried again");
            sleep(wait).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    async fn once(
        &self,
        object: &Arc<CommitObject>,
        may_be_there: &mut bool,
    ) -> Result<Option<Outcome>, StoreError> {
        let attempt = match self.attempt(object).await {
            Ok(attempt) => attempt,
            Err(_) if flawed(Flaw::SwallowFailures) => Attempt::Created,
            Err(e) => {
                *may_be_there |= e.is_indeterminate();
                return Err(e);
            }
        };
        match attempt {
            Attempt::Created => return Ok(Some(Outcome::Owned(Owner::Us))),
            // Assumed to be ours until it was read: a proxy may have repeated the request.
            Attempt::Exists => *may_be_there = true,
            // The fence has waited for every write under way: what is not there now never will be.
            Attempt::Fenced if !*may_be_there => return Ok(Some(Outcome::Fenced)),
            Attempt::Fenced => {}
        }
        let (partition, offset) = (object.header.partition, object.header.offset);
        let found = match self.authority.lead {
            Lead::S3 => self.log.s3().get(partition, offset).await?,
            Lead::Postgres => self.table()?.get(partition, offset).await?,
        };
        match (found, attempt) {
            (Some(found), _) => Ok(Some(Outcome::Owned(Owner::Found(found)))),
            (None, Attempt::Fenced) => Ok(Some(Outcome::Fenced)),
            (None, _) => Ok(None),
        }
    }

    async fn attempt(&self, object: &Arc<CommitObject>) -> Result<Attempt, StoreError> {
        if self.authority.lead == Lead::S3 {
            if strikes(Flaw::AcknowledgeUnwritten, 12) {
                return Ok(Attempt::Created);
            }
            if flawed(Flaw::AskPostgres) {
                self.table()?.end(object.header.partition, 0).await?;
            }
            return Ok(match self.log.s3().put(object).await? {
                Created::Yes => Attempt::Created,
                Created::Exists => Attempt::Exists,
            });
        }
        // In `legacy` no bucket holds the object that a reference would point to, and in
        // `dual_write` it may be copied late: the rows carry the events themselves.
        let rows = rows_of(object, self.topics, self.mode, true)?;
        let appended = self.table()?.append(object, &rows, self.authority.epoch);
        Ok(match appended.await? {
            Appended::Created => Attempt::Created,
            Appended::Exists => Attempt::Exists,
            Appended::Fenced(_) => Attempt::Fenced,
            // Formed on a log that goes on elsewhere: it has to be formed again after reading on.
            Appended::Unchained => Attempt::Fenced,
        })
    }

    fn table(&self) -> Result<&Arc<dyn LeadingTable>, StoreError> {
        self.log.postgres().ok_or_else(|| {
            StoreError::determinate(
                StoreErrorKind::Invalid,
                "postgres",
                "append",
                "PostgreSQL leads, but is no place of this log",
            )
        })
    }
}
