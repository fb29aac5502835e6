//! Shadow reads: a sample of the reads is repeated on both stores, outside the request, and the
//! results are compared. A difference does not change any answer: it is counted, and blocks the
//! next edge.

use std::sync::atomic::{AtomicU64, Ordering};

use super::LogReader;
use crate::error::{StoreError, StoreErrorKind};
use crate::metrics;
use oms_core::domain::ids::PartitionId;
use oms_core::log::index::Location;
use oms_core::log::lead::Lead;
use oms_core::migration::stage::StageKind;

/// One read in so many is repeated.
const ONE_IN: u64 = 50;

/// Events of one read that are compared at most.
const MAX_EVENTS: usize = 100;

/// The results of the comparisons.
#[derive(Debug, Default)]
pub struct Shadow {
    reads: AtomicU64,
    compared: AtomicU64,
    mismatches: AtomicU64,
    told: AtomicU64,
}

impl Shadow {
    /// Whether this read belongs to the sample.
    pub fn is_due(&self) -> bool {
        self.reads
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(ONE_IN)
    }

    /// Reads compared since the process began.
    pub fn compared(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    /// Reads that differed.
    pub fn mismatches(&self) -> u64 {
        self.mismatches.load(Ordering::Relaxed)
    }

    /// Reads that differed since the last call.
    pub fn take_new_mismatches(&self) -> u64 {
        let all = self.mismatches();
        all.saturating_sub(self.told.swap(all, Ordering::Relaxed))
    }
}

impl LogReader {
    /// The results of the shadow reads.
    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// Whether the events at these locations are in both stores, so that they can be compared.
    pub fn is_in_both(&self, partition: PartitionId, places: &[Location]) -> bool {
        let dual = matches!(
            self.routes.stage(partition),
            Some(StageKind::DualWritePostgres | StageKind::DualWriteS3)
        );
        let mirrored = self.routes.mirrored(partition);
        dual && places.iter().all(|at| at.offset < mirrored)
    }

    /// Reads the events from both stores and compares them.
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
            // An unavailable store proves nothing; damage or a gap does.
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
