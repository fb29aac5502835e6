//! Tasks that run at coarse intervals as long as the process does.

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
use crate::store::halts::{Halts, WRITES};
use crate::store::io_runtime::IoRuntime;

/// How often sizes are measured: about as often as Prometheus scrapes.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// How often free disk space is measured: a fast disk fills much less than the reserve meanwhile.
const MEASURE_ROOM_EVERY: Duration = Duration::from_millis(500);

/// Starts to measure the free space on the disk of `dir`.
pub fn watch_room(io: &IoRuntime, room: Arc<DiskSpace>, dir: PathBuf) -> JoinHandle<()> {
    io.spawn(async move {
        let mut ticks = interval(MEASURE_ROOM_EVERY);
        loop {
            ticks.tick().await;
            let (room, dir) = (room.clone(), dir.clone());
            // On a thread of its own, because a disk may hang.
            let measured = tokio::task::spawn_blocking(move || measure_room(&room, &dir));
            if let Err(error) = measured.await {
                tracing::error!(%error, "the room on the disk is not measured");
            }
        }
    })
}

/// Measures the free space once.
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

/// Releases idle entities, several times within `idle_after`.
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

/// Keeps samples of the metrics for the last hour.
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

/// Exports the sizes of the event store and of the PostgreSQL pool, and where writes fail.
pub fn measure_store(
    io: &IoRuntime,
    store: LogWriter,
    postgres: Postgres,
    halts: Halts,
) -> JoinHandle<()> {
    io.spawn(async move {
        let mut ticks = interval(MEASURE_EVERY);
        loop {
            ticks.tick().await;
            postgres.measure();
            halts.measure(WRITES, &store.refusing());
            let sizes = store.sizes();
            // The sum over some partitions would be taken for the sum over all.
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
