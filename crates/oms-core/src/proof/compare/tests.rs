use std::sync::Arc;

use super::*;
use crate::log::object::CommitObject;
use crate::proof::found::Damage;
use crate::proof::testing::chain;

const P: PartitionId = PartitionId(0);

fn is(object: &CommitObject) -> Found {
    Found::Object(Arc::new(object.clone()))
}

fn damaged(object: &CommitObject) -> Found {
    let mut bytes = object.bytes.to_vec();
    let at = bytes.len() / 2;
    bytes.truncate(at);
    Found::Damaged(Damage {
        bytes: bytes.into(),
        why: "cut short".into(),
    })
}

/// Another object that reads as well, and follows the same predecessor.
fn forged(object: &CommitObject) -> CommitObject {
    let text = String::from_utf8(object.bytes.to_vec()).unwrap();
    let other = text.replacen("\"actor\":\"a\"", "\"actor\":\"b\"", 1);
    assert_ne!(other, text);
    CommitObject::parse(other.into()).unwrap()
}

struct World {
    objects: Vec<CommitObject>,
    s3: Vec<Found>,
    postgres: Vec<Found>,
}

impl World {
    fn new(n: u64) -> Self {
        let objects = chain(0, n, 2);
        Self {
            s3: objects.iter().map(is).collect(),
            postgres: objects.iter().map(is).collect(),
            objects,
        }
    }

    fn compare(&self, lead: Lead, after: &Found) -> Vec<Divergence> {
        let mut comparison = Comparison::new(P, Some(lead), 0, None);
        let mut found = Vec::new();
        for (s3, postgres) in self.s3.iter().zip(&self.postgres) {
            found.extend(comparison.take(s3, postgres));
        }
        found.extend(comparison.end(after));
        assert_eq!(comparison.next_offset(), self.s3.len() as u64);
        found
    }
}

fn what(found: &[Divergence]) -> Vec<(u64, DivergenceKind, Option<Lead>, Remedy)> {
    let what = found.iter().map(|d| (d.offset, d.kind, d.right, d.repair));
    what.collect()
}

use DivergenceKind::*;

#[test]
fn equal_logs_have_nothing_to_tell() {
    assert_eq!(World::new(20).compare(Lead::S3, &Found::Absent), []);
}

#[test]
fn the_chain_names_the_right_one_whoever_leads() {
    for lead in [Lead::S3, Lead::Postgres] {
        let mut world = World::new(9);
        world.s3[2] = is(&forged(&world.objects[2]));
        world.postgres[4] = is(&forged(&world.objects[4]));
        world.s3[6] = damaged(&world.objects[6]);
        let found = world.compare(lead, &Found::Absent);
        assert_eq!(
            what(&found),
            [
                (2, Differs, Some(Lead::Postgres), Remedy::ReplaceInS3),
                (4, Differs, Some(Lead::S3), Remedy::ReplaceInPostgres),
                (6, DamagedInS3, Some(Lead::Postgres), Remedy::ReplaceInS3),
            ]
        );
        // Event by event: the first of the two was changed, version 2 of its stream.
        assert_eq!(found[0].events, 1);
        assert_eq!(found[0].index, Some(0));
        assert_eq!(found[0].stream.as_deref(), Some("order/0-0"));
        assert_eq!(found[0].version.map(|v| v.0), Some(2));
        assert_ne!(found[0].s3_event, found[0].postgres_event);
    }
}

#[test]
fn a_run_of_differences_is_decided_from_its_end() {
    let mut world = World::new(9);
    for i in 2..7 {
        world.s3[i] = is(&forged(&world.objects[i]));
    }
    world.postgres[4] = Found::Absent;
    let found = world.compare(Lead::S3, &Found::Absent);
    let right: Vec<_> = found.iter().map(|d| (d.offset, d.right)).collect();
    // At 4 neither is right; what comes before it cannot be judged by the chain any more.
    assert_eq!(
        right,
        [
            (2, None),
            (3, None),
            (4, None),
            (5, Some(Lead::Postgres)),
            (6, Some(Lead::Postgres)),
        ]
    );
    assert!(found[..3].iter().all(|d| d.repair == Remedy::None));
}

#[test]
fn what_only_one_place_holds_is_copied() {
    let mut world = World::new(8);
    world.s3[2] = Found::Absent;
    world.postgres[5] = Found::Absent;
    world.postgres[7] = damaged(&world.objects[7]);
    assert_eq!(
        what(&world.compare(Lead::Postgres, &Found::Absent)),
        [
            (2, MissingInS3, Some(Lead::Postgres), Remedy::CopyToS3),
            (5, MissingInPostgres, Some(Lead::S3), Remedy::CopyToPostgres),
            (
                7,
                DamagedInPostgres,
                Some(Lead::S3),
                Remedy::ReplaceInPostgres
            ),
        ]
    );
}

#[test]
fn the_last_object_is_decided_by_what_follows_it_or_else_by_the_leader() {
    let mut world = World::new(5);
    world.s3[4] = is(&forged(&world.objects[4]));
    for lead in [Lead::S3, Lead::Postgres] {
        let found = world.compare(lead, &Found::Absent);
        assert_eq!(found[0].right, Some(lead));
    }
    // The leader goes on, and names the right one.
    let next = is(&chain(0, 6, 2)[5]);
    let found = world.compare(Lead::S3, &next);
    assert_eq!(found[0].right, Some(Lead::Postgres));
    // Nobody decides while the lead is being moved.
    let mut comparison = Comparison::new(P, None, 0, None);
    for (s3, postgres) in world.s3.iter().zip(&world.postgres) {
        comparison.take(s3, postgres);
    }
    assert_eq!(comparison.end(&Found::Absent)[0].repair, Remedy::None);
}

#[test]
fn law_1_a_copy_that_went_its_own_way_does_not_decide_where_the_leader_is_damaged() {
    // The copy holds another history from 3 on; the leader's last object cannot be read.
    let mut world = World::new(6);
    let (mut rival, mut prev) = (Vec::new(), world.objects[2].hash());
    for object in &world.objects[3..] {
        let text = String::from_utf8(forged(object).bytes.to_vec()).unwrap();
        let old = object.header.prev.to_string();
        let other = CommitObject::parse(text.replace(&old, &prev.to_string()).into()).unwrap();
        prev = other.hash();
        rival.push(other);
    }
    for (at, object) in (3..).zip(&rival) {
        world.postgres[at] = is(object);
    }
    world.s3[5] = damaged(&world.objects[5]);
    let found = world.compare(Lead::S3, &Found::Absent);
    let to_s3 = |d: &&Divergence| matches!(d.repair, Remedy::ReplaceInS3 | Remedy::CopyToS3);
    assert_eq!(found.len(), 3);
    assert_eq!(found.iter().find(to_s3), None);
}

#[test]
fn both_wrong_is_named_and_not_repaired() {
    let mut world = World::new(6);
    let forgery = forged(&world.objects[3]);
    world.s3[3] = is(&forgery);
    world.postgres[3] = damaged(&world.objects[3]);
    assert_eq!(
        what(&world.compare(Lead::S3, &Found::Absent)),
        [(3, DamagedInPostgres, None, Remedy::None)]
    );
    // The same wrong object in both places: only the chain tells.
    world.postgres[3] = is(&forgery);
    assert_eq!(
        what(&world.compare(Lead::S3, &Found::Absent)),
        [(4, ChainBroken, None, Remedy::None)]
    );
}

#[test]
fn an_interrupted_comparison_goes_on_where_everything_is_decided() {
    let mut world = World::new(8);
    world.s3[3] = is(&forged(&world.objects[3]));
    world.s3[4] = Found::Absent;
    let whole = world.compare(Lead::S3, &Found::Absent);
    for stop in 0..8 {
        let mut first = Comparison::new(P, Some(Lead::S3), 0, None);
        let mut found = Vec::new();
        for i in 0..stop {
            found.extend(first.take(&world.s3[i], &world.postgres[i]));
        }
        let (at, prev) = first.settled();
        let mut second = Comparison::new(P, Some(Lead::S3), at, prev);
        for i in at as usize..8 {
            found.extend(second.take(&world.s3[i], &world.postgres[i]));
        }
        found.extend(second.end(&Found::Absent));
        assert_eq!(found, whole, "stopped at {stop}");
    }
}

#[test]
fn law_13_a_run_without_end_is_decided_piece_by_piece() {
    let n = MAX_PENDING as u64 + 50;
    let objects = chain(0, n, 1);
    let mut comparison = Comparison::new(P, Some(Lead::S3), 0, None);
    let mut found = Vec::new();
    for object in &objects {
        found.extend(comparison.take(&is(object), &Found::Absent));
        assert!(comparison.next_offset() - comparison.settled().0 <= MAX_PENDING as u64);
    }
    found.extend(comparison.end(&Found::Absent));
    assert_eq!(found.len() as u64, n);
    assert!(found.iter().all(|d| d.repair == Remedy::CopyToPostgres));
}
