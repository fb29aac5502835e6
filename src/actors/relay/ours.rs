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

/// The delivered watermarks with the hash of their last commit. Partitions whose log does not reach
/// that far are left out.
pub async fn marks(
    log: &LogReader,
    delivered: &BTreeMap<PartitionId, Offset>,
) -> Result<BTreeMap<PartitionId, Mark>, StoreError> {
    let mut marks = BTreeMap::new();
    for (partition, next) in delivered {
        let mark = match log.before(*partition, *next).await? {
            Before::Commit(hash) => Mark::on(log.id(), *next, hash),
            Before::Damaged => Mark::unmarked(*next),
            Before::Nothing => continue,
        };
        marks.insert(*partition, mark);
    }
    Ok(marks)
}
