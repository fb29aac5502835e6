//! Read models of another log, or of an end that the log has lost.

use std::sync::Arc;

use oms::actors::projection::{ProjectionDeps, Projector};
use oms::clock::new_uuid;
use oms::domain::ids::PartitionId;
use oms::log::identity::LogId;
use oms::log::keys;
use oms::store::adapters::postgres::PostgresSettings;
use oms::store::adapters::postgres::read_model::PostgresReadModel;
use oms::store::log::log_reader::LogReader;
use oms::store::ports::object_store::ObjectStore;
use tokio::task::JoinHandle;

use super::world::{PARTITIONS, Writer, everything};
use oms_testkit::{eventually, postgres};

/// Runs the projection of a writer's log, which has this id, until it is dropped.
struct Running(ProjectionDeps, JoinHandle<()>);

impl Running {
    fn start(writer: &Writer, id: LogId, settings: &PostgresSettings) -> Self {
        let client = postgres::connect(settings);
        let model = Arc::new(PostgresReadModel::new(client).of_log(Some(id)));
        let mut deps = writer.deps(model);
        // One that has read nothing yet.
        let log = LogReader::new(writer.objects.clone(), "test".into(), PARTITIONS, 1 << 20);
        deps.log = Arc::new(log.with_id(id));
        let task = tokio::spawn(Projector::new(deps.clone(), Arc::default()).run());
        Self(deps, task)
    }

    fn alarms(&self) -> Vec<&'static str> {
        let alarms = self.0.log.alarms().all();
        alarms.into_iter().map(|alarm| alarm.code).collect()
    }

    async fn reached(&self, writer: &Writer, what: &str) {
        eventually(what, || async {
            let live = self.0.model.generations(PARTITIONS).await.ok()?.live;
            let head = |p: u16| writer.heads.next_offset(PartitionId(p));
            let all = (0..PARTITIONS).all(|p| live.next[usize::from(p)] == head(p));
            (all && self.alarms().is_empty()).then_some(())
        })
        .await;
    }

    async fn names(&self) -> Vec<String> {
        let all = everything(&*self.0.model).await;
        all.as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.1.abort();
    }
}

fn id() -> LogId {
    LogId(new_uuid())
}

/// A log of so many databases, all of whose names begin alike.
async fn written(prefix: &str, n: usize) -> Writer {
    let mut writer = Writer::new().await;
    go_on(&mut writer, prefix, 0..n).await;
    writer
}

async fn go_on(writer: &mut Writer, prefix: &str, numbers: std::ops::Range<usize>) {
    for i in numbers {
        writer.create_database(&format!("{prefix}{i}"));
        writer.commit().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_a_read_model_of_another_bucket_is_made_anew_and_leaves_no_ghosts() {
    let settings = postgres::fresh();
    let first = written("first", 20).await;
    let running = Running::start(&first, id(), &settings);
    running.reached(&first, "the first log is projected").await;
    drop(running);
    // Longer than the first: what looked at lengths alone went on here.
    let second = written("second", 60).await;
    let running = Running::start(&second, id(), &settings);
    running
        .reached(&second, "the second log is projected")
        .await;
    let names = running.names().await;
    assert_eq!(names.len(), 60);
    assert!(
        names.iter().all(|name| name.starts_with("second")),
        "{names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_a_log_that_lost_its_end_holds_the_projection_until_it_goes_another_way() {
    let settings = postgres::fresh();
    let mut writer = written("one", 30).await;
    let log = id();
    let running = Running::start(&writer, log, &settings);
    running.reached(&writer, "all is projected").await;
    drop(running);
    // Somebody deletes the newest objects of the first partition.
    let p = PartitionId(0);
    let head = writer.heads.next_offset(p);
    assert!(head > 4);
    let mut lost = Vec::new();
    for offset in head - 2..head {
        let key = keys::commit(p, offset);
        lost.push((
            key.clone(),
            writer.objects.get(&key).await.unwrap().unwrap(),
        ));
        writer.objects.delete(&key).await.expect("deleted");
    }
    let running = Running::start(&writer, log, &settings);
    eventually("it is named", || async {
        (running.alarms() == ["log_behind"]).then_some(())
    })
    .await;
    let live = running
        .0
        .model
        .generations(PARTITIONS)
        .await
        .expect("read")
        .live;
    assert_eq!(live.next[0], head, "nothing was done about it");
    for (key, body) in lost.clone() {
        writer.objects.put(&key, body).await.expect("put back");
    }
    running.reached(&writer, "put back, it goes on").await;
    drop(running);
    // Lost again, and this time written on.
    for (key, _) in &lost {
        writer.objects.delete(key).await.expect("deleted");
    }
    writer.cut(p, head - 2).await;
    go_on(&mut writer, "other", 0..30).await;
    assert!(writer.heads.next_offset(p) > head);
    let running = Running::start(&writer, log, &settings);
    running.reached(&writer, "it is made anew").await;
    let fresh = PostgresReadModel::new(postgres::connect(&postgres::fresh())).of_log(Some(log));
    let mut deps = writer.deps(Arc::new(fresh));
    deps.log = running.0.log.clone();
    let task = tokio::spawn(Projector::new(deps.clone(), Arc::default()).run());
    eventually("an oracle", || async {
        let live = deps.model.generations(PARTITIONS).await.ok()?.live;
        let head = |p: u16| writer.heads.next_offset(PartitionId(p));
        (0..PARTITIONS)
            .all(|p| live.next[usize::from(p)] == head(p))
            .then_some(())
    })
    .await;
    task.abort();
    let expected = everything(&*deps.model).await;
    assert_eq!(everything(&*running.0.model).await, expected);
    assert!(
        expected.as_object().expect("object").len() < 60,
        "some were lost"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_model_of_the_build_before_is_taken_for_this_logs_and_a_restored_one_goes_on() {
    let settings = postgres::fresh();
    let mut writer = written("first", 10).await;
    let log = id();
    let running = Running::start(&writer, log, &settings);
    running.reached(&writer, "projected").await;
    drop(running);
    let execute = async |sql: &'static str| {
        postgres::connect(&settings)
            .run("test", move |client| Box::pin(client.batch_execute(sql)))
            .await
            .expect(sql);
    };
    execute(
        "UPDATE read_model_positions SET log_id = NULL, anchored_at = NULL, sha256 = NULL;
         CREATE TABLE backup AS SELECT * FROM read_model_positions",
    )
    .await;
    go_on(&mut writer, "second", 0..10).await;
    let running = Running::start(&writer, log, &settings);
    running.reached(&writer, "adopted").await;
    let live = running
        .0
        .model
        .generations(PARTITIONS)
        .await
        .expect("read")
        .live;
    assert!(
        live.anchors
            .iter()
            .all(|a| a.is_some_and(|a| a.log == Some(log)))
    );
    // Restored while it runs: older, of this log.
    execute(
        "UPDATE read_model_positions p SET next_offset = b.next_offset, log_id = b.log_id,
                anchored_at = b.anchored_at, sha256 = b.sha256
         FROM backup b WHERE b.partition = p.partition",
    )
    .await;
    go_on(&mut writer, "third", 0..10).await;
    running.reached(&writer, "it goes on").await;
    assert_eq!(running.names().await.len(), 30);
}
