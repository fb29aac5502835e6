//! How fast. Prints figures and asserts only that the work was done: a machine's speed is no law.

use std::sync::Arc;
use std::time::Instant;

use oms::log::object::CommitObject;
use oms::store::ports::commit_store::{Appended, CommitStore};

use super::chain::Chain;
use super::{P0, World};

/// An event of about the size of those of the demo.
fn data() -> String {
    format!(
        r#"{{"name":"thing","text":"{}"}}"#,
        "lorem ipsum ".repeat(20)
    )
}

fn report(what: &str, begun: Instant, objects: &[Arc<CommitObject>]) {
    let seconds = begun.elapsed().as_secs_f64();
    let events: usize = objects.iter().map(|o| o.event_count()).sum();
    let bytes: usize = objects.iter().map(|o| o.bytes.len()).sum();
    println!(
        "{what}: {:.0} objects/s, {:.0} events/s, {:.1} MB/s",
        objects.len() as f64 / seconds,
        events as f64 / seconds,
        bytes as f64 / seconds / 1e6
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn rates() {
    let data = data();
    for (size, count) in [(1, 1_000), (16, 1_000), (256, 200)] {
        let world = World::new();
        let (mut chain, _) = world.led().await;
        let data = vec![data.as_str(); size];
        let objects: Vec<_> = (0..count).map(|_| chain.events(&data)).collect();
        let begun = Instant::now();
        for object in &objects {
            assert_eq!(world.append(object).await, Appended::Created);
        }
        report(&format!("append of {size} events"), begun, &objects);

        let begun = Instant::now();
        let (mut next, end) = (1, chain.next);
        while next < end {
            next += world.commits.span(P0, next, end).await.unwrap().len() as u64;
        }
        report(&format!("span of {size} events"), begun, &objects);

        let begun = Instant::now();
        for object in &objects {
            let got = world.commits.get(P0, object.header.offset).await.unwrap();
            assert!(got.is_some());
        }
        report(&format!("get of {size} events"), begun, &objects);

        let world = World::new();
        world.led().await;
        let mut chain = Chain::new(super::PartitionId(1));
        let objects: Vec<_> = (0..count).map(|_| chain.events(&data)).collect();
        let begun = Instant::now();
        let mut done = 0;
        while done < objects.len() {
            done = world.commits.copy(&objects[done..]).await.unwrap() as usize;
        }
        report(&format!("copy of {size} events"), begun, &objects);
    }
}
