//! What a model must have come by for its silence to mean anything.

use oms_core::log::lead::Lead;
use oms_core::log::object::ControlRecord;
use oms_core::migration::record::Step;
use oms_core::migration::stage::StageKind;

use super::model::Sight;
use super::world::{Object, Request, World, last_control};

fn ends_with_event(log: &[Object]) -> bool {
    matches!(log.last(), Some(Object::Event { .. }))
}

fn s3_leads(world: &World) -> bool {
    last_control(&world.s3).is_some_and(|c| c.lead == Lead::S3)
}

fn postgres_leads(world: &World) -> bool {
    world.row.stage.lead() == Lead::Postgres && world.row.step == Step::Steady
}

/// Leads given by control records, one after the other.
fn leads(log: &[Object]) -> Vec<Lead> {
    let controls = log.iter().filter_map(Object::control);
    controls.map(|c: ControlRecord| c.lead).collect()
}

/// Both records are on their way to one offset.
fn rivals(world: &World) -> bool {
    let to = |lead: Lead| {
        world.on_their_way.iter().any(|request| match request {
            Request::PutInS3 { object, .. } => object.control().is_some_and(|c| c.lead == lead),
            _ => false,
        })
    };
    to(Lead::S3) && to(Lead::Postgres)
}

/// An event is on its way to S3.
fn event_on_its_way(world: &World) -> bool {
    world.on_their_way.iter().any(|request| match request {
        Request::PutInS3 { object, .. } => object.control().is_none(),
        _ => false,
    })
}

/// From `dual_write/postgres`.
pub const TO_S3: &[Sight] = &[
    (
        "S3 takes a write after leading for the first time",
        |_, w| s3_leads(w) && ends_with_event(&w.s3),
    ),
    (
        "PostgreSQL takes a write after a drain was undone",
        |_, w| {
            postgres_leads(w)
                && w.row.epoch.0 > 1
                && leads(&w.postgres).len() == 1
                && ends_with_event(&w.postgres)
        },
    ),
    (
        "PostgreSQL takes a write after a seal was undone",
        |_, w| {
            postgres_leads(w)
                && leads(&w.postgres) == [Lead::Postgres, Lead::Postgres]
                && ends_with_event(&w.postgres)
        },
    ),
    (
        "the records of finish and undo race for one offset",
        |_, w| w.row.step == Step::SealingToS3 && rivals(w),
    ),
];

/// From `dual_write/s3`.
pub const TO_POSTGRES: &[Sight] = &[
    (
        "PostgreSQL takes a write after leading for the first time",
        |_, w| postgres_leads(w) && ends_with_event(&w.postgres),
    ),
    (
        "S3 takes a write after a seal that never reached it was undone",
        |_, w| {
            w.row.step == Step::Steady
                && leads(&w.s3) == [Lead::S3, Lead::S3]
                && ends_with_event(&w.s3)
        },
    ),
    (
        "S3 takes a write after a seal that reached it was undone",
        |_, w| {
            w.row.step == Step::Steady
                && leads(&w.s3) == [Lead::S3, Lead::Postgres, Lead::S3]
                && ends_with_event(&w.s3)
        },
    ),
    (
        "a write races with the record that ends S3's lead",
        |_, w| w.row.step == Step::SealingToPostgres && event_on_its_way(w),
    ),
    (
        "the records of finish and undo race for one offset",
        |_, w| w.row.step == Step::UndoingToS3 && rivals(w),
    ),
];

/// From one end of the road.
pub const ALL_THE_WAY: &[Sight] = &[
    ("S3 leads alone and takes a write", |_, w| {
        w.row.stage == StageKind::S3Only && s3_leads(w) && ends_with_event(&w.s3)
    }),
    ("PostgreSQL leads alone again after S3 led alone", |_, w| {
        w.row.stage == StageKind::Legacy
            && leads(&w.postgres).contains(&Lead::S3)
            && w.row.revision > 8
    }),
];
