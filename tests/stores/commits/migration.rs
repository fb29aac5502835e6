//! The row of a partition, and the switches.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::ToSpan;
use oms::clock::new_uuid;
use oms::domain::ids::{Epoch, PartitionId};
use oms::migration::edge::{Direction, Edge, Move};
use oms::migration::record::{Change, MigrationRow, Step};
use oms::migration::stage::StageKind;
use oms::migration::switch::{EdgeReport, Switch, SwitchState};
use oms::store::error::StoreErrorKind;
use oms::store::ports::commit_store::CommitStore;
use oms::store::ports::migration_table::MigrationTable;

use super::chain::Chain;
use super::{P0, World};
use oms_testkit::{eventually, now};

const LONG: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_whoever_begins_a_partition_first_decides_and_once() {
    let world = World::new();
    assert!(world.table.view(P0).await.unwrap().is_none());
    assert!(!world.table.has_commits(P0).await.unwrap());
    let begin = |kind, epoch| {
        let table = world.table.clone();
        let genesis = Chain::new(P0).control();
        let row = MigrationRow::new(kind, Epoch(epoch));
        tokio::spawn(async move { table.begin(P0, &row, Some(&genesis)).await.unwrap() })
    };
    let begun = join_all((1..=6).map(|epoch| begin(StageKind::Legacy, epoch))).await;
    let rows: Vec<MigrationRow> = begun.into_iter().map(|row| row.unwrap()).collect();
    assert!(rows.iter().all(|row| *row == rows[0]), "{rows:?}");
    let view = world.table.view(P0).await.unwrap().unwrap();
    assert_eq!((view.row, view.next), (rows[0], 1));
    assert!(world.table.has_commits(P0).await.unwrap());

    // A log that was there before is not begun again: it has to say the same of the lead.
    let p1 = PartitionId(1);
    let first = Chain::new(p1).control();
    world.commits.put(&first).await.unwrap();
    let begin = async |epoch| {
        let row = MigrationRow::new(StageKind::Legacy, Epoch(epoch));
        let mut other = Chain::new(p1);
        other.epoch = row.epoch;
        world.table.begin(p1, &row, Some(&other.control())).await
    };
    let error = begin(2).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Conflict, "{error}");
    assert!(world.table.view(p1).await.unwrap().is_none(), "as before");
    assert_eq!(begin(1).await.unwrap().epoch, Epoch(1));
    let kept = world.commits.get(p1, 0).await.unwrap().unwrap();
    assert_eq!(kept.bytes, first.bytes);
    let view = world.table.view(p1).await.unwrap().unwrap();
    assert_eq!(view.next, 1);
    assert_eq!(world.table.rows().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_says_since_when_its_stage_holds() {
    let world = World::new();
    let (_, mut row) = world.led().await;
    let seen = async || world.table.rows().await.unwrap()[&P0];
    let mut before = seen().await;
    for (change, another_stage) in [
        (Change::MirrorInS3, true),
        (Change::DrainToS3, false),
        (Change::SealToS3, false),
        (Change::LeadS3, true),
        (Change::StopMirrorInPostgres, true),
    ] {
        let next = row.after(change).unwrap();
        assert!(world.table.compare_and_set(P0, &row, &next).await.unwrap());
        assert!(!world.table.compare_and_set(P0, &row, &next).await.unwrap());
        let after = seen().await;
        assert_eq!(after.row, next);
        assert!(after.changed > before.changed);
        assert_eq!(after.since > before.since, another_stage, "{change:?}");
        (before, row) = (after, next);
    }
    let nobodys = PartitionId(9);
    let table = &world.table;
    assert!(!table.compare_and_set(nobodys, &row, &row).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_a_change_decided_on_an_older_row_changes_nothing() {
    let World { table, .. } = &World::new();
    let first = MigrationRow::new(StageKind::Legacy, Epoch(1));
    table.begin(P0, &first, None).await.unwrap();
    let second = first.after(Change::MirrorInS3).unwrap();
    let third = second.after(Change::StopMirrorInS3).unwrap();
    assert!(table.compare_and_set(P0, &first, &second).await.unwrap());
    assert!(table.compare_and_set(P0, &second, &third).await.unwrap());
    // The row looks as it did at first, and yet a late repetition does not hit it.
    assert!(!table.compare_and_set(P0, &first, &second).await.unwrap());
    // Each column counts.
    let next = third.after(Change::MirrorInS3).unwrap();
    for other in [
        MigrationRow {
            stage: StageKind::DualWritePostgres,
            ..third
        },
        MigrationRow {
            stage: StageKind::S3Only,
            ..third
        },
        MigrationRow {
            epoch: Epoch(2),
            ..third
        },
        MigrationRow {
            step: Step::DrainingToS3,
            ..third
        },
        MigrationRow {
            revision: 3,
            ..third
        },
    ] {
        assert!(
            !table.compare_and_set(P0, &other, &next).await.unwrap(),
            "{other:?}"
        );
    }
    assert_eq!(table.view(P0).await.unwrap().unwrap().row, third);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_no_change_makes_is_corrupt() {
    let world = World::new();
    world.led().await;
    let client = world.other().await;
    for damage in ["mode = 's3_only'", "step = 'hopping'", "lead = 'kafka'"] {
        let sql = format!("UPDATE migration SET {damage}");
        client.batch_execute(&sql).await.unwrap();
        let error = world.table.view(P0).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Corrupt, "{damage}");
        client
            .batch_execute(
                "UPDATE migration SET mode = 'legacy', step = 'steady', lead = 'postgres'",
            )
            .await
            .unwrap();
    }
    assert!(world.table.view(P0).await.unwrap().is_some());
}

fn switch(seconds: i64) -> Switch {
    let begun = now() + seconds.seconds();
    Switch {
        id: new_uuid(),
        goal: StageKind::S3Only,
        partitions: vec![P0, PartitionId(3)],
        by: "ann".into(),
        reason: "é \"because\"".into(),
        force: true,
        automatic: false,
        begun,
        ended: None,
        state: SwitchState::Walking,
        error: None,
        edges: vec![EdgeReport {
            step: Move::new(Edge::B, Direction::Forward),
            from: StageKind::DualWritePostgres,
            to: StageKind::DualWriteS3,
            partitions: vec![P0],
            state: SwitchState::Walking,
            gates: serde_json::json!([{"gate": "drained", "figure": 0.25, "passed": true}]),
            begun,
            ended: None,
            pause_ms: [(P0, 12.5)].into(),
        }],
    }
}

fn ended(switch: &Switch, state: SwitchState) -> Switch {
    Switch {
        ended: Some(now()),
        state,
        ..switch.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_switch_is_under_way_and_its_driver_alone_records_it() {
    let World { table, .. } = World::new();
    assert_eq!(table.current_switch().await.unwrap(), None);
    let first = switch(0);
    let begun = table.begin_switch(&first, "a", LONG).await.unwrap();
    assert!(begun);
    assert!(
        table.begin_switch(&first, "a", LONG).await.unwrap(),
        "again"
    );
    assert!(!table.begin_switch(&first, "b", LONG).await.unwrap());
    assert!(!table.begin_switch(&switch(1), "b", LONG).await.unwrap());
    assert_eq!(table.current_switch().await.unwrap(), Some(first.clone()));
    assert_eq!(table.switch(first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(table.switch(new_uuid()).await.unwrap(), None);
    assert_eq!(table.adopt_switch("b", LONG).await.unwrap(), None);
    assert!(!table.record_switch(&first, "b").await.unwrap());

    let done = ended(&first, SwitchState::Done);
    assert!(table.record_switch(&done, "a").await.unwrap());
    assert!(table.record_switch(&done, "a").await.unwrap(), "again");
    assert!(!table.record_switch(&first, "a").await.unwrap(), "it ended");
    assert_eq!(table.current_switch().await.unwrap(), None);

    // Refused at once, it is nobody's hindrance.
    let (second, refused) = (switch(1), ended(&switch(2), SwitchState::Refused));
    assert!(table.begin_switch(&second, "a", LONG).await.unwrap());
    assert!(table.begin_switch(&refused, "b", LONG).await.unwrap());
    assert_eq!(table.current_switch().await.unwrap(), Some(second.clone()));

    let all = table.switches(10, None).await.unwrap();
    assert_eq!(all, [refused.clone(), second.clone(), done.clone()]);
    assert_eq!(table.switches(1, None).await.unwrap(), all[..1]);
    let older = table.switches(10, Some(second.begun)).await.unwrap();
    assert_eq!(older, [done]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_whose_driver_is_gone_is_adopted_by_one_or_superseded() {
    let World { table, .. } = World::new();
    let first = switch(0);
    assert!(table.begin_switch(&first, "a", LONG).await.unwrap());
    // They all try once it has been silent for long enough; whoever adopts it has then not been
    // silent as long as the others may be late on a busy machine.
    let patience = Duration::from_millis(1500);
    tokio::time::sleep(patience + Duration::from_millis(100)).await;
    let adopters = ["b", "c", "d"].map(|driver| {
        let table = table.clone();
        tokio::spawn(async move {
            let adopted = table.adopt_switch(driver, patience).await.unwrap();
            adopted.map(|adopted| (driver, adopted))
        })
    });
    let mut adopted = Vec::new();
    for adopter in adopters {
        adopted.extend(adopter.await.unwrap());
    }
    let [(driver, found)] = adopted.as_slice() else {
        panic!("adopted by {}", adopted.len());
    };
    assert_eq!(*found, first);
    assert!(!table.record_switch(&first, "a").await.unwrap());
    assert!(table.record_switch(&first, driver).await.unwrap());

    let second = switch(1);
    eventually("the first is given up", || async {
        let patience = Duration::from_millis(20);
        let begun = table.begin_switch(&second, "e", patience).await.unwrap();
        begun.then_some(())
    })
    .await;
    assert_eq!(table.current_switch().await.unwrap(), Some(second.clone()));
    let given_up = table.switch(first.id).await.unwrap().unwrap();
    assert_eq!(given_up.state, SwitchState::Failed);
    assert!(given_up.error.is_some() && given_up.ended == Some(second.begun));
    assert_eq!(given_up.edges, first.edges);
    assert!(!table.record_switch(&first, driver).await.unwrap());
}
