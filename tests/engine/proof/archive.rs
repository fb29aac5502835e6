//! Retired rows are exported, read back, and only then their tables emptied.

use oms::jobs::archive::ArchiveReport;
use oms::jobs::archive::manifest::Manifest;
use oms::jobs::archive::parquet;
use oms::jobs::runner::JobRefused;
use oms::migration::job::{Job, JobKind, JobState};
use oms::migration::stage::StageKind;
use oms::store::ports::object_store::ObjectStore;
use serde_json::json;

use super::world::World;

const N: u64 = 20;

fn report(job: &Job) -> ArchiveReport {
    assert_eq!(job.state, JobState::Done, "{job:?}");
    serde_json::from_value(job.report.clone().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn retired_rows_are_exported_compared_and_emptied() {
    let world = World::new(N, 3, StageKind::S3Only).await;
    let events = ((N - 1) * 3 * 2) as i64;
    let dry = report(
        &world
            .run(JobKind::Archive, json!({ "dry_run": true }))
            .await,
    );
    assert!(dry.dry_run && !dry.emptied && dry.manifest.is_none());
    assert_eq!((dry.rows, dry.commits), (events as u64, 2 * N));
    let archived = world.objects.list("archive/", None, 1).await.unwrap();
    assert!(archived.is_empty(), "nothing was written");
    let kept = report(
        &world
            .run(JobKind::Archive, json!({ "keep_rows": true }))
            .await,
    );
    assert_eq!((kept.rows, kept.emptied), (events as u64, false));
    assert_eq!(
        (dry.rows, dry.bytes, dry.parts),
        (kept.rows, kept.bytes, kept.parts),
        "what it said is what it came to"
    );
    assert_eq!(world.count("SELECT count(*) FROM events").await, events);

    let done = report(&world.run(JobKind::Archive, json!({})).await);
    assert_eq!((done.rows, done.emptied), (events as u64, true));
    for table in ["events", "commits"] {
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(world.count(&sql).await, 0);
    }
    let body = world
        .objects
        .get(&done.manifest.unwrap())
        .await
        .unwrap()
        .unwrap();
    let manifest: Manifest = serde_json::from_slice(&body).unwrap();
    assert_eq!(manifest.rows, events as u64);
    assert_eq!(manifest.parts.len() as u64, done.parts);
    for (part, log) in manifest.parts.iter().zip(&world.log) {
        let file = world.objects.get(&part.key).await.unwrap().unwrap();
        let rows = parquet::read(file).unwrap();
        let mut expected = parquet::Rows::default();
        log.iter().for_each(|object| expected.add(object).unwrap());
        assert_eq!(rows, expected);
        assert_eq!(rows.digest().to_string(), part.digest);
        assert_eq!((part.from, part.to), (0, N));
    }
    // S3 holds everything still.
    assert!(world.verify().await.clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_archived_before_its_time_or_without_proof() {
    let world = World::new(N, 3, StageKind::DualWriteS3).await;
    let refused = world
        .jobs
        .start(JobKind::Archive, json!({}), "tester")
        .await;
    let Err(JobRefused::Refused(refusal)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.code, "not_retired");
    world.told.0.lock().stage = StageKind::S3Only;
    world.told.0.lock().held = Some(std::time::Duration::ZERO);
    assert!(
        world
            .jobs
            .start(JobKind::Archive, json!({}), "tester")
            .await
            .is_err()
    );

    world.told.0.lock().held = Some(std::time::Duration::MAX);
    world
        .sql("UPDATE events SET envelope = replace(envelope::text, '4.50', '5.50')::json WHERE partition = 0 AND commit_offset = 4 AND idx = 1")
        .await;
    let failed = world.run(JobKind::Archive, json!({})).await;
    assert_eq!(failed.state, JobState::Failed);
    assert!(
        failed.error.unwrap().contains("repair"),
        "it says what to do"
    );
    assert!(world.count("SELECT count(*) FROM events").await > 0);
    assert!(
        world
            .objects
            .list("archive/", None, 1)
            .await
            .unwrap()
            .is_empty()
    );

    assert!(world.repair(json!({ "fresh": true })).await.clean);
    // The row in PostgreSQL has the last word: somebody goes back at this very moment.
    world
        .sql("INSERT INTO migration (partition, mode, lead, epoch, step, revision) VALUES (0, 'dual_write', 's3', 1, 'steady', 3)")
        .await;
    let failed = world.run(JobKind::Archive, json!({})).await;
    assert_eq!(failed.state, JobState::Failed, "{failed:?}");
    assert!(world.count("SELECT count(*) FROM events").await > 0);
}
