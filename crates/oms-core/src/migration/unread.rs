//! Whether PostgreSQL may lead a partition while the bucket has not been read. Its row says that it
//! leads; a row that was restored from before a hand-off says so too, and only the log in the bucket
//! knows better. So the row alone is believed where nothing was ever handed over or copied, and where
//! what this node has heard before does not contradict it.

use std::collections::BTreeMap;

use super::record::{MigrationRow, Step};
use super::stage::StageKind;
use crate::domain::ids::{Epoch, PartitionId};
use crate::log::lead::{Lead, Leadership};

/// What there is to go by.
#[derive(Debug, Clone, Default)]
pub struct UnreadBucket {
    /// It was ordered (`migration.lead_without_bucket`).
    pub ordered: bool,
    /// Who led when this node ran last, as it noted outside of both stores.
    pub heard: BTreeMap<PartitionId, Leadership>,
}

/// Why PostgreSQL may not lead yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The bucket has been in use: it may hold a later hand-off.
    #[error("the bucket was in use, so it may hold a hand-off that this database has not heard of")]
    BucketInUse,
    /// This node has heard of a later one.
    #[error(
        "this node has heard that {} leads since epoch {}: the database is older than that",
        .0.lead.as_str(), .0.epoch.0
    )]
    HeardOtherwise(Leadership),
}

impl UnreadBucket {
    /// Whether PostgreSQL may lead by this row.
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
        match self.heard.get(&partition) {
            Some(heard) if *heard != led => Err(Unproven::HeardOtherwise(*heard)),
            _ if untouched => Ok(()),
            _ => Err(Unproven::BucketInUse),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::record::Change;

    #[test]
    fn law_14_postgres_leads_on_an_unread_bucket_only_if_that_never_had_a_say_or_by_order() {
        let p = PartitionId(0);
        let fresh = MigrationRow::new(StageKind::Legacy, Epoch(1));
        let mirrored = fresh.after(Change::MirrorInS3).unwrap();
        let back = mirrored.after(Change::StopMirrorInS3).unwrap();
        let nobody = UnreadBucket::default();
        assert_eq!(nobody.may_lead(p, &fresh), Ok(()));
        for used in [
            mirrored,
            back,
            MigrationRow::new(StageKind::Legacy, Epoch(3)),
        ] {
            assert_eq!(nobody.may_lead(p, &used), Err(Unproven::BucketInUse));
        }
        // The database was restored from before the hand-off that this node took part in.
        let s3 = Leadership {
            lead: Lead::S3,
            epoch: Epoch(2),
        };
        let node = |heard| UnreadBucket {
            ordered: false,
            heard: BTreeMap::from([(p, heard)]),
        };
        let otherwise = Err(Unproven::HeardOtherwise(s3));
        assert_eq!(node(s3).may_lead(p, &fresh), otherwise);
        assert_eq!(node(s3).may_lead(p, &mirrored), otherwise);
        assert_eq!(node(fresh.leadership()).may_lead(p, &fresh), Ok(()));
        let ordered = UnreadBucket {
            ordered: true,
            ..node(s3)
        };
        assert_eq!(ordered.may_lead(p, &mirrored), Ok(()));
    }
}
