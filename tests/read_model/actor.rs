//! The actor around the projection.

use std::sync::Arc;

use actix::prelude::*;
use oms::actors::projection::{Rebuild, Status, start};
use oms::actors::supervision::guard::GuardSettings;
use oms::actors::supervision::policy::ActorKind;
use oms::actors::supervision::tree::{KillHow, Tree};
use oms::store::io_runtime::IoRuntime;
use oms::store::read_model::ReadModel;
use oms::store::read_model::status::ProjectionState;
use tokio::time::Instant;

use crate::history::History;
use crate::support::{DEADLINE, eventually, postgres};
use crate::world::{Writer, everything, model};

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
        let tree = Tree::default();
        let node = tree.add("projection", ActorKind::Projection);
        let settings = GuardSettings::new(node.clone(), Arc::new(|_| {}));
        let arbiter = Arbiter::new();
        let address = start(&arbiter.handle(), settings, deps.clone());
        for how in [KillHow::Panic, KillHow::Stop] {
            node.kill(how);
            history.go_on(&mut writer, 200).await;
            writer.create_database("zoo");
            let last = writer.commit().await.expect("a position");
            assert!(deps.progress.wait_for(last, Instant::now() + DEADLINE).await);
        }
        assert_eq!(node.restarts(), 2);
        let before = address.send(Status).await.expect("alive").expect("status");
        assert_eq!((before.lag_commits, before.state), (0, ProjectionState::Live));
        let building = address.send(Rebuild).await.expect("alive").expect("begun");
        let after = eventually("the swap", || async {
            let status = address.send(Status).await.expect("alive").expect("status");
            (status.generation == building.0).then_some(status)
        })
        .await;
        assert!(after.generation > before.generation && after.rebuild.is_none());
        let seen = everything(&*model as &dyn ReadModel).await;
        let expected = history.expected();
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(seen.get(name), Some(value), "{name}");
        }
        io.shutdown_background();
    });
}
