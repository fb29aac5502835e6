//! What runs at coarse intervals for as long as the process does.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::actors::aggregate::registry::Registry;
use crate::actors::event_store::EventStore;
use crate::domain::aggregate::Aggregate;
use crate::metrics;
use crate::store::io_runtime::IoRuntime;

/// How often sizes are measured: as often as Prometheus usually looks.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Lets go of idle entities; looks a few times within `idle_after`.
pub fn sweep<A: Aggregate + Unpin>(
    io: &IoRuntime,
    registry: Registry<A>,
    idle_after: Duration,
) -> JoinHandle<()> {
    let every = (idle_after / 4).clamp(Duration::from_millis(100), Duration::from_secs(10));
    io.spawn(async move {
        let mut ticks = interval(every);
        loop {
            ticks.tick().await;
            registry.sweep();
        }
    })
}

/// Exports the sizes of the event store.
pub fn measure_store(io: &IoRuntime, store: EventStore) -> JoinHandle<()> {
    io.spawn(async move {
        let mut ticks = interval(MEASURE_EVERY);
        loop {
            ticks.tick().await;
            let sizes = store.sizes();
            let stored = sizes.iter().map(|p| p.stored_bytes).sum();
            metrics::stored_bytes(store.log().bucket(), stored);
            for p in sizes {
                metrics::partition_gauge(metrics::INDEX_BYTES, p.partition, p.index_bytes as f64);
            }
        }
    })
}
