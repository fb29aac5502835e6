//! Shadow reads: a sample of the reads is made in both places, off the request's path, and the
//! answers are compared. What differs is never served differently for it: it is counted, and holds
//! up the next edge.

use std::sync::atomic::{AtomicU64, Ordering};

use super::LogReader;
use crate::error::{StoreError, StoreErrorKind};
use crate::metrics;
use oms_core::domain::ids::PartitionId;
use oms_core::log::index::Location;
use oms_core::log::lead::Lead;
use oms_core::migration::stage::StageKind;

/// One read in so many is made twice.
const ONE_IN: u64 = 50;

/// Events of one read that are compared at most.
const MAX_EVENTS: usize = 100;

/// What the comparisons came to.
#[derive(Debug, Default)]
pub struct Shadow {
    reads: AtomicU64,
    compared: AtomicU64,
    mismatches: AtomicU64,
    told: AtomicU64,
}

impl Shadow {
    /// Whether this read is one of the sample.
    pub fn is_due(&self) -> bool {
        self.reads
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(ONE_IN)
    }

    /// Reads compared since the process began.
    pub fn compared(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    /// Those that differed.
    pub fn mismatches(&self) -> u64 {
        self.mismatches.load(Ordering::Relaxed)
    }

    /// Those that differed and were not told of yet.
    pub fn take_new_mismatches(&self) -> u64 {
        let all = self.mismatches();
        all.saturating_sub(self.told.swap(all, Ordering::Relaxed))
    }
}

impl LogReader {
    /// What the shadow reads came to.
    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// Whether events up to these places are in both stores, so that they can be compared.
    pub fn is_in_both(&self, partition: PartitionId, places: &[Location]) -> bool {
        let dual = matches!(
            self.routes.stage(partition),
            Some(StageKind::DualWritePostgres | StageKind::DualWriteS3)
        );
        let mirrored = self.routes.mirrored(partition);
        dual && places.iter().all(|at| at.offset < mirrored)
    }

    /// Reads the events in both places and compares them.
    pub async fn compare(
        &self,
        partition: PartitionId,
        places: &[Location],
    ) -> Result<(), StoreError> {
        let places = &places[..places.len().min(MAX_EVENTS)];
        let (Some(s3), Some(postgres)) = (self.place(Lead::S3), self.place(Lead::Postgres)) else {
            return Ok(());
        };
        let in_s3 = s3.events(partition, places).await;
        let in_postgres = postgres.events(partition, places).await;
        let same = match (in_s3, in_postgres) {
            (Ok(one), Ok(other)) => one == other,
            // A store that cannot be asked says nothing; one that has damage, or a hole, does.
            (Err(e), _) | (_, Err(e))
                if !matches!(e.kind, StoreErrorKind::Corrupt | StoreErrorKind::NotFound) =>
            {
                return Err(e);
            }
            _ => false,
        };
        self.shadow.compared.fetch_add(1, Ordering::Relaxed);
        metrics::shadow_read(same);
        if !same {
            self.shadow.mismatches.fetch_add(1, Ordering::Relaxed);
            let offsets = places.iter().map(|at| at.offset);
            tracing::error!(%partition, from = offsets.clone().min(), to = offsets.max(),
                "the stores differ: run `oms verify`");
        }
        Ok(())
    }
}
