//! Whether PostgreSQL may lead a partition while the bucket has not been read. Its row says that it
//! leads, but so does a row that was restored from before a hand-off, and only the log in the
//! bucket knows better. The row is therefore believed only if by its own account nothing was ever
//! handed over or copied, and this node remembers the same: a row from before the first hand-off
//! looks like one that was never changed.

use std::collections::BTreeMap;

use super::record::{MigrationRow, Step};
use super::stage::StageKind;
use crate::domain::ids::{Epoch, PartitionId};
use crate::log::lead::{Lead, Leadership};

/// What can be known without the bucket.
#[derive(Debug, Clone, Default)]
pub struct UnreadBucket {
    /// Whether the operator allows it (`migration.lead_without_bucket`).
    pub ordered: bool,
    /// The leader of each partition when this node last ran, as it recorded outside both stores.
    pub known_leads: BTreeMap<PartitionId, Leadership>,
}

/// Why PostgreSQL may not lead yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The bucket has been in use, so that it may hold a later hand-off.
    #[error("the bucket was in use, so it may hold a hand-off that this database has not heard of")]
    BucketInUse,
    /// This node remembers nothing of the partition, so the database may be older than the bucket.
    #[error(
        "this node does not remember that PostgreSQL led (it has no note of it in its data \
         directory), and a database restored from before the first hand-off says the same as this \
         one"
    )]
    NothingRemembered,
    /// This node has seen a later leadership.
    #[error(
        "this node has heard that {} leads since epoch {}: the database is older than that",
        .0.lead.as_str(), .0.epoch.0
    )]
    KnownOtherwise(Leadership),
}

impl UnreadBucket {
    /// Checks whether PostgreSQL may lead because of this row.
    pub fn may_lead(&self, partition: PartitionId, row: &MigrationRow) -> Result<(), Unproven> {
        if self.ordered {
            return Ok(());
        }
        let untouched = row.stage == StageKind::Legacy
            && row.step == Step::Steady
            && row.epoch == Epoch(1)
            && row.revision == 0;
        let led = Leadership {
            lead: Lead::Postgres,
            epoch: row.epoch,
        };
        match self.known_leads.get(&partition) {
            Some(known) if *known != led => Err(Unproven::KnownOtherwise(*known)),
            _ if !untouched => Err(Unproven::BucketInUse),
            None => Err(Unproven::NothingRemembered),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::record::Change;

    #[test]
    fn law_14_postgres_leads_on_an_unread_bucket_only_if_that_is_remembered_or_by_order() {
        let p = PartitionId(0);
        let fresh = MigrationRow::new(StageKind::Legacy, Epoch(1));
        let mirrored = fresh.after(Change::MirrorInS3).unwrap();
        let back = mirrored.after(Change::StopMirrorInS3).unwrap();
        let nobody = UnreadBucket::default();
        // It may have been restored from before the first hand-off.
        let forgotten = Err(Unproven::NothingRemembered);
        assert_eq!(nobody.may_lead(p, &fresh), forgotten);
        // The database was restored from before the hand-off that this node took part in.
        let s3 = Leadership {
            lead: Lead::S3,
            epoch: Epoch(2),
        };
        let node = |known| UnreadBucket {
            ordered: false,
            known_leads: BTreeMap::from([(p, known)]),
        };
        for used in [
            mirrored,
            back,
            MigrationRow::new(StageKind::Legacy, Epoch(3)),
        ] {
            let in_use = Err(Unproven::BucketInUse);
            assert_eq!(nobody.may_lead(p, &used), in_use);
            assert_eq!(node(used.leadership()).may_lead(p, &used), in_use);
        }
        let otherwise = Err(Unproven::KnownOtherwise(s3));
        assert_eq!(node(s3).may_lead(p, &fresh), otherwise);
        assert_eq!(node(s3).may_lead(p, &mirrored), otherwise);
        let remembering = node(fresh.leadership());
        assert_eq!(remembering.may_lead(p, &fresh), Ok(()));
        assert_eq!(remembering.may_lead(PartitionId(1), &fresh), forgotten);
        let ordered = UnreadBucket {
            ordered: true,
            ..node(s3)
        };
        assert_eq!(ordered.may_lead(p, &mirrored), Ok(()));
        assert_eq!(ordered.may_lead(p, &fresh), Ok(()));
    }
}
