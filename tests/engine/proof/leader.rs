//! The log that leads: what a repair never touches by itself, and never lets a copy decide.

use std::sync::Arc;

use bytes::Bytes;
use oms::log::keys;
use oms::log::lead::Lead;
use oms::log::object::ObjectHash;
use oms::migration::stage::StageKind;
use oms::proof::divergence::{DivergenceKind::*, Remedy};
use oms::store::ports::commit_store::CommitStore;
use oms::store::ports::object_store::{ObjectStore, list_all};
use serde_json::json;

use super::planted::{HARM, N, STREAMS, harm_the_bucket, is_whole, quarantined, what, world};
use super::world::{P, World, forged, next};

/// Every object under `events/`, as it lies there.
async fn bucket(world: &World) -> Vec<(String, Bytes)> {
    let mut all = Vec::new();
    for info in list_all(&*world.objects, keys::EVENTS, None).await.unwrap() {
        let bytes = world.objects.get(&info.key).await.unwrap().unwrap();
        all.push((info.key, bytes));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn law_1_the_log_that_leads_is_touched_only_where_an_order_names_what_lies_there() {
    let world = world().await;
    let [damaged, forgery] = harm_the_bucket(&world).await;
    let before = bucket(&world).await;
    assert_eq!(what(&world.verify().await.divergences), HARM);
    let name = |hash: String| hash[..16].to_owned();
    let orders = [
        "0/2:absent".to_owned(),
        format!("0/5:{}", name(ObjectHash::of(&damaged).to_string())),
        format!("0/8:{}", name(ObjectHash::of(&forgery).to_string())),
    ];
    let elsewhere = [
        "0/2:00000000".to_owned(),
        format!("0/8:{}", name(ObjectHash::of(&damaged).to_string())),
        format!("1/5:{}", name(ObjectHash::of(&damaged).to_string())),
    ];
    for order in [
        json!({}),
        json!({ "quarantine_beyond_end": true }),
        json!({ "dry_run": true }),
        json!({ "replace_in_leader": elsewhere }),
    ] {
        let left = world.repair(order.clone()).await;
        assert_eq!(
            (left.repaired, left.needs_order),
            (0, 3),
            "{order}: {left:#?}"
        );
        assert!(!left.clean);
        let needed: Vec<_> = left.results.iter().flat_map(|r| &r.needed).collect();
        let needed: Vec<_> = needed.into_iter().map(ToString::to_string).collect();
        assert_eq!(needed, orders, "it says what to name");
        assert_eq!(bucket(&world).await, before, "{order}");
    }
    // Two of them are named: the third stays.
    let some = world
        .repair(json!({ "replace_in_leader": orders[1..] }))
        .await;
    assert_eq!((some.repaired, some.needs_order), (2, 1), "{some:#?}");
    let all = world.repair(json!({ "replace_in_leader": orders })).await;
    assert_eq!((all.repaired, all.needs_order), (1, 0), "{all:#?}");
    is_whole(&world).await;
    assert_eq!(quarantined(&world).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_1_what_a_copy_holds_beyond_its_leaders_end_decides_nothing() {
    for (stage, lead) in [
        (StageKind::DualWriteS3, Lead::S3),
        (StageKind::DualWritePostgres, Lead::Postgres),
    ] {
        let world = World::new(N, STREAMS, stage).await;
        // The copy's last object is another, and it goes on from that.
        let forgery = forged(world.log[0].last().unwrap());
        let beyond = next(0, Some(&forgery), STREAMS);
        let (remedy, extra) = match lead {
            Lead::S3 => {
                world.rewrite(&forgery).await;
                let copied = [Arc::new(beyond.clone())];
                assert_eq!(world.commits.copy(&copied).await.unwrap(), N + 1);
                (Remedy::ReplaceInPostgres, ExtraInPostgres)
            }
            Lead::Postgres => {
                world.overwrite(&forgery).await;
                world.overwrite(&beyond).await;
                (Remedy::ReplaceInS3, ExtraInS3)
            }
        };
        let found = world.verify().await;
        let expected = [
            (N - 1, Differs, Some(lead), remedy),
            (N, extra, None, Remedy::Quarantine),
        ];
        assert_eq!(what(&found.divergences), expected, "{lead:?}");
        assert_eq!(found.copy_ahead, 1);
        let said = &found.copies_ahead[0];
        assert!(said.contains("is ahead of the leader"), "{said}");
        let mended = world.repair(json!({})).await;
        assert_eq!((mended.repaired, mended.needs_order), (2, 0), "{mended:#?}");
        is_whole(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_2_what_the_leader_has_lost_is_brought_back_on_order() {
    for (stage, extra) in [
        (StageKind::DualWritePostgres, ExtraInS3),
        (StageKind::DualWriteS3, ExtraInPostgres),
    ] {
        let world = World::new(N, STREAMS, stage).await;
        for offset in [N - 2, N - 1] {
            for table in ["events", "commits"] {
                if extra == ExtraInS3 {
                    let at = format!("partition = 0 AND commit_offset = {offset}");
                    world.sql(&format!("DELETE FROM {table} WHERE {at}")).await;
                }
            }
            if extra == ExtraInPostgres {
                world
                    .objects
                    .delete(&keys::commit(P, offset))
                    .await
                    .unwrap();
            }
        }
        let found = world.verify().await;
        let lost = |offset| (offset, extra, None, Remedy::QuarantineOnOrder);
        assert_eq!(what(&found.divergences), [lost(N - 2), lost(N - 1)]);
        assert_eq!(found.copy_ahead, 2);
        let left = world.repair(json!({})).await;
        assert_eq!((left.repaired, left.not_repairable), (0, 2), "{left:#?}");
        let needed = left.results[0].needed.as_ref().unwrap().to_string();
        assert_eq!(needed, format!("0/{}:absent", N - 2));
        let orders = [N - 2, N - 1].map(|offset| format!("0/{offset}:absent"));
        let back = world.repair(json!({ "replace_in_leader": orders })).await;
        assert_eq!((back.repaired, back.not_repairable), (2, 0), "{back:#?}");
        is_whole(&world).await;
    }
}
