//! A copy is written on only where it is of the same log.

use std::sync::Arc;

use oms::actors::mirror::copier::prove_end;
use oms::log::lead::Lead;
use oms::log::object::CommitObject;
use oms::store::adapters::memory::MemoryObjectStore;
use oms::store::error::StoreErrorKind;
use oms::store::log::log_reader::LogReader;
use oms::store::ports::commit_store::CommitStore as _;

use super::chain::Chain;
use super::{P0, World};

/// A bucket that holds these objects, beside the world's database.
async fn beside(world: &World, objects: &[Arc<CommitObject>]) -> LogReader {
    let bucket = Arc::new(MemoryObjectStore::default());
    let log = LogReader::new(bucket, "test".into(), 1, 0);
    for object in objects {
        log.s3().put(object).await.unwrap();
    }
    log.with_postgres(Arc::new(world.commits.clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_a_copy_that_went_another_way_is_not_written_on() {
    let world = World::new();
    let (mut chain, _) = world.led().await;
    let objects: Vec<_> = (0..6).map(|_| chain.events(&["1"])).collect();
    for object in &objects {
        world.append(object).await;
    }
    let genesis = world.commits_at(0).await;
    let with = |more: &[Arc<CommitObject>]| [std::slice::from_ref(&genesis), more].concat();
    let of_this_log = with(&objects[..3]);
    let log = beside(&world, &of_this_log).await;
    let proved = async |log: &LogReader, to, end| prove_end(log, P0, to, end).await;
    assert!(proved(&log, Lead::S3, 4).await.is_ok());
    assert!(proved(&log, Lead::S3, 0).await.is_ok(), "an empty one");
    // Another bucket, shorter than the log: what looked at its length alone wrote on it.
    let mut other = Chain::new(P0);
    let others = [other.control(), other.events(&["2"])];
    let log = beside(&world, &others).await;
    let error = proved(&log, Lead::S3, 2).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert!(error.message.contains("another commit"), "{error}");
    // And one that reaches further than PostgreSQL, which was restored, knows.
    let more = chain.events(&["3"]);
    let longer = with(&[objects.clone(), vec![more]].concat());
    let log = beside(&world, &longer).await;
    let error = proved(&log, Lead::S3, 8).await.unwrap_err();
    assert!(error.message.contains("acknowledged"), "{error}");
}
