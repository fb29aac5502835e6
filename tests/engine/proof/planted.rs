//! Corruptions planted by hand.

use bytes::Bytes;
use oms::domain::ids::PartitionId;
use oms::jobs::repair::report::RepairReport;
use oms::log::keys;
use oms::log::lead::Lead;
use oms::log::object::ObjectHash;
use oms::migration::stage::StageKind;
use oms::proof::divergence::{Divergence, DivergenceKind, Remedy};
use oms::store::ports::commit_store::CommitStore;
use oms::store::ports::object_store::{ObjectStore, list_all};
use serde_json::json;

use super::world::{P, World, forged, header, next};

use DivergenceKind::*;

pub(super) const N: u64 = 12;
pub(super) const STREAMS: u64 = 3;

pub(super) async fn world() -> World {
    World::new(N, STREAMS, StageKind::DualWriteS3).await
}

pub(super) fn what(divergences: &[Divergence]) -> Vec<(u64, DivergenceKind, Option<Lead>, Remedy)> {
    let what = divergences
        .iter()
        .map(|d| (d.offset, d.kind, d.right, d.repair));
    what.collect()
}

/// Verifies that exactly this is found, repairs it, and verifies that nothing is left.
async fn mends(world: &World, expected: &[(u64, DivergenceKind, Option<Lead>, Remedy)]) {
    let found = world.verify().await;
    assert!(!found.clean);
    assert_eq!(
        what(&found.divergences),
        expected,
        "{:#?}",
        found.divergences
    );

    let dry = world.repair(json!({ "dry_run": true })).await;
    assert_eq!((dry.repaired, dry.not_repairable), (0, 0), "{dry:#?}");
    assert!(dry.would_repair >= 1, "{dry:#?}");
    assert_eq!(
        what(&world.verify().await.divergences),
        expected,
        "a dry run changed something"
    );

    let mended = world.repair(json!({})).await;
    assert!(mended.clean && mended.repaired >= 1, "{mended:#?}");
    is_whole(world).await;
}

/// Both places hold the log that was written.
pub(super) async fn is_whole(world: &World) {
    let after = world.verify().await;
    assert!(after.clean, "{:#?}", after.divergences);
    // Idempotent: what is right is left alone.
    let again = world.repair(json!({ "fresh": true })).await;
    assert_eq!(
        (again.repaired, again.gone, again.not_repairable),
        (0, 0, 0)
    );
    // The log is what it was.
    for object in world.log.iter().flatten() {
        let (p, o) = (object.header.partition, object.header.offset);
        let postgres = world.commits.get(p, o).await.unwrap().unwrap();
        let s3 = world
            .objects
            .get(&keys::commit(p, o))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(postgres.bytes, object.bytes);
        assert_eq!(s3, object.bytes);
    }
}

pub(super) async fn quarantined(world: &World) -> Vec<String> {
    let kept = list_all(&*world.objects, "quarantine/", None)
        .await
        .unwrap();
    kept.into_iter().map(|info| info.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn law_15_equal_places_are_proven_equal() {
    let world = world().await;
    let report = world.verify().await;
    assert!(report.clean && report.full);
    let objects = N * 2;
    let events = (N - 1) * STREAMS * 2;
    assert_eq!((report.objects, report.events), (objects, events));
    assert_eq!(report.streams, STREAMS * 2);
    assert_eq!(report.unmirrored, 0);
    let bytes: usize = world.log.iter().flatten().map(|o| o.bytes.len()).sum();
    assert_eq!(report.bytes, bytes as u64);
    let heads: Vec<_> = world
        .log
        .iter()
        .map(|l| l.last().unwrap().hash().to_string())
        .collect();
    let digests: Vec<_> = report
        .partitions
        .iter()
        .filter_map(|p| p.digest.clone())
        .collect();
    assert_eq!(digests, heads);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_is_found_and_put_right() {
    let world = world().await;
    let changed = world
        .sql("UPDATE events SET envelope = replace(envelope::text, '4.50', '5.50')::json WHERE partition = 0 AND commit_offset = 4 AND idx = 1")
        .await;
    assert_eq!(changed, 1);
    let found = world.verify().await.divergences.remove(0);
    assert_eq!(found.stream.as_deref(), Some("order/0-1"));
    assert_eq!(found.version.map(|v| v.0), Some(4));
    assert_eq!((found.index, found.events), (Some(1), 1));
    assert_ne!(found.s3_event, found.postgres_event);
    mends(
        &world,
        &[(
            4,
            DamagedInPostgres,
            Some(Lead::S3),
            Remedy::ReplaceInPostgres,
        )],
    )
    .await;
    assert_eq!(quarantined(&world).await.len(), 1);
    assert!(world.count("SELECT count(*) FROM log_quarantine").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_contradicts_its_envelope_is_found_though_the_bytes_are_right() {
    let world = world().await;
    world
        .sql("UPDATE events SET stream_id = 'elsewhere' WHERE partition = 0 AND commit_offset = 6 AND idx = 2")
        .await;
    mends(
        &world,
        &[(
            6,
            DamagedInPostgres,
            Some(Lead::S3),
            Remedy::ReplaceInPostgres,
        )],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_too_many_and_too_few_are_found() {
    let world = world().await;
    // Beyond every commit, within one, and one deleted.
    world
        .sql("INSERT INTO events SELECT partition, 99, idx, stream_type, 'ghost', version, gen_random_uuid(), event_type, command_id, recorded, envelope FROM events WHERE partition = 0 AND commit_offset = 3 AND idx = 0")
        .await;
    world
        .sql("INSERT INTO events SELECT partition, commit_offset, 77, stream_type, 'ghost', 8, gen_random_uuid(), event_type, command_id, recorded, envelope FROM events WHERE partition = 0 AND commit_offset = 3 AND idx = 0")
        .await;
    world
        .sql("DELETE FROM events WHERE partition = 0 AND commit_offset = 7 AND idx = 1")
        .await;
    mends(
        &world,
        &[
            (
                3,
                DamagedInPostgres,
                Some(Lead::S3),
                Remedy::ReplaceInPostgres,
            ),
            (
                7,
                DamagedInPostgres,
                Some(Lead::S3),
                Remedy::ReplaceInPostgres,
            ),
            (99, ExtraInPostgres, None, Remedy::Quarantine),
        ],
    )
    .await;
    let ghosts = "SELECT count(*) FROM log_quarantine WHERE body ->> 'stream_id' = 'ghost'";
    assert_eq!(world.count(ghosts).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_commit_is_copied_from_the_bucket() {
    let world = world().await;
    for table in ["events", "commits"] {
        world
            .sql(&format!(
                "DELETE FROM {table} WHERE partition = 0 AND commit_offset IN (5, 6)"
            ))
            .await;
    }
    // Only the commit's row: its events are nobody's then.
    world
        .sql("DELETE FROM commits WHERE partition = 0 AND commit_offset = 9")
        .await;
    let found = world.verify().await;
    let lost: Vec<_> = found
        .divergences
        .iter()
        .map(|d| (d.offset, d.kind))
        .collect();
    assert_eq!(lost[..3], [5, 6, 9].map(|o| (o, MissingInPostgres)));
    assert_eq!(lost[3..], [(9, ExtraInPostgres); STREAMS as usize]);
    assert_eq!(found.divergent_streams, STREAMS);
    let mended = world.repair(json!({})).await;
    assert!(mended.clean, "{mended:#?}");
    assert!(world.verify().await.clean);
}

/// One object of the bucket is gone, one damaged, one forged; what is found, and what is there now.
pub(super) async fn harm_the_bucket(world: &World) -> [Bytes; 2] {
    world.objects.delete(&keys::commit(P, 2)).await.unwrap();
    let mut bytes = world.log[0][5].bytes.to_vec();
    let at = bytes.iter().position(|b| *b == b'}').unwrap();
    bytes[at] ^= 1;
    let damaged = Bytes::from(bytes);
    let key = keys::commit(P, 5);
    world.objects.put(&key, damaged.clone()).await.unwrap();
    let forgery = forged(&world.log[0][8]);
    world.overwrite(&forgery).await;
    [damaged, forgery.bytes.clone()]
}

pub(super) const HARM: [(u64, DivergenceKind, Option<Lead>, Remedy); 3] = [
    (2, MissingInS3, Some(Lead::Postgres), Remedy::CopyToS3),
    (5, DamagedInS3, Some(Lead::Postgres), Remedy::ReplaceInS3),
    (8, Differs, Some(Lead::Postgres), Remedy::ReplaceInS3),
];

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_damaged_objects_are_put_back_in_the_copy() {
    let world = World::new(N, STREAMS, StageKind::DualWritePostgres).await;
    harm_the_bucket(&world).await;
    mends(&world, &HARM).await;
    let kept = quarantined(&world).await;
    assert_eq!(kept.len(), 2, "{kept:?}");
    let hash = forged(&world.log[0][8]).hash();
    assert!(kept.contains(&keys::quarantined(P, 8, &hash)), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_well_formed_forgery_in_postgres_is_found_by_the_chain() {
    let expected = [(4, Differs, Some(Lead::S3), Remedy::ReplaceInPostgres)];
    let copy = world().await;
    copy.rewrite(&forged(&copy.log[0][4])).await;
    mends(&copy, &expected).await;

    let leader = World::new(N, STREAMS, StageKind::DualWritePostgres).await;
    leader.rewrite(&forged(&leader.log[0][4])).await;
    assert_eq!(what(&leader.verify().await.divergences), expected);
    let left = leader.repair(json!({})).await;
    assert_eq!((left.repaired, left.needs_order), (0, 1), "{left:#?}");
    assert_eq!(what(&leader.verify().await.divergences), expected);
    let named = left.results[0].needed.as_ref().unwrap().to_string();
    let mended = leader.repair(json!({ "replace_in_leader": [named] })).await;
    assert_eq!((mended.repaired, mended.needs_order), (1, 0), "{mended:#?}");
    is_whole(&leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_5_what_cannot_follow_the_log_goes_into_quarantine_and_from_the_leader_only_if_it_is_named()
 {
    let world = world().await;
    // S3 leads: PostgreSQL goes on with something that does not follow.
    let stray = {
        let mut odd = header(0, N, ObjectHash::of(b"elsewhere"), 1);
        odd.kind = oms::log::object::CommitKind::Control;
        oms::log::object::CommitObject::control(
            odd,
            oms::log::object::ControlRecord {
                lead: Lead::Postgres,
                epoch: oms::domain::ids::Epoch(9),
            },
        )
    };
    let text = String::from_utf8(stray.bytes.to_vec()).unwrap();
    let (head, control) = text.trim_end().split_once('\n').unwrap();
    world
        .sql(&format!(
            "INSERT INTO commits VALUES (0, {N}, 9, 'control', '{head}', '{control}', 1, {}, decode('{}', 'hex'), now())",
            stray.bytes.len(),
            stray.hash(),
        ))
        .await;
    for key in [
        "events/0000/notes.txt",
        "events/0099/00000000000000000000.ndjson",
    ] {
        world.objects.put(key, "what is this".into()).await.unwrap();
    }
    world
        .sql("INSERT INTO events SELECT 50, commit_offset, idx, stream_type, 'foreign', version, gen_random_uuid(), event_type, command_id, recorded, envelope FROM events WHERE partition = 0 AND commit_offset = 3 AND idx = 0")
        .await;
    let found = world.verify().await;
    let mut kinds: Vec<_> = found
        .divergences
        .iter()
        .map(|d| (d.kind, d.repair))
        .collect();
    kinds.sort_by_key(|k| k.0);
    assert_eq!(
        kinds,
        [
            (ExtraInS3, Remedy::Quarantine),
            (ExtraInS3, Remedy::Quarantine),
            (ExtraInPostgres, Remedy::Quarantine),
            (ExtraInPostgres, Remedy::Quarantine),
        ],
        "{:#?}",
        found.divergences
    );
    let in_s3 = async || {
        let strays = [
            "events/0000/notes.txt",
            "events/0099/00000000000000000000.ndjson",
        ];
        let mut there = 0;
        for key in strays {
            there += usize::from(world.objects.get(key).await.unwrap().is_some());
        }
        there
    };
    // S3 leads: what lies there is touched on a person's word alone.
    let copy_alone = world.repair(json!({})).await;
    let counts = |r: &RepairReport| (r.repaired, r.needs_order, r.not_repairable);
    assert_eq!(counts(&copy_alone), (2, 2, 0), "{copy_alone:#?}");
    assert_eq!(in_s3().await, 2);
    let needed = copy_alone.results.iter().filter_map(|r| r.needed.clone());
    let orders: Vec<String> = needed.map(|order| order.to_string()).collect();
    assert!(
        orders[0].starts_with("events/0000/notes.txt:"),
        "{orders:?}"
    );
    // Something else lies there by now.
    world
        .objects
        .put("events/0000/notes.txt", "another".into())
        .await
        .unwrap();
    world.verify().await;
    let half = world.repair(json!({ "replace_in_leader": orders })).await;
    assert_eq!(counts(&half), (1, 1, 0), "{half:#?}");
    assert_eq!(in_s3().await, 1);
    let needed = half.results.iter().find_map(|r| r.needed.clone()).unwrap();
    world.verify().await;
    let named = json!({ "replace_in_leader": [needed.to_string()] });
    let mended = world.repair(named).await;
    assert_eq!(counts(&mended), (1, 0, 0), "{mended:#?}");
    assert_eq!(in_s3().await, 0);
    assert!(world.verify().await.clean);
    assert_eq!(quarantined(&world).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_5_a_stray_row_of_the_leading_postgres_is_only_moved_if_it_is_named_as_it_is() {
    let world = World::new(N, STREAMS, StageKind::DualWritePostgres).await;
    world
        .sql("INSERT INTO events SELECT 50, commit_offset, idx, stream_type, 'foreign', version, gen_random_uuid(), event_type, command_id, recorded, envelope FROM events WHERE partition = 0 AND commit_offset = 3 AND idx = 0")
        .await;
    let there = "SELECT count(*) FROM events WHERE partition = 50";
    let counts = |r: &RepairReport| (r.repaired, r.needs_order, r.not_repairable);
    let found = world.verify().await;
    assert_eq!(
        what(&found.divergences),
        [(3, ExtraInPostgres, None, Remedy::Quarantine)]
    );
    let left = world.repair(json!({})).await;
    assert_eq!(counts(&left), (0, 1, 0), "{left:#?}");
    let needed = left.results[0].needed.as_ref().unwrap().to_string();
    assert!(needed.starts_with("row/50/3/0:"), "{needed}");
    // Named, but not as it is.
    let other = format!("row/50/3/0:{}", ObjectHash::of(b"another"));
    let left = world.repair(json!({ "replace_in_leader": [other] })).await;
    assert_eq!(counts(&left), (0, 1, 0), "{left:#?}");
    assert_eq!(world.count(there).await, 1);
    let order = json!({ "replace_in_leader": [needed] });
    let mended = world.repair(order).await;
    assert_eq!(counts(&mended), (1, 0, 0), "{mended:#?}");
    assert_eq!(world.count(there).await, 0);
    let kept = "SELECT count(*) FROM log_quarantine WHERE body ->> 'stream_id' = 'foreign'";
    assert_eq!(world.count(kept).await, 1);
    assert!(world.verify().await.clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_2_what_may_be_the_last_copy_is_only_moved_on_a_persons_word() {
    // PostgreSQL leads and ends before S3 does: a backup was restored, or somebody put it there.
    let world = World::new(N, STREAMS, StageKind::DualWritePostgres).await;
    let beyond = next(0, world.log[0].last(), STREAMS);
    world.overwrite(&beyond).await;
    // After a gap, in the leader.
    world.told.0.lock().stage = StageKind::DualWriteS3;
    let found = world.verify().await;
    assert!(found.clean && found.unmirrored == 1, "{found:#?}");
    world.told.0.lock().stage = StageKind::DualWritePostgres;

    let expected = [(N, ExtraInS3, None, Remedy::QuarantineOnOrder)];
    assert_eq!(what(&world.verify().await.divergences), expected);
    let refused = world.repair(json!({})).await;
    assert_eq!(
        (refused.repaired, refused.not_repairable),
        (0, 1),
        "{refused:#?}"
    );
    assert_eq!(what(&world.verify().await.divergences), expected);
    let moved = world.repair(json!({ "quarantine_beyond_end": true })).await;
    assert_eq!((moved.repaired, moved.not_repairable), (1, 0), "{moved:#?}");
    assert!(world.verify().await.clean);
    let key = keys::quarantined(P, N, &beyond.hash());
    let kept = world.objects.get(&key).await.unwrap().unwrap();
    assert_eq!(kept, beyond.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_after_a_gap_at_the_end_of_the_leader_is_named() {
    let world = world().await;
    let mut far = next(0, world.log[0].last(), STREAMS);
    far.header.offset = N + 3;
    let far = oms::log::object::CommitObject::parse(
        [
            serde_json::to_vec(&far.header).unwrap(),
            far.bytes[far.lines[0].start as usize - 1..].to_vec(),
        ]
        .concat()
        .into(),
    )
    .unwrap();
    world.overwrite(&far).await;
    assert_eq!(
        what(&world.verify().await.divergences),
        [
            (N, MissingInS3, None, Remedy::None),
            (N + 3, ExtraInS3, None, Remedy::QuarantineOnOrder),
        ]
    );
    // It lies in the log that leads.
    for order in [json!({}), json!({ "quarantine_beyond_end": true })] {
        let left = world.repair(order).await;
        let counts = (left.repaired, left.needs_order, left.not_repairable);
        assert_eq!(counts, (0, 1, 1), "{left:#?}");
    }
    let order = format!("0/{}:{}", N + 3, far.hash());
    world.repair(json!({ "replace_in_leader": [order] })).await;
    assert!(world.verify().await.clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_5_what_is_wrong_in_both_places_is_named_and_left_alone() {
    let world = world().await;
    let forgery = forged(&world.log[0][4]);
    world.overwrite(&forgery).await;
    world.rewrite(&forgery).await;
    world.overwrite(&forged(&world.log[0][9])).await;
    world
        .sql("DELETE FROM events WHERE partition = 0 AND commit_offset = 9")
        .await;
    let expected = [
        (5, ChainBroken, None, Remedy::None),
        (9, DamagedInPostgres, None, Remedy::None),
    ];
    assert_eq!(what(&world.verify().await.divergences), expected);
    let report = world.repair(json!({})).await;
    assert_eq!(
        (report.repaired, report.not_repairable),
        (0, 2),
        "{report:#?}"
    );
    assert_eq!(what(&world.verify().await.divergences), expected);
    assert!(quarantined(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_lags_is_unmirrored_not_divergent() {
    let world = world().await;
    for table in ["events", "commits"] {
        world
            .sql(&format!(
                "DELETE FROM {table} WHERE partition = 1 AND commit_offset >= 8"
            ))
            .await;
    }
    let report = world.verify().await;
    assert!(report.clean, "{:#?}", report.divergences);
    assert_eq!(report.unmirrored, N - 8);
    let second = report
        .partitions
        .iter()
        .find(|p| p.partition == PartitionId(1))
        .unwrap();
    assert_eq!((second.to, second.s3_end, second.postgres_end), (8, N, 8));
    // With PostgreSQL leading the same state means that it has lost what S3 holds.
    world.told.0.lock().stage = StageKind::DualWritePostgres;
    assert_eq!(world.verify().await.divergences_total, N - 8);
}
