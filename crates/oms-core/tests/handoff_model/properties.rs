//! What must hold in every world.

use std::collections::HashMap;

use oms_core::log::fence::may_append_in_s3;
use oms_core::log::lead::{Lead, Leadership};
use oms_core::migration::fence::may_append_in_postgres;
use oms_core::migration::handoff::{Action, Known, Wish, next_action};
use oms_core::migration::record::Step;
use stateright::Property;

use super::model::Handoff;
use super::world::{Object, World, last_control};

pub const LEADER_HAS_ALL: &str = "law 2: the leading store holds every event that took effect";
pub const ONE_LOG: &str = "one store is a prefix of the other, byte for byte, without a gap";
pub const ONE_CONTENT: &str = "law 7: a version has one content, a command took effect once";
pub const ONE_LEADER: &str = "law 1: at most one store takes writes";
pub const ENDS: &str = "law 14: whoever finds a hand-off ends it, and writes go on";

pub fn always() -> Vec<Property<Handoff>> {
    vec![
        Property::always(LEADER_HAS_ALL, |_, w| leader_has_all(w)),
        Property::always(ONE_LOG, |_, w| one_log(w)),
        Property::always(ONE_CONTENT, |_, w| one_content(w)),
        Property::always(ONE_LEADER, |_, w| one_leader(w)),
        Property::always(ENDS, ends),
    ]
}

fn leader_has_all(world: &World) -> bool {
    let leading = world.leading();
    let both = world.postgres.iter().chain(&world.s3);
    let mut events = both.filter(|o| o.control().is_none());
    events.all(|event| leading.contains(event))
}

fn one_log(world: &World) -> bool {
    !world.gap && world.postgres.iter().zip(&world.s3).all(|(a, b)| a == b)
}

fn one_content(world: &World) -> bool {
    let mut contents: HashMap<(u8, u8), Object> = HashMap::new();
    [&world.postgres, &world.s3].into_iter().all(|log| {
        let mut commands = Vec::new();
        let mut heads = HashMap::<u8, u8>::new();
        log.iter().all(|object| match *object {
            Object::Control { .. } => true,
            Object::Event {
                stream,
                version,
                command,
                ..
            } => {
                let head = heads.entry(stream).or_default();
                *head += 1;
                let once = !commands.contains(&command);
                commands.push(command);
                let content = *contents.entry((stream, version)).or_insert(*object);
                once && version == *head && content == *object
            }
        })
    })
}

fn one_leader(world: &World) -> bool {
    let postgres = may_append_in_postgres(&world.row, world.row.epoch).is_ok();
    let last = last_control(&world.s3).map(Leadership::from);
    let s3 = last.is_some_and(|l| may_append_in_s3(Some(l), l.epoch).is_ok());
    !(postgres && s3)
}

/// More steps than any hand-off has, copies counted one by one.
const PATIENCE: usize = 24;

/// All nodes are gone but one, which knows nothing: it looks, asks what to do next, does it, and so
/// on. What others left on its way may arrive in between, but that is again a world to be judged,
/// and there is only so much of it.
fn ends(model: &Handoff, world: &World) -> bool {
    let key = (world.row, world.postgres.clone(), world.s3.clone());
    let known = |found: &mut HashMap<_, bool>| found.get(&key).copied();
    if let Some(answer) = model
        .ends
        .lock()
        .ok()
        .and_then(|mut found| known(&mut found))
    {
        return answer;
    }
    let answer = [Wish::Finish, Wish::Undo]
        .into_iter()
        .all(|wish| lone_end(world, wish));
    if let Ok(mut found) = model.ends.lock() {
        found.insert(key, answer);
    }
    answer
}

fn lone_end(world: &World, wish: Wish) -> bool {
    let mut world = World {
        on_their_way: vec![],
        ..world.clone()
    };
    for _ in 0..PATIENCE {
        let known = Known {
            postgres: world.postgres_view(),
            s3: Some(world.s3_view()),
        };
        let action = next_action(&known, wish);
        if let Action::Done(leadership) = action {
            return world.row.step == Step::Steady && takes_writes(&world, leadership);
        }
        match Handoff::request(&world, action, 0) {
            Some(request) => world.arrive(request, None),
            None => return false,
        }
    }
    false
}

fn takes_writes(world: &World, leadership: Leadership) -> bool {
    match leadership.lead {
        Lead::Postgres => may_append_in_postgres(&world.row, leadership.epoch).is_ok(),
        Lead::S3 => {
            let last = last_control(&world.s3).map(Leadership::from);
            may_append_in_s3(last, leadership.epoch).is_ok()
        }
    }
}
