//! Outboxes that are not of this log: another bucket's, a log's that has lost its end, an older one
//! from a backup, one of the build before. Delivered at least once, never skipped, and never as if
//! they were this log's.

use std::collections::BTreeMap;

use oms::domain::ids::{Offset, PartitionId};
use oms::log::keys;
use oms::store::log::delivery_watermarks;
use oms::store::ports::delivery::DeliveryStore;
use oms::store::ports::object_store::ObjectStore;
use oms_testkit::eventually;
use oms_testkit::postgres::{self, execute};

use crate::world::{PARTITIONS, TOPIC, World, orders};

impl World {
    async fn write(&self, rounds: usize, what: &str) {
        for i in 0..rounds {
            self.log.append(&orders(12), &format!("{what} {i}")).await;
        }
    }

    fn alarms(&self) -> Vec<&'static str> {
        let alarms = self.log.log.alarms().all();
        alarms.into_iter().map(|alarm| alarm.code).collect()
    }

    async fn watermarks(&self) -> BTreeMap<PartitionId, Offset> {
        let marks = self.outbox.watermarks().await.expect("watermarks");
        marks.into_iter().map(|(p, mark)| (p, mark.next)).collect()
    }

    fn heads(&self) -> BTreeMap<PartitionId, Offset> {
        let head = |p| (PartitionId(p), self.log.heads.next_offset(PartitionId(p)));
        (0..PARTITIONS).map(head).collect()
    }

    /// Everything is in the outbox, and nothing was sent.
    async fn taken_in(&self) {
        let _tailer = self.tail(self.outbox.clone());
        eventually("taken in", || async {
            (self.watermarks().await == self.heads()).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_the_outbox_of_another_bucket_is_not_gone_on_with_and_that_is_named() {
    let settings = postgres::fresh();
    let first = World::new(&settings).await;
    first.write(4, "first").await;
    first.taken_in().await;
    let known = first.watermarks().await;
    // Longer than the first: what looked at lengths alone went on here, and its first events
    // reached nobody.
    let second = World::new(&settings).await;
    second.write(9, "second").await;
    let _running = second.run().await;
    eventually("it is named", || async {
        let all = second.alarms().len() == usize::from(PARTITIONS);
        (all && second.alarms().contains(&"diverged")).then_some(())
    })
    .await;
    second.write(3, "and on").await;
    assert_eq!(second.watermarks().await, known, "nothing is skipped");
    assert_eq!(second.outbox.status().await.expect("status").depth, 4 * 12);
    assert!(
        second.broker.read(TOPIC).await.is_empty(),
        "nothing of it is sent"
    );
    // What docs/OPERATIONS.md says to do.
    execute(
        &settings,
        "DELETE FROM outbox; DELETE FROM outbox_watermarks",
    )
    .await;
    second.delivered().await;
    second.check(&[]).await;
    assert!(second.alarms().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_a_log_that_lost_its_end_is_named_and_not_overtaken_when_it_grows_again() {
    let settings = postgres::fresh();
    let mut world = World::new(&settings).await;
    world.write(5, "before").await;
    world.taken_in().await;
    let known = world.watermarks().await;
    let p = PartitionId(0);
    let last = known[&p] - 1;
    let key = keys::commit(p, last);
    let lost = world.log.objects.get(&key).await.unwrap().unwrap();
    world.log.objects.delete(&key).await.expect("deleted");
    world.log = world.log.reopened().await;
    let running = world.run().await;
    eventually("it is named", || async {
        (world.alarms() == ["log_behind"]).then_some(())
    })
    .await;
    assert_eq!(world.watermarks().await, known);
    drop(running);
    // Put back, it goes on.
    let bucket = world.log.objects.clone();
    bucket.put(&key, lost).await.expect("put");
    world.log = world.log.reopened().await;
    let running = world.run().await;
    world.delivered().await;
    assert!(world.alarms().is_empty());
    drop(running);
    // Lost again, after it was delivered, and written on: the same length, then more.
    bucket.delete(&key).await.expect("deleted");
    world.log = world.log.reopened().await;
    world.write(3, "after").await;
    assert!(world.heads()[&p] > known[&p]);
    let _running = world.run().await;
    eventually("it is named", || async {
        (world.alarms() == ["diverged"]).then_some(())
    })
    .await;
    eventually("the others go on", || async {
        let now = world.watermarks().await;
        let others = (1..PARTITIONS).map(PartitionId);
        let heads = world.heads();
        others.clone().all(|p| now[&p] == heads[&p]).then_some(())
    })
    .await;
    assert_eq!(
        world.watermarks().await[&p],
        known[&p],
        "nothing is skipped"
    );
    // What docs/OPERATIONS.md says to do: it begins where the bucket says that this log was delivered.
    execute(
        &settings,
        "DELETE FROM outbox WHERE partition = 0; DELETE FROM outbox_watermarks WHERE partition = 0",
    )
    .await;
    world.delivered().await;
    let seen: Vec<Vec<u8>> = (world.broker.read(TOPIC).await.into_iter())
        .map(|message| message.value)
        .collect();
    for (stream, version, bytes) in world.log.written().await {
        assert!(
            seen.iter().any(|s| *s == bytes),
            "{stream} version {version}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_an_outbox_from_a_backup_goes_on_and_repeats() {
    let settings = postgres::fresh();
    let world = World::new(&settings).await;
    world.write(3, "before").await;
    let _running = world.run().await;
    world.delivered().await;
    execute(
        &settings,
        "CREATE TABLE backup AS SELECT * FROM outbox_watermarks",
    )
    .await;
    world.write(3, "after").await;
    world.delivered().await;
    // Restored while it runs, with nothing written since.
    execute(
        &settings,
        "UPDATE outbox_watermarks w SET next_offset = b.next_offset, log_id = b.log_id,
                anchored_at = b.anchored_at, sha256 = b.sha256
         FROM backup b WHERE b.partition = w.partition",
    )
    .await;
    eventually("what followed the backup is sent again", || async {
        let sent = world.broker.read(TOPIC).await.len();
        (sent >= 9 * 12).then_some(())
    })
    .await;
    world.delivered().await;
    world.check(&[]).await;
    assert!(world.alarms().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_of_the_build_before_is_taken_for_this_logs_where_the_log_holds_its_commit() {
    let settings = postgres::fresh();
    let world = World::new(&settings).await;
    world.write(3, "before").await;
    world.taken_in().await;
    execute(
        &settings,
        "UPDATE outbox_watermarks SET log_id = NULL, anchored_at = NULL, sha256 = NULL",
    )
    .await;
    world.write(3, "after").await;
    let _running = world.run().await;
    world.delivered().await;
    world.check(&[]).await;
    let marks = world.outbox.watermarks().await.expect("watermarks");
    assert!(marks.values().all(|mark| mark.hash().is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_a_new_outbox_believes_only_a_delivered_watermark_of_its_own_log() {
    let first = World::new(&postgres::fresh()).await;
    first.write(4, "first").await;
    let running = first.run().await;
    first.delivered().await;
    let saved = eventually("written down", || async {
        let saved = delivery_watermarks::load(&*first.log.objects).await.ok()?;
        let next: BTreeMap<_, _> = saved.iter().map(|(p, m)| (*p, m.next)).collect();
        (next == first.heads()).then_some(saved)
    })
    .await;
    drop(running);
    // A bucket that was copied over another one, that document too.
    let second = World::new(&postgres::fresh()).await;
    second.write(6, "second").await;
    delivery_watermarks::save(&*second.log.objects, saved, oms_testkit::now())
        .await
        .expect("saved");
    let _running = second.run().await;
    second.delivered().await;
    second.check(&[]).await;
}
