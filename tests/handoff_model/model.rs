//! What the nodes may do. Every decision is the service's own, by the functions of
//! `oms::migration`; this only says in which order things may happen, and that is: in any.

use std::collections::HashMap;
use std::sync::Mutex;

use oms::domain::ids::{Epoch, Offset};
use oms::log::object::ControlRecord;
use oms::migration::edge::Move;
use oms::migration::fence::{may_append_in_postgres, may_append_in_s3};
use oms::migration::handoff::{self, Known, Wish};
use oms::migration::lead::{Lead, Leadership};
use oms::migration::record::MigrationRow;
use oms::migration::stage::StageKind;
use stateright::{Model, Property};

use super::flaws::{Flaw, next};
use super::properties;
use super::world::{Node, Object, Request, Seen, World, last_control};

/// The stream each command writes to: two on the first, one on the second.
const STREAMS: [u8; 3] = [0, 0, 1];

/// Something that is true in some world.
pub type Sight = (&'static str, fn(&Handoff, &World) -> bool);

/// A hand-off of one partition between two nodes, within bounds that keep the worlds countable.
pub struct Handoff {
    /// Where the partition stands at first.
    pub start: StageKind,
    /// Commands that clients send, to any node and again after an unknown outcome.
    pub commands: u8,
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
    pub ends: Mutex<HashMap<(MigrationRow, Vec<Object>, Vec<Object>), bool>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A node forgets everything.
    Crash(usize),
    /// A node's writers hear who leads: what the row says, or the last control record.
    HearRow(usize),
    HearS3(usize),
    /// A client's command, on top of what the node has read of this store.
    Write(usize, u8, Lead),
    /// A mirror copies the next object.
    MirrorToS3,
    MirrorToPostgres,
    /// A node looks at one side, to decide when it has looked at the other.
    LookAtPostgres(usize),
    LookAtPostgresEnd(usize),
    LookAtS3(usize),
    /// It looks at the other side, decides, and sends what was decided.
    Step(usize, Intent),
    /// A request takes effect.
    Arrive(Request),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    Begin(Move),
    End(Wish),
}

impl Handoff {
    /// What is known to a node that saw one side before and sees the other now.
    fn known(world: &World, seen: Seen) -> Known {
        let (postgres, s3) = match seen {
            Seen::Postgres(view) => (view, world.s3_view()),
            Seen::S3(view) => (world.postgres_view(), view),
            Seen::PostgresEnd(next) => {
                let now = world.postgres_view();
                (handoff::PostgresView { next, ..now }, world.s3_view())
            }
        };
        Known {
            postgres,
            s3: Some(s3),
        }
    }

    fn decide(&self, known: &Known, intent: Intent) -> handoff::Action {
        match intent {
            Intent::Begin(step) => handoff::begin(known, step, Offset::MAX),
            Intent::End(wish) => next(known, wish, self.flaw),
        }
    }

    /// The request that an action comes to; copies go object by object.
    pub fn request(world: &World, action: handoff::Action, node: usize) -> Option<Request> {
        match action {
            handoff::Action::SetRow { from, to, .. } => Some(Request::SetRow { from, to }),
            handoff::Action::CopyToS3 { .. } => mirror_to_s3(world),
            handoff::Action::CopyToPostgres { .. } => mirror_to_postgres(world),
            handoff::Action::PutControlInS3 { offset, record } => Some(Request::PutInS3 {
                offset,
                object: Object::Control {
                    record,
                    by: node as u8,
                },
            }),
            handoff::Action::Done(_) | handoff::Action::Wait(_) => None,
        }
    }

    /// What a writer sends: an event on top of the log it has read, to the store it has heard
    /// leads.
    fn write(&self, world: &World, node: usize, command: u8, read: Lead) -> Option<Request> {
        let heard = world.nodes[node].heard?;
        let log = match read {
            Lead::Postgres => &world.postgres,
            Lead::S3 => &world.s3,
        };
        let mut version = 1;
        for object in log {
            if let Object::Event {
                stream, command: c, ..
            } = object
            {
                if *c == command {
                    return None;
                }
                version += u8::from(*stream == STREAMS[usize::from(command)]);
            }
        }
        let object = Object::Event {
            stream: STREAMS[usize::from(command)],
            version,
            command,
            epoch: heard.epoch,
            by: node as u8,
        };
        let offset = log.len() as Offset;
        match heard.lead {
            Lead::Postgres => {
                let unlocked = self.flaw == Some(Flaw::NoRowLock);
                if unlocked && may_append_in_postgres(&world.row, heard.epoch).is_err() {
                    return None;
                }
                Some(Request::AppendInPostgres { offset, object })
            }
            Lead::S3 => {
                let last = last_control(log).map(Leadership::from);
                let deaf = self.flaw == Some(Flaw::DeafWriter);
                (deaf || may_append_in_s3(last, heard.epoch).is_ok())
                    .then_some(Request::PutInS3 { offset, object })
            }
        }
    }
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
        // Only the leading store has a beginning; the other may have heard of nothing yet.
        let (postgres, s3) = match self.start.lead() {
            Lead::Postgres => (vec![genesis], vec![]),
            Lead::S3 => (vec![], vec![genesis]),
        };
        vec![World {
            row: MigrationRow::new(self.start, epoch),
            postgres,
            s3,
            on_their_way: vec![],
            nodes: [Node::default(); 2],
            gap: false,
        }]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        acts.extend(world.on_their_way.iter().map(|r| Act::Arrive(*r)));
        let may_send = world.on_their_way.len() < self.requests;
        for (node, state) in world.nodes.iter().enumerate() {
            acts.extend([Act::Crash(node), Act::HearRow(node), Act::HearS3(node)]);
            match state.seen {
                None => acts.extend([Act::LookAtPostgres(node), Act::LookAtS3(node)]),
                Some(_) if may_send => {
                    let intents = [Intent::End(Wish::Finish), Intent::End(Wish::Undo)];
                    let begins = self.moves.iter().map(|m| Intent::Begin(*m));
                    acts.extend(intents.into_iter().chain(begins).map(|i| Act::Step(node, i)));
                }
                Some(_) => {}
            }
            if state.seen.is_none() && self.flaw == Some(Flaw::EndReadBeforeRow) {
                acts.push(Act::LookAtPostgresEnd(node));
            }
            if may_send {
                for command in 0..self.commands {
                    acts.push(Act::Write(node, command, Lead::Postgres));
                    acts.push(Act::Write(node, command, Lead::S3));
                }
            }
        }
        if may_send {
            acts.extend([Act::MirrorToS3, Act::MirrorToPostgres]);
        }
    }

    fn next_state(&self, last: &World, act: Act) -> Option<World> {
        let with = |change: &dyn Fn(&mut World)| {
            let mut world = last.clone();
            change(&mut world);
            (world != *last).then_some(world)
        };
        let sent = |request: Option<Request>| {
            let request = request?;
            with(&|world| world.send(request))
        };
        match act {
            Act::Crash(node) => with(&|w| w.nodes[node] = Node::default()),
            Act::HearRow(node) => with(&|w| w.nodes[node].heard = Some(w.row.leadership())),
            Act::HearS3(node) => {
                let control = last_control(&last.s3)?;
                with(&|w| w.nodes[node].heard = Some(control.into()))
            }
            Act::Write(node, command, read) => sent(self.write(last, node, command, read)),
            Act::MirrorToS3 => sent(mirror_to_s3(last)),
            Act::MirrorToPostgres => sent(mirror_to_postgres(last)),
            Act::LookAtPostgres(node) => {
                with(&|w| w.nodes[node].seen = Some(Seen::Postgres(w.postgres_view())))
            }
            Act::LookAtPostgresEnd(node) => with(&|w| {
                w.nodes[node].seen = Some(Seen::PostgresEnd(w.postgres_view().next));
            }),
            Act::LookAtS3(node) => with(&|w| w.nodes[node].seen = Some(Seen::S3(w.s3_view()))),
            Act::Step(node, intent) => {
                let known = Self::known(last, last.nodes[node].seen?);
                let action = self.decide(&known, intent);
                // Nothing sent: the same as a crash of the part that looked.
                let request = Self::request(last, action, node)?;
                with(&|w| {
                    w.nodes[node].seen = None;
                    w.send(request);
                })
            }
            Act::Arrive(request) => with(&|w| w.arrive(request, self.flaw)),
        }
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
