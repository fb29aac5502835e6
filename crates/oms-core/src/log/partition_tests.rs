//! The commit protocol against a reference model: any number of writers race for the same
//! partition, replies get lost, and no command may be in the log twice, none that was acknowledged
//! may be missing, and no version may have two contents.

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::event::{Idempotency, NewEvent, Provenance, encode};
use crate::domain::ids::{EventId, EventType, StreamName, StreamType, WriterId};
use crate::log::lead::Lead;
use crate::log::recent_commands::{KeyBounds, KeysFull};

const LIMITS: BatchLimits = BatchLimits {
    events: 8,
    bytes: 1 << 20,
};

fn stream(n: u8) -> StreamName {
    StreamName::new(&StreamType::new("s").unwrap(), &[&n.to_string()]).unwrap()
}

fn append(n: u8, expected: u64, command: u128) -> Append<u128> {
    let event = NewEvent {
        event_type: EventType::new("E").unwrap(),
        schema_version: 1,
        data: serde_json::value::to_raw_value(&serde_json::json!({"c": command.to_string()}))
            .unwrap(),
        metadata: None,
    };
    let provenance = Provenance {
        command_id: CommandId(Uuid::from_u128(command)),
        correlation_id: String::new(),
        actor: "t".into(),
        trace: None,
        idempotency: Some(Idempotency {
            key: command.to_string(),
            request_hash: 5,
        }),
        time: Timestamp::UNIX_EPOCH,
    };
    Append {
        stream: stream(n).key(),
        expected: Version(expected),
        command: CommandId(Uuid::from_u128(command)),
        request_hash: Some(5),
        events: encode(&stream(n), Version(expected), &[event], &provenance, || {
            EventId(Uuid::from_u128(command))
        }),
        reply: command,
    }
}

fn stamp(writer: u128, batch: u64) -> Stamp {
    Stamp {
        writer: WriterId(Uuid::from_u128(writer)),
        batch,
        at: Timestamp::UNIX_EPOCH,
    }
}

fn genesis() -> PartitionLog {
    let mut log = PartitionLog::new(PartitionId(0));
    let record = ControlRecord {
        lead: Lead::S3,
        epoch: Epoch(1),
    };
    log.apply(&log.control(stamp(0, 0), record)).unwrap();
    log
}

#[test]
fn law_4_every_process_says_the_same_of_a_command() {
    let (mut ours, mut theirs) = (genesis(), genesis());
    let mut late = stamp(1, 1);
    late.at = Timestamp::from_second(9).unwrap();
    let mut queue = VecDeque::from([append(1, 0, 1)]);
    let (_, batch) = ours.form(&mut queue, LIMITS, late, Epoch(1));
    let batch = batch.unwrap();
    let object = batch.object.clone();
    ours.settle(batch, &Owner::Us).unwrap();
    theirs.apply(&object).unwrap();
    let command = CommandId(Uuid::from_u128(1));
    let outcome = ours.commands().get(command).unwrap();
    assert_eq!(theirs.commands().get(command), Some(outcome));
    assert_eq!(outcome.at_ms, 0, "the event's own time");
    assert_ne!(outcome.principal, PrincipalTag::UNKNOWN);
}

#[test]
fn law_13_over_its_keys_a_principal_is_refused_and_unkeyed_commands_are_not() {
    let mut log = genesis();
    log.commands_mut().bound_keys(KeyBounds {
        keys_of_one: 2,
        ..KeyBounds::default()
    });
    let unkeyed = Append {
        request_hash: None,
        ..append(4, 0, 4)
    };
    let keyed = (1..=3).map(|n| append(n, 0, n.into()));
    let mut queue: VecDeque<_> = keyed.chain([unkeyed]).collect();
    let (refused, batch) = log.form(&mut queue, LIMITS, stamp(1, 1), Epoch(1));
    assert_eq!(
        refused,
        [(3, AppendOutcome::KeysFull(KeysFull::OfPrincipal))]
    );
    let batch = batch.unwrap();
    assert_eq!(batch.commands(), 3);
    log.settle(batch, &Owner::Us).unwrap();
    // A repeated one gets its answer all the same.
    let mut queue = VecDeque::from([append(1, 1, 1), append(5, 0, 5)]);
    let (verdicts, batch) = log.form(&mut queue, LIMITS, stamp(1, 2), Epoch(1));
    assert!(matches!(verdicts[0], (1, AppendOutcome::Repeated(_))));
    assert_eq!(
        verdicts[1],
        (5, AppendOutcome::KeysFull(KeysFull::OfPrincipal))
    );
    assert!(batch.is_none());
}

#[test]
fn law_7_a_stale_append_is_refused_and_its_neighbours_are_not() {
    let mut log = genesis();
    let mut queue = VecDeque::from([append(1, 0, 1), append(2, 5, 2), append(3, 0, 3)]);
    let (refused, batch) = log.form(&mut queue, LIMITS, stamp(1, 1), Epoch(1));
    assert_eq!(
        refused,
        [(
            2,
            AppendOutcome::Conflict {
                actual: Version::NONE
            }
        )]
    );
    let settled = log.settle(batch.unwrap(), &Owner::Us).unwrap();
    assert_eq!(settled.verdicts.len(), 2);
    assert_eq!(log.index().head(stream(3).key()), Version(1));
}

#[test]
fn law_2_a_conflict_inside_a_batch_is_judged_only_once_the_batch_is_a_fact() {
    let mut log = genesis();
    let mut queue = VecDeque::from([append(1, 0, 1), append(1, 0, 2), append(1, 1, 3)]);
    let (refused, batch) = log.form(&mut queue, LIMITS, stamp(1, 1), Epoch(1));
    assert!(refused.is_empty());
    let batch = batch.unwrap();
    assert_eq!(
        batch.commands(),
        2,
        "version 1 and, on top of it, version 2"
    );
    log.settle(batch, &Owner::Us).unwrap();
    let (refused, batch) = log.form(&mut queue, LIMITS, stamp(1, 2), Epoch(1));
    assert_eq!(
        refused,
        [(2, AppendOutcome::Conflict { actual: Version(2) })]
    );
    assert!(batch.is_none());
}

#[test]
fn law_4_an_ambiguous_put_is_settled_by_reading_back() {
    let mut log = genesis();
    let (_, batch) = log.form(
        &mut VecDeque::from([append(1, 0, 1)]),
        LIMITS,
        stamp(1, 1),
        Epoch(1),
    );
    let batch = batch.unwrap();
    let found = Owner::Found(CommitObject::parse(batch.object.bytes.clone()).unwrap());
    let settled = log.settle(batch, &found).unwrap();
    assert!(!settled.lost_race);
    assert!(matches!(
        settled.verdicts[0].1,
        AppendOutcome::Committed {
            version: Version(1),
            ..
        }
    ));
}

#[test]
fn law_4_a_repeated_command_gets_its_recorded_outcome() {
    let mut log = genesis();
    let (_, batch) = log.form(
        &mut VecDeque::from([append(1, 0, 1)]),
        LIMITS,
        stamp(1, 1),
        Epoch(1),
    );
    log.settle(batch.unwrap(), &Owner::Us).unwrap();
    let mut other = append(1, 1, 1);
    other.request_hash = Some(6);
    let (verdicts, batch) = log.form(
        &mut VecDeque::from([append(1, 1, 1), other]),
        LIMITS,
        stamp(1, 2),
        Epoch(1),
    );
    assert!(batch.is_none());
    assert!(matches!(verdicts[0].1, AppendOutcome::Repeated(o) if o.version == Version(1)));
    assert!(matches!(verdicts[1].1, AppendOutcome::KeyReused(_)));
}

#[test]
fn law_14_an_append_of_another_epoch_or_under_another_lead_is_fenced() {
    let mut log = genesis();
    let record = ControlRecord {
        lead: Lead::Postgres,
        epoch: Epoch(2),
    };
    log.apply(&log.control(stamp(9, 9), record)).unwrap();
    let now = Leadership {
        lead: Lead::Postgres,
        epoch: Epoch(2),
    };
    let former = Leadership::GENESIS_S3;
    assert_eq!(log.may_append(former), Err(Fenced::Led(now)));
    let other = Leadership {
        lead: Lead::S3,
        ..now
    };
    assert_eq!(log.may_append(other), Err(Fenced::Led(now)));
    assert_eq!(log.leadership_at(1), Some(former));
    assert_eq!(log.leadership_at(2), Some(now));
    assert_eq!(log.leadership_at(0), None);
}

#[test]
fn law_5_an_object_that_does_not_follow_is_refused() {
    let mut log = genesis();
    let (_, batch) = log.form(
        &mut VecDeque::from([append(1, 0, 1)]),
        LIMITS,
        stamp(1, 1),
        Epoch(1),
    );
    let good = batch.unwrap().object;
    let mut forged = good.clone();
    forged.header.prev = ObjectHash([9; 32]);
    assert!(log.apply(&forged).unwrap_err().0.contains("hash chain"));
    let mut skipped = good.clone();
    skipped.header.offset += 1;
    assert!(log.apply(&skipped).is_err());
    log.apply(&good).unwrap();
    assert!(log.apply(&good).is_err(), "the same object twice");
}

/// One writer of the model: its view of the log and its last put, if unanswered.
struct Writer {
    log: PartitionLog,
    queue: VecDeque<Append<u128>>,
    batches: u64,
}

proptest! {
    /// Laws 2, 5 and 7 under racing writers, lost replies and retried commands.
    #[test]
    fn laws_2_5_7_hold_under_races_and_lost_replies(
        steps in prop::collection::vec((0usize..3, 0u8..3, 0u8..4), 1..80),
    ) {
        let mut store: Vec<CommitObject> = Vec::new();
        let control = genesis();
        store.push(control.control_at_zero());
        let mut writers: Vec<Writer> = (0..3)
            .map(|_| Writer { log: genesis(), queue: VecDeque::new(), batches: 0 })
            .collect();
        let mut acknowledged: Vec<u128> = Vec::new();
        for (next_command, (w, s, fate)) in (100u128..).zip(steps) {
            let id = w as u128 + 1;
            let writer = &mut writers[w];
            let expected = writer.log.index().head(stream(s).key()).0;
            writer.queue.push_back(append(s, expected, next_command));
            if fate == 3 {
                // A client that heard nothing sends the same command to another writer too.
                let other = &mut writers[(w + 1) % 3];
                let expected = other.log.index().head(stream(s).key()).0;
                other.queue.push_back(append(s, expected, next_command));
            }
            let writer = &mut writers[w];
            writer.batches += 1;
            let (_, batch) = writer.log.form(&mut writer.queue, LIMITS, stamp(id, writer.batches), Epoch(1));
            let Some(batch) = batch else { continue };
            let offset = batch.object.header.offset as usize;
            let created = store.len() == offset;
            if created {
                store.push(batch.object.clone());
            }
            match fate {
                // The reply is lost and the writer gives up: it drops the batch.
                1 => {
                    batch.abandon().count();
                }
                // The reply is lost and the writer asks again: it finds the object.
                2 => {
                    let found = CommitObject::parse(store[offset].bytes.clone()).unwrap();
                    let settled = writer.log.settle(batch, &Owner::Found(found)).unwrap();
                    take(settled, writer, &mut acknowledged);
                }
                _ => {
                    let owner = if created {
                        Owner::Us
                    } else {
                        Owner::Found(CommitObject::parse(store[offset].bytes.clone()).unwrap())
                    };
                    let settled = writer.log.settle(batch, &owner).unwrap();
                    take(settled, writer, &mut acknowledged);
                }
            }
        }
        // A reader that starts from nothing accepts the whole log …
        let mut reader = PartitionLog::new(PartitionId(0));
        let mut seen: Vec<u128> = Vec::new();
        for object in &store {
            let object = CommitObject::parse(object.bytes.clone()).unwrap();
            reader.apply(&object).unwrap();
            if object.event_count() > 0 {
                for i in 0..object.lines.len() {
                    let line = object.line(i);
                    let event = crate::domain::event::Envelope::parse(&line).unwrap();
                    seen.push(event.command_id.0.as_u128());
                }
            }
        }
        // … in which every acknowledged command is exactly once, and none twice.
        for command in &acknowledged {
            prop_assert_eq!(seen.iter().filter(|c| *c == command).count(), 1);
        }
        let mut unique = seen.clone();
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), seen.len());
    }
}

fn take(settled: Settled<u128>, writer: &mut Writer, acknowledged: &mut Vec<u128>) {
    for (command, verdict) in settled.verdicts {
        if matches!(verdict, AppendOutcome::Committed { .. }) {
            acknowledged.push(command);
        }
    }
    for append in settled.again.into_iter().rev() {
        writer.queue.push_front(append);
    }
}

impl PartitionLog {
    /// The control object that [`genesis`] applied.
    fn control_at_zero(&self) -> CommitObject {
        let empty = PartitionLog::new(PartitionId(0));
        empty.control(
            stamp(0, 0),
            ControlRecord {
                lead: Lead::S3,
                epoch: Epoch(1),
            },
        )
    }
}
