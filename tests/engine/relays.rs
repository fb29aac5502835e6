//! Several relays: what one of them has read while another one published.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use oms::actors::outbox::Tailer;
use oms::actors::relay::Publisher;
use oms::domain::ids::PartitionId;
use oms::store::adapters::postgres::outbox::PostgresOutbox;
use oms::store::error::StoreError;
use oms::store::ports::delivery::DeliveryStore;
use oms::store::ports::transport::{Message, Outcome, Transport};
use oms_testkit::postgres;
use tokio::time::Instant;

use crate::world::{PARTITIONS, TOPIC, World, orders};

/// A relay is stopped with rows that it has read, another one publishes these and newer ones and
/// ends, and the first wakes and holds its leases again.
#[tokio::test(flavor = "multi_thread")]
async fn law_9_rows_that_were_read_before_another_relay_published_are_not_sent() {
    let world = World::new(&postgres::fresh()).await;
    let tail = async || {
        let mut tailer = Tailer::new(world.outbox_deps(world.outbox.clone()));
        while tailer.round().await.expect("tailed") {}
    };
    let relay = |node: &str| {
        let mut deps = world.relay_deps(world.outbox.clone(), world.broker.settings());
        // Hardly longer than what a wave may take, so that it is soon renewed.
        deps.settings.lease = deps.transport.wave_bound() + Duration::from_secs(2);
        deps.node = node.to_owned();
        Publisher::new(deps)
    };
    let all_published = async |publisher: &mut Publisher| {
        while world.outbox.status().await.expect("status").depth > 0 {
            publisher.step().await.expect("published");
        }
    };
    for round in 0..12 {
        world
            .log
            .append(&orders(20), &format!("round {round}"))
            .await;
    }
    tail().await;
    let mut first = relay("first");
    for _ in 0..3 {
        first.step().await.expect("a step");
    }
    assert!(!world.broker.read(TOPIC).await.is_empty(), "it publishes");
    // Its leases end, as if it were stopped for longer.
    let brief = Duration::from_millis(1);
    let leases = world.outbox.lease("first", PARTITIONS, brief).await;
    assert_eq!(leases.expect("leases").len(), usize::from(PARTITIONS));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut second = relay("second");
    all_published(&mut second).await;
    world.outbox.release("second").await.expect("released");
    let published = world.broker.read(TOPIC).await.len();
    // Its lease would not outlast another wave by now, as far as it knows.
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.log.append(&orders(20), "last").await;
    tail().await;
    all_published(&mut first).await;
    world.check(&[]).await;
    let of_first = world.broker.read(TOPIC).await.len() - published;
    assert_eq!(of_first, 20, "the last ones, and nothing of before");
}

/// A transport whose fence takes so long that the leases end meanwhile and another relay has them.
struct Outrun {
    inner: Arc<dyn Transport>,
    outbox: Arc<PostgresOutbox>,
}

#[async_trait]
impl Transport for Outrun {
    async fn publish(&self, messages: Vec<Message>, until: Instant) -> Vec<Outcome> {
        self.inner.publish(messages, until).await
    }

    async fn fence(&self, partitions: &[PartitionId]) -> Result<u64, StoreError> {
        if !partitions.is_empty() {
            let (brief, long) = (Duration::from_millis(1), Duration::from_secs(600));
            self.outbox.lease("first", PARTITIONS, brief).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let theirs = self.outbox.lease("second", PARTITIONS, long).await?;
            assert_eq!(theirs.len(), usize::from(PARTITIONS), "all are taken over");
        }
        Ok(1)
    }

    async fn declare(&self) -> Result<(), StoreError> {
        self.inner.declare().await
    }

    fn message_max(&self) -> usize {
        self.inner.message_max()
    }

    fn wave_bound(&self) -> Duration {
        self.inner.wave_bound()
    }
}

/// A fence that is set after another relay took over bars that one, so that nobody may publish
/// before the leases were asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn law_9_after_a_fence_nothing_is_sent_before_the_leases_are_confirmed() {
    let world = World::new(&postgres::fresh()).await;
    world.log.append(&orders(20), "once").await;
    let mut tailer = Tailer::new(world.outbox_deps(world.outbox.clone()));
    while tailer.round().await.expect("tailed") {}
    let mut deps = world.relay_deps(world.outbox.clone(), world.broker.settings());
    deps.node = "first".to_owned();
    deps.transport = Arc::new(Outrun {
        inner: deps.transport,
        outbox: world.outbox.clone(),
    });
    let mut first = Publisher::new(deps);
    for _ in 0..5 {
        first.step().await.expect("a step");
    }
    assert!(world.broker.read(TOPIC).await.is_empty(), "it has no lease");
    let waiting = world.outbox.status().await.expect("status").depth;
    assert_eq!(waiting, 20);
}
