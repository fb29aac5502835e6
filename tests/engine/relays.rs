//! Several relays: what one of them has read while another one published.

use std::time::Duration;

use oms::actors::outbox::Tailer;
use oms::actors::relay::Publisher;
use oms::store::ports::delivery::DeliveryStore;
use oms_testkit::postgres;

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
