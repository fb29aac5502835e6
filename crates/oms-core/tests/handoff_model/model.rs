//! What the nodes may do. Every decision is the service's own, by the functions of
//! `oms::migration`; this only says on which knowledge and in which order, and that is: on any there
//! ever was, in any.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use oms_core::domain::ids::{Epoch, Offset};
use oms_core::log::fence::may_append_in_s3;
use oms_core::log::lead::{Lead, Leadership};
use oms_core::log::object::ControlRecord;
use oms_core::migration::edge::Move;
use oms_core::migration::fence::may_append_in_postgres;
use oms_core::migration::handoff::{self, Action, Known, PostgresView, Wish};
use oms_core::migration::record::MigrationRow;
use oms_core::migration::stage::StageKind;
use stateright::{Model, Property};

use super::flaws::{Flaw, next};
use super::properties;
use super::world::{Object, Request, World, last_control};

/// Something that is true in some world.
pub type Sight = (&'static str, fn(&Handoff, &World) -> bool);

/// The row and both logs, when nothing is on its way.
type Quiet = (MigrationRow, Vec<Object>, Vec<Object>);

/// A hand-off of one partition between two nodes, within bounds that keep the worlds countable.
pub struct Handoff {
    /// Where the partition stands at first.
    pub start: StageKind,
    /// The stream of each command that clients send, to any node and again after an unknown
    /// outcome.
    pub streams: &'static [u8],
    /// Most changes of the row.
    pub changes: u64,
    /// Most requests on their way at once.
    pub requests: usize,
    /// The edges that may be begun.
    pub moves: &'static [Move],
    /// What must be seen on the way for silence to mean anything.
    pub sights: &'static [Sight],
    pub flaw: Option<Flaw>,
    /// Whether a lone node ends what it finds, by what it finds.
    pub ends: Mutex<HashMap<Quiet, bool>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A node decides something, on what it knows, and sends a request.
    Send(Request),
    /// A request takes effect.
    Arrive(Request),
}

#[derive(Debug, Clone, Copy)]
enum Intent {
    Begin(Move),
    End(Wish),
}

/// Two nodes; what tells them apart is only who has made an object.
const NODES: [u8; 2] = [0, 1];

impl Handoff {
    /// Every request that any node may send now, on any knowledge.
    fn requests_of(&self, world: &World) -> BTreeSet<Request> {
        let mut requests = BTreeSet::new();
        requests.extend(mirror_to_s3(world));
        requests.extend(mirror_to_postgres(world));
        for node in NODES {
            for command in 0..self.streams.len() as u8 {
                for log in [&world.postgres, &world.s3] {
                    self.write(world, node, command, log, &mut requests);
                }
            }
            self.steps(world, node, &mut requests);
        }
        requests
    }

    /// Steps of a hand-off. Each side may have been looked at long ago, in any order.
    fn steps(&self, world: &World, node: u8, requests: &mut BTreeSet<Request>) {
        let intents = [Intent::End(Wish::Finish), Intent::End(Wish::Undo)];
        let begins = self.moves.iter().map(|m| Intent::Begin(*m));
        let intents: Vec<Intent> = intents.into_iter().chain(begins).collect();
        let now = world.postgres_view();
        let end = now.next;
        let old = world.past.iter().flat_map(|seen| {
            // The end was read in the row's snapshot, or after it.
            (seen.next..=end).map(|next| PostgresView { next, ..*seen })
        });
        let torn = (self.flaw == Some(Flaw::EndReadBeforeRow)).then_some(0..end);
        let torn = torn.into_iter().flatten();
        let torn = torn.map(|next| PostgresView { next, ..now });
        for postgres in std::iter::once(now).chain(old).chain(torn) {
            for len in 0..=world.s3.len() {
                let s3 = Some(world.s3_view_at(len));
                let known = Known { postgres, s3 };
                for intent in &intents {
                    let action = match intent {
                        Intent::Begin(step) => handoff::begin(&known, *step, Offset::MAX),
                        Intent::End(wish) => next(&known, *wish, self.flaw),
                    };
                    requests.extend(Self::request(world, action, node));
                }
            }
        }
    }

    /// The request that an action comes to; copies go object by object.
    pub fn request(world: &World, action: Action, node: u8) -> Option<Request> {
        match action {
            Action::SetRow { from, to, .. } => Some(Request::SetRow { from, to }),
            Action::CopyToS3 { .. } => mirror_to_s3(world),
            Action::CopyToPostgres { .. } => mirror_to_postgres(world),
            Action::PutControlInS3 { offset, record } => Some(Request::PutInS3 {
                offset,
                object: Object::Control { record, by: node },
            }),
            Action::Done(_) | Action::Wait(_) => None,
        }
    }

    /// What a node's writers may send: an event on top of the log they have read from one of the
    /// stores, to the store that leads as far as they have heard, which may be long ago.
    fn write(
        &self,
        world: &World,
        node: u8,
        command: u8,
        log: &[Object],
        requests: &mut BTreeSet<Request>,
    ) {
        let own = self.streams[usize::from(command)];
        let mut version = 1;
        for object in log {
            if let Object::Event {
                stream, command: c, ..
            } = object
            {
                if *c == command {
                    return;
                }
                version += u8::from(*stream == own);
            }
        }
        let offset = log.len() as Offset;
        let event = |epoch| Object::Event {
            stream: own,
            version,
            command,
            epoch,
            by: node,
        };
        // Epochs are heard of from the row or from S3.
        let heard =
            last_control(&world.s3).map_or(world.row.epoch, |c| c.epoch.max(world.row.epoch));
        for epoch in (1..=heard.0).map(Epoch) {
            let object = event(epoch);
            // Without a lock the row is checked here; with it, when the transaction arrives.
            let unlocked = self.flaw == Some(Flaw::NoRowLock);
            if !unlocked || may_append_in_postgres(&world.row, epoch).is_ok() {
                requests.insert(Request::AppendInPostgres { offset, object });
            }
            let last = last_control(log).map(Leadership::from);
            let unaware = self.flaw == Some(Flaw::UnawareWriter) && has_led(&world.s3, epoch);
            if unaware || may_append_in_s3(last, epoch).is_ok() {
                requests.insert(Request::PutInS3 { offset, object });
            }
        }
    }
}

/// Whether S3 led in this epoch.
fn has_led(s3: &[Object], epoch: Epoch) -> bool {
    let record = ControlRecord {
        lead: Lead::S3,
        epoch,
    };
    s3.iter().any(|object| object.control() == Some(record))
}

pub fn mirror_to_s3(world: &World) -> Option<Request> {
    let object = *world.postgres.get(world.s3.len())?;
    let offset = world.s3.len() as Offset;
    Some(Request::PutInS3 { offset, object })
}

pub fn mirror_to_postgres(world: &World) -> Option<Request> {
    let object = *world.s3.get(world.postgres.len())?;
    let offset = world.postgres.len() as Offset;
    Some(Request::CopyToPostgres { offset, object })
}

impl Model for Handoff {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        let epoch = Epoch(1);
        let genesis = Object::Control {
            record: ControlRecord {
                lead: self.start.lead(),
                epoch,
            },
            by: 0,
        };
        // S3 may have heard of nothing yet. PostgreSQL has at least the beginning, or there would be
        // no row either.
        let (postgres, s3) = match self.start.lead() {
            Lead::Postgres => (vec![genesis], vec![]),
            Lead::S3 => (vec![genesis], vec![genesis]),
        };
        vec![World {
            row: MigrationRow::new(self.start, epoch),
            postgres,
            s3,
            on_their_way: vec![],
            past: vec![],
            gap: false,
        }]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        acts.extend(world.on_their_way.iter().map(|r| Act::Arrive(*r)));
        if world.on_their_way.len() < self.requests {
            acts.extend(self.requests_of(world).into_iter().map(Act::Send));
        }
    }

    fn next_state(&self, last: &World, act: Act) -> Option<World> {
        let mut world = last.clone();
        match act {
            Act::Send(request) => world.send(request, self.flaw),
            Act::Arrive(request) => world.arrive(request, self.flaw),
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let sights = self.sights.iter();
        let sights = sights.map(|(name, holds)| Property::sometimes(name, *holds));
        properties::always().into_iter().chain(sights).collect()
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.row.revision <= self.changes
    }
}
