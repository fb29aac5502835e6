//! Jobs are paused, resumed, cancelled, taken over, and outlive PostgreSQL's absence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use oms::jobs::context::JobContext;
use oms::jobs::failure::JobFailure;
use oms::jobs::log_copies::digest_of_stream;
use oms::jobs::manager::JobAction;
use oms::jobs::runner::{JobRefused, Runner};
use oms::log::partition::PartitionLog;
use oms::migration::job::{JobKind, JobProgress, JobState};
use oms::migration::stage::StageKind;
use oms::proof::report::VerifyReport;
use oms::store::log::log_objects::LogObjects;
use oms::store::log::s3_commit_store::S3CommitStore;
use serde_json::{Value, json};

use super::world::{P, World, over};
use oms_testkit::{eventually, postgres};

fn code(refused: &JobRefused) -> &str {
    match refused {
        JobRefused::Refused(refusal) => refusal.code,
        JobRefused::Store(error) => error.kind.as_str(),
    }
}

/// Counts to a thousand, a step at a time.
#[derive(Default)]
struct Counting {
    steps: AtomicU64,
}

#[async_trait]
impl Runner for Counting {
    fn kind(&self) -> JobKind {
        JobKind::Backfill
    }

    async fn run(&self, job: &JobContext) -> Result<Value, JobFailure> {
        let mut at: u64 = job.checkpoint()?.unwrap_or(0);
        while at < 1_000 {
            at += 1;
            self.steps.fetch_add(1, Ordering::Relaxed);
            let progress = JobProgress {
                done: at,
                total: 1_000,
                ..JobProgress::default()
            };
            job.save(progress, || Ok(json!(at)))?;
            job.wait(Duration::from_millis(1)).await;
        }
        Ok(json!({ "counted": at }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_pauses_at_a_checkpoint_and_goes_on_from_it() {
    let counting = Arc::new(Counting::default());
    let world = World::with(2, 1, StageKind::DualWriteS3, vec![counting.clone()]).await;
    let jobs = &world.jobs;
    let job = jobs
        .start(JobKind::Backfill, json!({}), "tester")
        .await
        .unwrap();
    eventually("it counts", async || {
        (counting.steps.load(Ordering::Relaxed) > 50).then_some(())
    })
    .await;
    let twice = jobs.start(JobKind::Backfill, json!({}), "tester").await;
    assert_eq!(code(&twice.unwrap_err()), "job_running");
    // From another process too.
    let other = world.node("second", vec![counting.clone()]);
    let order = other.order(JobKind::Backfill, None, JobAction::Pause).await;
    assert_eq!(order.unwrap().id, job.id);
    let paused = eventually("it pauses", async || {
        let job = jobs.job(job.id).await.unwrap().unwrap();
        (job.state == JobState::Paused).then_some(job)
    })
    .await;
    let at: u64 = serde_json::from_value(paused.checkpoint.clone().unwrap()).unwrap();
    let steps = counting.steps.load(Ordering::Relaxed);
    assert_eq!(at, steps, "the checkpoint is where it stopped");
    let still = jobs.start(JobKind::Backfill, json!({}), "tester").await;
    assert_eq!(code(&still.unwrap_err()), "job_running");

    // It goes on where it was told to: in the other process.
    let resumed = other
        .order(JobKind::Backfill, None, JobAction::Resume)
        .await
        .unwrap();
    assert_eq!(
        (resumed.state, resumed.node.as_str()),
        (JobState::Running, "second")
    );
    let done = over(jobs, &job).await;
    assert_eq!(done.state, JobState::Done, "{done:?}");
    assert_eq!(done.report, Some(json!({ "counted": 1_000 })));
    assert_eq!(
        counting.steps.load(Ordering::Relaxed),
        1_000,
        "nothing was done twice"
    );
    let late = jobs
        .order(JobKind::Backfill, Some(job.id), JobAction::Pause)
        .await;
    assert_eq!(code(&late.unwrap_err()), "job_state");
    let none = jobs.order(JobKind::Archive, None, JobAction::Pause).await;
    assert_eq!(code(&none.unwrap_err()), "job_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_process_died_is_taken_over_from_its_checkpoint() {
    let counting = Arc::new(Counting::default());
    let world = World::with(2, 1, StageKind::DualWriteS3, vec![]).await;
    let id = oms::clock::new_uuid();
    // What a process that died left behind.
    world
        .sql(&format!(
            "INSERT INTO migration_jobs (id, kind, state, parameters, started_by, checkpoint, progress, node, heartbeat)
             VALUES ('{id}', 'backfill', 'running', '{{}}', 'tester', '990', '{{}}', 'dead', now() - interval '1 minute')"
        ))
        .await;
    let second = world.node("second", vec![counting.clone()]);
    let watching = second.watch();
    let done = eventually("it is taken over", async || {
        let job = second.job(id).await.unwrap()?;
        job.state.is_over().then_some(job)
    })
    .await;
    watching.abort();
    assert_eq!((done.state, done.node.as_str()), (JobState::Done, "second"));
    assert_eq!(counting.steps.load(Ordering::Relaxed), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stops_and_makes_room() {
    let world = World::with(
        2,
        1,
        StageKind::DualWriteS3,
        vec![Arc::new(Counting::default())],
    )
    .await;
    let jobs = &world.jobs;
    let job = jobs
        .start(JobKind::Backfill, json!({}), "tester")
        .await
        .unwrap();
    let cancelled = jobs
        .order(JobKind::Backfill, None, JobAction::Cancel)
        .await
        .unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    let next = jobs
        .start(JobKind::Backfill, json!({}), "tester")
        .await
        .unwrap();
    assert_ne!(next.id, job.id);
    assert_eq!(over(jobs, &next).await.state, JobState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_verification_is_paused_resumed_and_finds_the_same() {
    let world = World::new(300, 2, StageKind::DualWriteS3).await;
    world
        .sql("UPDATE events SET envelope = replace(envelope::text, '.50', '.75')::json WHERE partition = 0 AND commit_offset IN (4, 140, 250) AND idx = 1")
        .await;
    let jobs = &world.jobs;
    let job = jobs
        .start(JobKind::Verify, json!({ "rate": 400 }), "tester")
        .await
        .unwrap();
    for _ in 0..3 {
        let before = eventually("it gets on", async || {
            let job = jobs.job(job.id).await.unwrap().unwrap();
            (job.state.is_over() || job.progress.done > 0).then_some(job.progress.done)
        })
        .await;
        let paused = jobs.order(JobKind::Verify, None, JobAction::Pause).await;
        if paused.is_err() {
            break;
        }
        eventually("it pauses", async || {
            let job = jobs.job(job.id).await.unwrap().unwrap();
            (job.state != JobState::Pausing && job.state != JobState::Running).then_some(())
        })
        .await;
        if jobs
            .order(JobKind::Verify, None, JobAction::Resume)
            .await
            .is_err()
        {
            break;
        }
        assert!(before <= 600);
    }
    let done = over(jobs, &job).await;
    let report: VerifyReport = serde_json::from_value(done.report.unwrap()).unwrap();
    assert_eq!(report.objects, 600);
    assert_eq!(report.events, 299 * 2 * 2);
    let offsets: Vec<_> = report.divergences.iter().map(|d| d.offset).collect();
    assert_eq!(offsets, [4, 140, 250]);
    // 1,196 events at 400 a second, whatever the pauses.
    assert!(report.seconds > 2.0, "{}", report.seconds);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_verification_looks_only_at_what_is_new() {
    let mut world = World::new(20, 2, StageKind::DualWriteS3).await;
    assert!(world.verify().await.clean);
    let object = super::world::next(0, world.log[0].last(), 2);
    world.overwrite(&object).await;
    let copied = Arc::new(object.clone());
    oms::store::ports::commit_store::CommitStore::copy(&*world.commits, &[copied])
        .await
        .unwrap();
    world.log[0].push(object);
    let job = world
        .run(JobKind::Verify, json!({ "incremental": true }))
        .await;
    let report: VerifyReport = serde_json::from_value(job.report.unwrap()).unwrap();
    assert!(report.clean && !report.full);
    assert_eq!((report.objects, report.events), (1, 2));
    assert_eq!(
        (report.partitions[0].from, report.partitions[0].to),
        (20, 21)
    );
    let unknown = world
        .jobs
        .start(JobKind::Verify, json!({ "partitions": [7] }), "tester")
        .await;
    assert_eq!(code(&unknown.unwrap_err()), "unknown_partition");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_the_same_digest_in_both_places() {
    let world = World::new(20, 2, StageKind::DualWriteS3).await;
    let mut index = PartitionLog::new(P);
    for object in &world.log[0] {
        index.apply(object).unwrap();
    }
    let stream = oms::domain::ids::StreamName::from_stored("order", "0-1");
    let head = index.index().head(stream.key());
    let places = index
        .index()
        .locate(stream.key(), oms::domain::ids::Version(1), head);
    let s3 = digest_of_stream(
        &S3CommitStore::new(LogObjects::of(world.objects.clone())),
        P,
        &places,
    )
    .await
    .unwrap();
    let postgres = digest_of_stream(&*world.commits, P, &places).await.unwrap();
    assert_eq!(s3, postgres);
    assert_eq!(s3.events(), 19);
    world
        .sql("UPDATE events SET envelope = replace(envelope::text, '4.50', '5.50')::json WHERE partition = 0 AND commit_offset = 4 AND idx = 1")
        .await;
    let changed = digest_of_stream(&*world.commits, P, &places).await.unwrap();
    assert_ne!(changed, s3);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_a_job_waits_for_postgres_and_says_so() {
    let cluster = postgres::Cluster::start();
    let world = World::on(&cluster.fresh(), 150, 2, StageKind::DualWriteS3, vec![]).await;
    let jobs = &world.jobs;
    let job = jobs
        .start(JobKind::Verify, json!({ "rate": 300 }), "tester")
        .await
        .unwrap();
    eventually("it gets on", async || {
        let job = jobs.job(job.id).await.ok()??;
        (job.progress.done > 0).then_some(())
    })
    .await;
    cluster.stop();
    let waiting = eventually("it waits", async || {
        let job = jobs.job(job.id).await.ok()??;
        job.progress.waiting
    })
    .await;
    assert!(waiting.contains("postgres"), "{waiting}");
    cluster.resume();
    let done = over(jobs, &job).await;
    assert_eq!(done.state, JobState::Done, "{done:?}");
    let report: VerifyReport = serde_json::from_value(done.report.unwrap()).unwrap();
    assert!(report.clean);
    assert_eq!((report.objects, report.events), (300, 149 * 2 * 2));
}

/// Not a check but a measurement: `cargo test --test engine -- --ignored --nocapture the_rate_of`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn the_rate_of_a_verification() {
    let world = World::new(1_000, 100, StageKind::DualWriteS3).await;
    for _ in 0..3 {
        let report = world.verify().await;
        assert!(report.clean);
        println!(
            "{} events, {} objects, {} bytes in {:.2} s: {:.0} events/s",
            report.events, report.objects, report.bytes, report.seconds, report.rate
        );
    }
}
