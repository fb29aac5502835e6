//! Chooses among the leased partitions those that may be published: those whose outbox is of this
//! log. The tailer checks and reports the same; the relay checks for itself, because rows may be
//! there before the tailer has looked.

use std::collections::BTreeMap;

use crate::domain::ids::{Offset, PartitionId};
use crate::log::identity::{Before, Mark, Ownership};
use crate::store::error::StoreError;
use crate::store::log::log_reader::LogReader;
use crate::store::ports::delivery::DeliveryStore;

/// Partitions that may be published, with the watermark that was checked.
pub type Ours = BTreeMap<PartitionId, Option<Mark>>;

/// Those of `held` that may be published. A partition that cannot be checked now keeps its result
/// of `before`.
pub async fn of_this_log(
    store: &dyn DeliveryStore,
    log: &LogReader,
    held: &[PartitionId],
    before: &Ours,
) -> Result<Ours, StoreError> {
    let marks = store.watermarks().await?;
    let mut ours = Ours::new();
    for partition in held {
        let known = before.get(partition);
        let mark = marks.get(partition);
        let is_ours = match mark {
            // Without a watermark there are no rows.
            None => true,
            Some(mark) if known == Some(&Some(*mark)) => true,
            Some(mark) => match log.judge(*partition, mark).await {
                Ok(verdict) => matches!(verdict, Ownership::Ours { .. }),
                Err(error) => {
                    tracing::debug!(%partition, %error, "whose the outbox is is asked later");
                    known.is_some()
                }
            },
        };
        if is_ours {
            ours.insert(*partition, mark.copied());
        }
    }
    Ok(ours)
}

/// The delivered watermarks with the hash of their last commit: of one that cannot be read any more there
/// is none that could be compared, so the watermark is that of the commit before it, and what comes after is
/// repeated. Partitions whose log does not reach that far are left out.
pub async fn marks(
    log: &LogReader,
    delivered: &BTreeMap<PartitionId, Offset>,
) -> Result<BTreeMap<PartitionId, Mark>, StoreError> {
    let mut marks = BTreeMap::new();
    for (partition, next) in delivered {
        if let Some(mark) = mark(log, *partition, *next).await? {
            marks.insert(*partition, mark);
        }
    }
    Ok(marks)
}

async fn mark(
    log: &LogReader,
    partition: PartitionId,
    next: Offset,
) -> Result<Option<Mark>, StoreError> {
    let mut at = next;
    loop {
        match log.before(partition, at).await? {
            Before::Commit(hash) => return Ok(Some(Mark::on(log.id(), at, hash))),
            Before::Damaged if at > 0 => at -= 1,
            Before::Damaged | Before::Nothing => return Ok(None),
        }
    }
}
