//! The status of a projection.

use serde::Serialize;

use super::{GenerationState, Generations};
use oms_core::domain::ids::{Offset, PartitionId};

/// Name of the projection behind the queries.
pub const ONTOLOGY: &str = "ontology";

/// The states of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ProjectionState {
    /// It follows the log.
    Live,
    /// It follows the log while a new generation is built beside it.
    Rebuilding,
}

/// The progress of a projection in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PartitionProgress {
    /// The partition.
    pub partition: PartitionId,
    /// The offset after the last commit applied.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub next_offset: Offset,
    /// Commits not applied yet.
    pub lag_commits: u64,
}

/// The progress of a rebuild. Computed from what is stored, so that it survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RebuildProgress {
    /// Commits applied.
    pub done: u64,
    /// Commits in the log.
    pub total: u64,
    /// Commits per second since it began.
    pub rate: f64,
    /// Estimated seconds to the end; not known before the first commit.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub eta_seconds: Option<f64>,
}

/// The status of a projection.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Projection))]
pub struct ProjectionStatus {
    /// Its name.
    pub name: &'static str,
    /// Its state.
    pub state: ProjectionState,
    /// The generation that queries read.
    pub generation: i64,
    /// Its progress by partition.
    pub partitions: Vec<PartitionProgress>,
    /// Commits not applied yet, over all partitions.
    pub lag_commits: u64,
    /// Events that could not be applied and were parked.
    pub parked_events: u64,
    /// The progress of a rebuild, if one is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub rebuild: Option<RebuildProgress>,
}

impl ProjectionStatus {
    /// The status of the ontology's projection; `heads` is how far each partition of the log
    /// reaches.
    pub fn new(generations: &Generations, heads: &[Offset]) -> Self {
        let partitions: Vec<PartitionProgress> = (0..)
            .zip(&generations.live.next)
            .zip(heads)
            .map(|((partition, next), head)| PartitionProgress {
                partition: PartitionId(partition),
                next_offset: *next,
                lag_commits: head.saturating_sub(*next),
            })
            .collect();
        let rebuild = generations.building.as_ref().map(|b| progress(b, heads));
        Self {
            name: ONTOLOGY,
            state: match rebuild {
                Some(_) => ProjectionState::Rebuilding,
                None => ProjectionState::Live,
            },
            generation: generations.live.generation.0,
            lag_commits: partitions.iter().map(|p| p.lag_commits).sum(),
            partitions,
            parked_events: generations.live.parked,
            rebuild,
        }
    }
}

fn progress(building: &GenerationState, heads: &[Offset]) -> RebuildProgress {
    let done: u64 = building.next.iter().sum();
    let pairs = building.next.iter().zip(heads);
    // The known head of the log may be behind the rebuild.
    let total: u64 = pairs.map(|(next, head)| next.max(head)).sum();
    let rate = done as f64 / building.age_seconds.max(0.001);
    RebuildProgress {
        done,
        total,
        rate,
        eta_seconds: (done > 0).then(|| (total - done) as f64 / rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::read_model::Generation;

    #[test]
    fn progress_is_worked_out_from_what_is_stored() {
        let state = |generation, next: [u64; 2]| GenerationState {
            generation: Generation(generation),
            next: next.to_vec(),
            anchors: vec![None; 2],
            parked: 3,
            age_seconds: 10.0,
        };
        let generations = Generations {
            live: state(1, [30, 20]),
            building: Some(state(2, [10, 20])),
        };
        let status = ProjectionStatus::new(&generations, &[31, 10]);
        assert_eq!(status.lag_commits, 1);
        assert_eq!(status.state, ProjectionState::Rebuilding);
        let rebuild = status.rebuild.unwrap();
        assert_eq!((rebuild.done, rebuild.total, rebuild.rate), (30, 51, 3.0));
        assert_eq!(rebuild.eta_seconds, Some(7.0));
    }
}
