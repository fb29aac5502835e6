//! The spans of batches that are applied to the read model.

use bytes::Bytes;

use super::gather::Gathered;
use crate::domain::event::trace_of;
use crate::domain::ids::Position;
use crate::store::ports::read_model::Generation;
use crate::store::traces::{self, Kind, SharedSpan};

/// What a batch is applied for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The model that is read from.
    Live,
    /// One that is built again, long after the traces of its events.
    Rebuild,
}

/// The span of a batch, in the trace of each command whose events are in it.
pub fn project_span(gathered: &Gathered, generation: Generation, purpose: Purpose) -> SharedSpan {
    let events: &[(Position, Bytes)] = match purpose {
        Purpose::Live if traces::is_on() => &gathered.events,
        Purpose::Live | Purpose::Rebuild => &[],
    };
    let traced = events.iter().filter_map(|(_, event)| trace_of(event));
    let mut span = SharedSpan::begin(traced, Kind::Internal, "project");
    span.set("oms.generation", generation.0);
    span.set("oms.batch.events", gathered.count);
    span
}
