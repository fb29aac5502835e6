//! What runs at coarse intervals for as long as the process does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::actors::aggregate::registry::Registry;
use crate::actors::event_store::LogWriter;
use crate::domain::aggregate::Aggregate;
use crate::embedded::space::free_bytes;
use crate::metrics::recent::{EVERY, Recent};
use crate::metrics::{self, Exporter};
use crate::service::Service;
use crate::store::adapters::postgres::Postgres;
use crate::store::disk_space::DiskSpace;
use crate::store::io_runtime::IoRuntime;

/// How often sizes are measured: as often as Prometheus usually looks.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// How often the room on the disk is measured: what a fast disk takes meanwhile is well below the
/// reserve.
const MEASURE_ROOM_EVERY: Duration = Duration::from_millis(500);

/// Measures the room on the disk of `dir` from now on.
pub fn watch_room(io: &IoRuntime, room: Arc<DiskSpace>, dir: PathBuf) -> JoinHandle<()> {
    io.spawn(async move {
        let mut ticks = interval(MEASURE_ROOM_EVERY);
        loop {
            ticks.tick().await;
            let (room, dir) = (room.clone(), dir.clone());
            // A disk that hangs must not hold a thread of everybody's.
            let measured = tokio::task::spawn_blocking(move || measure_room(&room, &dir));
            if let Err(error) = measured.await {
                tracing::error!(%error, "the room on the disk is not measured");
            }
        }
    })
}

/// Measures it once.
pub fn measure_room(room: &DiskSpace, dir: &Path) {
    let free = match free_bytes(dir) {
        Ok(free) => free,
        Err(error) => {
            tracing::warn!(%error, "cannot measure the room on the disk of the data directory");
            return;
        }
    };
    let changed = room.measured(free);
    let reserve = room.status().reserve_bytes;
    metrics::data_dir(free, reserve);
    if changed && room.is_low() {
        tracing::error!(free_bytes = free, reserve_bytes = reserve, dir = %dir.display(),
            "the disk of the data directory is nearly full: commands are refused until there is room");
    } else if changed {
        tracing::info!(
            free_bytes = free,
            "there is room on the disk again: commands are taken"
        );
    }
}

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

/// Lets go of what is kept for a next time that did not come within `idle_after`.
pub fn sweep_caches(io: &IoRuntime, service: Arc<Service>, idle_after: Duration) -> JoinHandle<()> {
    io.spawn(async move {
        let mut ticks = interval(MEASURE_EVERY);
        loop {
            ticks.tick().await;
            service.sweep_caches(idle_after);
        }
    })
}

/// Keeps the last hour of the metrics.
pub fn sample_metrics(io: &IoRuntime, recent: Arc<Recent>, exporter: Exporter) -> JoinHandle<()> {
    io.spawn(async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            recent.sample(&exporter, crate::clock::now().as_millisecond());
        }
    })
}

/// Exports the sizes of the event store and of the pool to PostgreSQL.
pub fn measure_store(io: &IoRuntime, store: LogWriter, postgres: Postgres) -> JoinHandle<()> {
    io.spawn(async move {
        let mut ticks = interval(MEASURE_EVERY);
        loop {
            ticks.tick().await;
            postgres.measure();
            let sizes = store.sizes();
            // The bytes of some partitions would be taken for those of all.
            if store.is_open() {
                let stored = sizes.iter().map(|p| p.stored_bytes).sum();
                metrics::stored_bytes(store.log().bucket(), stored);
            }
            metrics::object_cache(store.log().cached_bytes());
            for p in sizes {
                metrics::partition_gauge(metrics::INDEX_BYTES, p.partition, p.index_bytes as f64);
                metrics::partition_gauge(metrics::KEY_BYTES, p.partition, p.key_bytes as f64);
            }
        }
    })
}
