//! How far the copy lags, whether it gets on or not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use oms::actors::mirror::{Copier, MirrorDeps, Throttle};
use oms::actors::mirror_progress::Mirrors;
use oms::domain::ids::{Epoch, PartitionId};
use oms::log::lead::{Lead, Leadership};
use oms::migration::partition_state::PartitionState;
use oms::migration::stage::{Mode, Stage};
use oms::store::adapters::memory::MemoryObjectStore;
use oms::store::halts::Halts;
use oms::store::log::log_heads::LogHeads;
use oms::store::log::log_objects::LogObjects;
use oms::store::log::log_reader::LogReader;
use oms::store::log::s3_commit_store::S3CommitStore;
use oms::store::ports::commit_store::CommitStore;
use tokio::sync::watch;

use super::World;
use super::chain::Chain;

/// No other test shows the figure of this one.
const P: PartitionId = PartitionId(7);
const PARTITIONS: u16 = 8;

/// What the gauge of the partition says; `None` while it is not there.
fn unmirrored(metrics: &oms::metrics::Exporter) -> Option<f64> {
    let text = metrics.render();
    let name = format!("oms_unmirrored_commits{{partition=\"{P}\"}} ");
    let line = text.lines().find_map(|l| l.strip_prefix(name.as_str()))?;
    Some(line.parse().unwrap())
}

async fn becomes(metrics: &oms::metrics::Exporter, expected: Option<f64>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while unmirrored(metrics) != expected {
        let found = unmirrored(metrics);
        assert!(Instant::now() < deadline, "{found:?} is not {expected:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_3_the_lag_of_a_copy_that_cannot_get_on_is_shown_and_an_unknown_one_is_absent() {
    let metrics = oms::metrics::install().unwrap();
    let world = World::new();
    let bucket = Arc::new(MemoryObjectStore::default());
    // S3 leads and holds four; PostgreSQL begins with another log's first object.
    let s3 = S3CommitStore::new(LogObjects::of(bucket.clone()));
    let mut chain = Chain::new(P);
    s3.put(&chain.control()).await.unwrap();
    for _ in 0..3 {
        s3.put(&chain.events(&["{}"])).await.unwrap();
    }
    world.commits.put(&Chain::new(P).control()).await.unwrap();

    let log = LogReader::new(bucket, "test".into(), PARTITIONS, 1 << 20)
        .with_postgres(Arc::new(world.commits.clone()));
    let heads = Arc::new(LogHeads::new(PARTITIONS));
    let leadership = Leadership {
        lead: Lead::S3,
        epoch: Epoch(1),
    };
    let state = |mode| PartitionState {
        stage: Stage { mode, leadership },
        moving: false,
    };
    let all = |mode| vec![Some(state(mode)); usize::from(PARTITIONS)];
    let (stage, stages) = watch::channel(all(Mode::DualWrite));
    let halts = Halts::new(oms::clock::now);
    let deps = MirrorDeps {
        log: Arc::new(log),
        heads: heads.clone(),
        stages,
        mirrors: Arc::new(Mirrors::new(PARTITIONS)),
        throttle: Arc::new(Throttle::new(0)),
        halts: halts.clone(),
    };
    let copying = tokio::spawn(Copier::new(deps, P).run());
    assert_eq!(
        unmirrored(&metrics),
        None,
        "nobody knows yet where the log ends"
    );

    heads.advance(P, 4);
    becomes(&metrics, Some(3.0)).await;
    heads.advance(P, 5);
    becomes(&metrics, Some(4.0)).await;
    let told = halts.list();
    assert_eq!((told[0].what, told[0].partition), ("copy", Some(P)));

    // Where no copy is kept there is no lag, and nothing that is halted.
    stage.send_replace(all(Mode::S3Only));
    becomes(&metrics, None).await;
    assert_eq!(halts.list(), []);
    copying.abort();
}
