//! Whether copies are of this log: compares what the log holds at the commit at which a copy
//! stands.

use std::sync::Arc;

use super::{LogReader, corrupt, log_id};
use crate::alarms::Alarms;
use crate::error::{StoreError, StoreErrorKind};
use oms_core::domain::ids::{Offset, PartitionId};
use oms_core::log::identity::{Before, LogId, Mark, Ownership, judge};
use oms_core::log::object::{CommitObject, ObjectHash};

impl LogReader {
    /// The same log, with its id.
    #[must_use]
    pub fn with_id(self, id: LogId) -> Self {
        Self {
            id: Some(id),
            ..self
        }
    }

    /// The same log, opened without its bucket: the first read of the bucket verifies that it is
    /// this log's.
    #[must_use]
    pub fn with_bucket_unread(self) -> Self {
        self.confirmed
            .store(false, std::sync::atomic::Ordering::Release);
        self
    }

    /// The id of the log; `None` if it was opened without the bucket and PostgreSQL has no record
    /// of it.
    pub fn id(&self) -> Option<LogId> {
        self.id
    }

    /// The alarms about its copies.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Fails if the bucket holds another log than the one that was opened without it.
    pub async fn confirm_bucket(&self) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering;
        if self.confirmed.load(Ordering::Acquire) {
            return Ok(());
        }
        let found = log_id(&*self.store).await?;
        if let (Some(found), Some(ours)) = (found, self.id)
            && found != ours
        {
            let message = format!(
                "the bucket holds the log {found}, PostgreSQL that of {ours}: point the service at \
                 the bucket the database belongs to, or give this bucket a schema of its own \
                 (`postgres.schema`)"
            );
            return Err(corrupt("confirm bucket", message));
        }
        self.confirmed.store(found.is_some(), Ordering::Release);
        Ok(())
    }

    /// Whether a copy of a partition is of this log. An error if that cannot be determined now.
    pub async fn judge(
        &self,
        partition: PartitionId,
        mark: &Mark,
    ) -> Result<Ownership, StoreError> {
        let at_end = self.before(partition, mark.next).await?;
        let at_anchor = match mark.anchor {
            Some(anchor) if anchor.at != mark.next => self.before(partition, anchor.at).await?,
            _ => at_end,
        };
        Ok(judge(self.id, mark, at_anchor, at_end))
    }

    /// The commit that the log holds before an offset.
    pub async fn before(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Before, StoreError> {
        let Some(last) = offset.checked_sub(1) else {
            return Ok(Before::Commit(ObjectHash::NONE));
        };
        let damaged = |e: &StoreError| e.kind == StoreErrorKind::Corrupt;
        match self.known(partition, last).await {
            Ok(Some(object)) => Ok(Before::Commit(object.hash())),
            Ok(None) => Ok(Before::Nothing),
            // Its successor has its hash.
            Err(e) if damaged(&e) => match self.known(partition, offset).await {
                Ok(Some(next)) => Ok(Before::Commit(next.header.prev)),
                Ok(None) => Ok(Before::Damaged),
                Err(e) if damaged(&e) => Ok(Before::Damaged),
                Err(e) => Err(e),
            },
            Err(e) => Err(e),
        }
    }

    /// The commit at an offset. An error while the leader is unknown: then no store can tell that
    /// there is none.
    async fn known(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Arc<CommitObject>>, StoreError> {
        if self.routes.stage(partition).is_some() || self.postgres.is_none() {
            // Not from the cache, because the current content is what matters.
            let lead = self.routes.lead(partition);
            let found = self.get_or_fall_back(lead, partition, offset).await?;
            return Ok(found.map(Arc::new));
        }
        if let Some(found) = self.find(partition, offset).await? {
            return Ok(Some(found));
        }
        Err(StoreError::determinate(
            StoreErrorKind::Unavailable,
            "log",
            "look into log",
            format!("it is not known yet who leads partition {partition}"),
        ))
    }
}
