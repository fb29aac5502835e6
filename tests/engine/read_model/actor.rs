//! The actor around the projection.

use std::sync::Arc;

use actix::System;
use oms::actors::arbiters::Arbiters;
use oms::actors::projection::{ProjectionProgress, Rebuild, Status, follow, start};
use oms::actors::supervision::supervisor::Supervisor;
use oms::actors::supervision::tree::{KillHow, Tree};
use oms::store::io_runtime::IoRuntime;
use oms::store::ports::read_model::ReadModel;
use oms::store::ports::read_model::status::ProjectionState;
use tokio::time::Instant;

use super::history::History;
use super::world::{Writer, everything, model};
use oms_testkit::{DEADLINE, eventually, postgres};

#[test]
fn law_12_a_killed_projection_goes_on_where_the_model_is() {
    let io = tokio::runtime::Runtime::new().expect("a runtime");
    let model = {
        let _inside = io.enter();
        model(&postgres::fresh())
    };
    System::new().block_on(async move {
        let (mut writer, mut history) = (Writer::new().await, History::new());
        let mut deps = writer.deps(model.clone());
        deps.io = IoRuntime::new(io.handle().clone());
        let supervisor = Supervisor::start(
            Arc::new(Arbiters::start(1)),
            Arc::new(Tree::default()),
            Arc::new(|node| panic!("{} failed beyond its limit", node.path)),
        );
        let projection = start(&supervisor, deps.clone());
        let node = projection.node();
        let kills = [
            KillHow::Panic,
            KillHow::Stop,
            KillHow::Abort,
            KillHow::Arbiter,
        ];
        // Another process, which does not keep the model.
        let elsewhere = Arc::new(ProjectionProgress::default());
        let partitions = deps.log.partitions();
        let following = tokio::spawn(follow(model.clone(), elsewhere.clone(), partitions));
        for (i, how) in (1_u64..).zip(kills) {
            eventually("it runs", || async { node.kill(how).then_some(()) }).await;
            eventually("it is restarted", || async {
                (node.restarts() == i).then_some(())
            })
            .await;
            history.go_on(&mut writer, 200).await;
            writer.create_database("zoo");
            let last = writer.commit().await.expect("a position");
            assert!(
                deps.progress
                    .wait_for(last, Instant::now() + DEADLINE)
                    .await
            );
            assert!(elsewhere.wait_for(last, Instant::now() + DEADLINE).await);
        }
        following.abort();
        assert_eq!((node.restarts(), node.rebuilds()), (4, 2));
        let before = projection
            .call(Status)
            .await
            .expect("alive")
            .expect("status");
        assert_eq!(
            (before.lag_commits, before.state),
            (0, ProjectionState::Live)
        );
        let building = projection
            .call(Rebuild)
            .await
            .expect("alive")
            .expect("begun");
        let after = eventually("the swap", || async {
            let status = projection
                .call(Status)
                .await
                .expect("alive")
                .expect("status");
            (status.generation == building.0).then_some(status)
        })
        .await;
        assert!(after.generation > before.generation && after.rebuild.is_none());
        let seen = everything(&*model as &dyn ReadModel).await;
        let expected = history.expected();
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(seen.get(name), Some(value), "{name}");
        }
        supervisor.arbiters().stop();
        io.shutdown_background();
    });
}
