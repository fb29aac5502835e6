//! A partition of the log against a plain model of it: what was appended, in order. It may be put
//! down at any time and taken up again from any of its checkpoints and the objects after them, and
//! a command may be sent again at any time.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::batch::{Append, AppendOutcome, BatchLimits, Owner, Stamp};
use super::lead::{Lead, Leadership};
use super::object::{CommitObject, ControlRecord, ObjectHash};
use super::partition::PartitionLog;
use super::segment::Segment;
use crate::domain::event::{Envelope, Idempotency, NewEvent, Provenance, encode};
use crate::domain::ids::{
    CommandId, Epoch, EventId, EventType, Offset, PartitionId, Position, StreamName, StreamType,
    Version, WriterId,
};

const ID: PartitionId = PartitionId(3);

/// Room for every batch of the model.
const LIMITS: BatchLimits = BatchLimits {
    events: 64,
    bytes: 1 << 20,
};

#[derive(Debug, Clone)]
enum Step {
    /// Commands of one batch: stream, number of events, whether with an idempotency key.
    Append(Vec<(u8, usize, bool)>),
    /// An append that was decided on another version than the stream has.
    Stale(u8, u64),
    /// A command that was committed is sent again; as it was, or with another request.
    Again(prop::sample::Index, bool),
    Control,
    Checkpoint,
    /// Taken up again from so many of the checkpoints.
    Restart(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let command = (0_u8..4, 1_usize..4, any::<bool>());
    prop_oneof![
        6 => prop::collection::vec(command, 1..5).prop_map(Step::Append),
        1 => (0_u8..4, 1_u64..3).prop_map(|(stream, off)| Step::Stale(stream, off)),
        2 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(i, same)| Step::Again(i, same)),
        1 => Just(Step::Control),
        2 => Just(Step::Checkpoint),
        2 => any::<prop::sample::Index>().prop_map(Step::Restart),
    ]
}

/// A command that was committed.
#[derive(Debug, Clone)]
struct Done {
    stream: u8,
    version: u64,
    events: usize,
    offset: Offset,
    index: u32,
    keyed: bool,
}

/// What happened.
#[derive(Default)]
struct Model {
    /// Of each stream the command and the place of each event, from version 1.
    streams: BTreeMap<u8, Vec<(u128, Position)>>,
    commands: BTreeMap<u128, Done>,
    controls: Vec<(Offset, Leadership)>,
}

impl Model {
    fn head(&self, stream: u8) -> u64 {
        self.streams.get(&stream).map_or(0, Vec::len) as u64
    }
}

struct World {
    log: PartitionLog,
    model: Model,
    objects: Vec<Bytes>,
    segments: Vec<Vec<u8>>,
    /// Commands sent so far.
    sent: u128,
}

fn name(stream: u8) -> StreamName {
    StreamName::new(&StreamType::new("s").unwrap(), &[&stream.to_string()]).unwrap()
}

fn hash_of(command: u128) -> u64 {
    command as u64 + 7
}

fn append(stream: u8, after: u64, events: usize, command: u128, hash: Option<u64>) -> Append<u128> {
    let event = NewEvent {
        event_type: EventType::new("E").unwrap(),
        schema_version: 1,
        // Events of different lengths, so that a wrong location cannot go unnoticed.
        data: serde_json::value::to_raw_value(&"x".repeat(command as usize % 5)).unwrap(),
        metadata: None,
    };
    let provenance = Provenance {
        command_id: CommandId(Uuid::from_u128(command)),
        correlation_id: String::new(),
        actor: "t".into(),
        trace: None,
        idempotency: hash.map(|request_hash| Idempotency {
            key: command.to_string(),
            request_hash,
        }),
        time: Timestamp::UNIX_EPOCH,
    };
    let (stream, after) = (name(stream), Version(after));
    let events = vec![event; events];
    Append {
        stream: stream.key(),
        expected: after,
        command: provenance.command_id,
        request_hash: hash,
        events: encode(&stream, after, &events, &provenance, || {
            EventId(Uuid::from_u128(command))
        }),
        reply: command,
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            log: PartitionLog::new(ID),
            model: Model::default(),
            objects: Vec::new(),
            segments: Vec::new(),
            sent: 0,
        };
        world.control();
        world
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            writer: WriterId(Uuid::from_u128(1)),
            batch: self.objects.len() as u64,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn form(&self, appends: Vec<Append<u128>>) -> Formed {
        let mut queue = VecDeque::from(appends);
        let formed = self.log.form(&mut queue, LIMITS, self.stamp(), Epoch(1));
        assert!(queue.is_empty(), "there is room for all");
        formed
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(commands) => self.append(&commands),
            Step::Stale(stream, off) => {
                let head = self.model.head(stream);
                self.sent += 1;
                let (verdicts, batch) =
                    self.form(vec![append(stream, head + off, 1, self.sent, None)]);
                let actual = Version(head);
                assert_eq!(verdicts, [(self.sent, AppendOutcome::Conflict { actual })]);
                assert!(batch.is_none());
            }
            Step::Again(which, same) => self.again(which, same),
            Step::Control => self.control(),
            Step::Checkpoint => self.checkpoint(),
            Step::Restart(which) => self.restart(which.index(self.segments.len() + 1)),
        }
    }

    fn append(&mut self, commands: &[(u8, usize, bool)]) {
        let offset = self.objects.len() as Offset;
        let mut index = 0;
        let mut appends = Vec::new();
        let mut expected = Vec::new();
        for (stream, events, keyed) in commands {
            self.sent += 1;
            let head = self.model.head(*stream);
            let hash = keyed.then(|| hash_of(self.sent));
            appends.push(append(*stream, head, *events, self.sent, hash));
            let position = |index| Position {
                partition: ID,
                offset,
                index,
            };
            let version = head + *events as u64;
            let verdict = AppendOutcome::Committed {
                position: position(index),
                version: Version(version),
            };
            expected.push((self.sent, verdict));
            let done = Done {
                stream: *stream,
                version,
                events: *events,
                offset,
                index,
                keyed: *keyed,
            };
            self.model.commands.insert(self.sent, done);
            let places = self.model.streams.entry(*stream).or_default();
            for _ in 0..*events {
                places.push((self.sent, position(index)));
                index += 1;
            }
        }
        let (refused, batch) = self.form(appends);
        assert!(refused.is_empty(), "{refused:?}");
        let batch = batch.unwrap();
        self.objects.push(batch.object.bytes.clone());
        let settled = self.log.settle(batch, &Owner::Us).unwrap();
        assert_eq!(settled.verdicts, expected);
    }

    fn again(&mut self, which: prop::sample::Index, same: bool) {
        let commands: Vec<u128> = self.model.commands.keys().copied().collect();
        if commands.is_empty() {
            return;
        }
        let command = commands[which.index(commands.len())];
        let done = self.model.commands[&command].clone();
        let hash = match (done.keyed, same) {
            (keyed, true) => keyed.then(|| hash_of(command)),
            (_, false) => Some(1),
        };
        let head = self.model.head(done.stream);
        let (verdicts, batch) = self.form(vec![append(done.stream, head, 1, command, hash)]);
        assert!(batch.is_none(), "law 2: nothing is written twice");
        let [(_, verdict)] = verdicts[..] else {
            panic!("{verdicts:?}");
        };
        let outcome = match (verdict, same) {
            (AppendOutcome::Repeated(outcome), true)
            | (AppendOutcome::KeyReused(outcome), false) => outcome,
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome.version, Version(done.version));
        assert_eq!(
            (outcome.events as usize, outcome.offset, outcome.index),
            (done.events, done.offset, done.index)
        );
    }

    fn control(&mut self) {
        let epoch = Epoch(self.model.controls.len() as u64 + 1);
        let lead = Lead::S3;
        let object = self
            .log
            .control(self.stamp(), ControlRecord { lead, epoch });
        self.log.apply(&object).unwrap();
        let offset = self.objects.len() as Offset;
        let leadership = Leadership { lead, epoch };
        self.model.controls.push((offset, leadership));
        self.objects.push(object.bytes);
    }

    /// As the actor of the partition does it.
    fn checkpoint(&mut self) {
        let commits = self.log.unsaved_commits().to_vec();
        let Some(from) = commits.first().map(|c| c.offset) else {
            return;
        };
        let controls = self.log.controls().to_vec();
        let segment = Segment::new(ID, from, self.log.prev(), controls, commits);
        self.segments.push(segment.encode().unwrap());
        self.log.saved_up_to(segment.to);
        assert_eq!(self.log.unsaved(), 0);
    }

    /// As a start does it, from the first so many checkpoints: the others are lost.
    fn restart(&mut self, checkpoints: usize) {
        self.segments.truncate(checkpoints);
        let mut log = PartitionLog::new(ID);
        for bytes in &self.segments {
            let segment = Segment::decode(bytes).unwrap();
            assert_eq!(segment.from, log.next_offset());
            log.restore(&segment.commits, segment.prev(), segment.controls);
        }
        let covered = log.next_offset() as usize;
        for bytes in &self.objects[covered..] {
            log.apply(&CommitObject::parse(bytes.clone()).unwrap())
                .unwrap();
        }
        assert_eq!(log.unsaved(), self.objects.len() - covered);
        self.log = log;
    }

    /// The log is what the model says, read from and to any version.
    fn agrees(&self, from: u64, to: u64) {
        let (log, model) = (&self.log, &self.model);
        assert_eq!(log.next_offset(), self.objects.len() as Offset);
        let last = self.objects.last().map(|bytes| {
            let object = CommitObject::parse(bytes.clone()).unwrap();
            object.hash()
        });
        assert_eq!(log.prev(), last.unwrap_or(ObjectHash::NONE));
        assert_eq!(log.controls(), model.controls);
        assert_eq!(log.index().stream_count(), model.streams.len());
        let events: usize = model.streams.values().map(Vec::len).sum();
        assert_eq!(log.index().event_count(), events);
        for (stream, places) in &model.streams {
            let key = name(*stream).key();
            assert_eq!(log.index().head(key), Version(places.len() as u64));
            let expected: Vec<_> = (1..)
                .zip(places)
                .filter(|(version, _)| (from..=to).contains(version))
                .map(|(version, (command, position))| (version, *command, *position))
                .collect();
            let found = log.index().locate(key, Version(from), Version(to));
            let found: Vec<_> = found
                .iter()
                .map(|at| {
                    let bytes = &self.objects[at.offset as usize];
                    let line = &bytes[at.start as usize..(at.start + at.len) as usize];
                    let event = Envelope::parse(line).unwrap();
                    assert_eq!((event.stream(), event.version), (name(*stream), at.version));
                    let position = Position {
                        partition: ID,
                        offset: at.offset,
                        index: at.index,
                    };
                    (at.version.0, event.command_id.0.as_u128(), position)
                })
                .collect();
            assert_eq!(found, expected, "stream {stream}, {from} to {to}");
        }
    }
}

type Formed = (
    Vec<(u128, AppendOutcome)>,
    Option<super::batch::Batch<u128>>,
);

proptest! {
    #[test]
    fn laws_2_11_a_partition_taken_up_from_its_checkpoints_is_the_one_that_was_put_down(
        steps in prop::collection::vec(step(), 0..40),
        from in 1_u64..12,
        length in 0_u64..12,
    ) {
        let mut world = World::new();
        for step in steps {
            let restarted = matches!(step, Step::Restart(_));
            world.step(step);
            if restarted {
                world.agrees(from, from + length);
            }
        }
        world.agrees(from, from + length);
        world.restart(0);
        world.agrees(1, u64::MAX);
    }
}
