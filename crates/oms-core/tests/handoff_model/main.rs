//! Law 14, model-checked: two nodes, one partition, two streams; crashes, lost answers and late
//! requests anywhere; every decision by the functions of `oms::migration` that the service calls.
//!
//! Each test prints how many worlds it has judged. The bounds keep them countable: what is bounded
//! is how many writes, changes of the row and requests on their way there are, never their order.
//!
//! A binary of its own: each of these takes every processor, for minutes where nothing is optimised. Tests
//! beside it that wait for servers would wait for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod flaws;
mod model;
mod properties;
mod sights;
mod world;

use std::time::{Duration, Instant};

use oms_core::migration::edge::{Direction, Edge, Move};
use oms_core::migration::stage::StageKind;
use stateright::{Checker, HasDiscoveries, Model};

use flaws::Flaw;
use model::{Handoff, Sight};
use world::World;

const FORWARD: Move = Move::new(Edge::B, Direction::Forward);
const BACKWARD: Move = Move::new(Edge::B, Direction::Backward);

fn edge_b(start: StageKind, sights: &'static [Sight]) -> Handoff {
    Handoff {
        start,
        streams: &[0, 1],
        changes: 4,
        requests: 2,
        moves: &[FORWARD, BACKWARD],
        sights,
        flaw: None,
        ends: Default::default(),
    }
}

/// Judges every world within the bounds.
fn check(name: &str, model: Handoff) {
    let began = Instant::now();
    let checker = model
        .checker()
        .threads(threads())
        .symmetry_fn(World::representative)
        .spawn_dfs()
        .join();
    println!(
        "{name}: {} worlds judged, {} ways between them, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        began.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn law_14_the_lead_moves_to_s3_and_back() {
    let model = || edge_b(StageKind::DualWritePostgres, sights::TO_S3);
    check(
        "to S3, and back or again",
        Handoff {
            changes: 6,
            ..model()
        },
    );
    let streams = &[0, 0, 1];
    check("to S3, rivals on a stream", Handoff { streams, ..model() });
    let streams = &[0, 0];
    check(
        "to S3, much on its way",
        Handoff {
            streams,
            requests: 3,
            ..model()
        },
    );
}

#[test]
fn law_14_the_lead_moves_to_postgres_and_back() {
    let model = || edge_b(StageKind::DualWriteS3, sights::TO_POSTGRES);
    check("to PostgreSQL, and back or again", model());
    let streams = &[0, 0];
    check(
        "to PostgreSQL, rivals on a stream",
        Handoff { streams, ..model() },
    );
    let streams = &[0];
    check(
        "to PostgreSQL, much on its way",
        Handoff {
            streams,
            requests: 3,
            ..model()
        },
    );
}

#[test]
fn law_14_the_whole_road_is_walked_there_and_back() {
    let model = Handoff {
        streams: &[0],
        // Four edges of one change each, b there in three and back in two.
        changes: 9,
        requests: 1,
        moves: &Move::ALL,
        ..edge_b(StageKind::Legacy, sights::ALL_THE_WAY)
    };
    check("the whole road", model);
}

/// Far beyond what finding a flaw takes.
const SEARCH: Duration = Duration::from_secs(120);

#[test]
fn every_broken_protocol_is_found_out() {
    for flaw in Flaw::ALL {
        let broken = |start| {
            let began = Instant::now();
            let model = Handoff {
                flaw: Some(flaw),
                ..edge_b(start, &[])
            };
            let checker = model
                .checker()
                .threads(threads())
                .finish_when(HasDiscoveries::AnyFailures)
                .timeout(SEARCH)
                .spawn_bfs()
                .join();
            let found: Vec<_> = checker.discoveries().into_iter().collect();
            for (law, path) in &found {
                let steps = path.clone().into_actions().len();
                println!(
                    "{flaw:?} from {start}: after {steps} steps and {} worlds, {:.1} s: {law}",
                    checker.unique_state_count(),
                    began.elapsed().as_secs_f64()
                );
            }
            !found.is_empty()
        };
        assert!(
            broken(StageKind::DualWritePostgres) || broken(StageKind::DualWriteS3),
            "{flaw:?} was not found"
        );
    }
}
