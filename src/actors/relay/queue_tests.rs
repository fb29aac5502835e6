//! The relay's decisions against a model of the outbox and of a broker. Whatever fails, every row
//! is delivered or given up after exactly its attempts, and of every stream the broker sees each
//! event for the first time in order.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::ids::{Epoch, EventId, Version};
use crate::migration::stage::Mode;

const LIMITS: QueueLimits = QueueLimits {
    window: 12,
    wave_rows: 5,
    wave_bytes: 60,
    max_attempts: 3,
    retry_min: Duration::from_secs(1),
    retry_max: Duration::from_secs(4),
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn row(partition: u16, offset: u64, stream: u8, version: u64) -> OutboxRow {
    OutboxRow {
        position: Position {
            partition: PartitionId(partition),
            offset,
            index: 0,
        },
        event_id: EventId(Uuid::from_u128(u128::from(offset))),
        stream: StreamName::from_stored("s", &format!("{partition}-{stream}")),
        version: Version(version),
        topic: "t".into(),
        epoch: Epoch(1),
        mode: Mode::S3Only,
        start: 0,
        len: 10,
        body: None,
        attempts: 0,
        next_attempt: None,
    }
}

/// A refused row waits for its time; a clock that is set back by a day meanwhile makes it no day.
#[test]
fn law_9_a_clock_that_is_set_back_holds_no_stream() {
    const DAY: i64 = 24 * 3600;
    let mut queue = SendQueue::new(LIMITS);
    queue.assign(&[PartitionId(0)]);
    queue.loaded(vec![row(0, 0, 0, 1)], at(DAY));
    for now in [DAY, DAY + 1, 0] {
        assert_eq!(queue.next_wave(at(now)).len(), 1, "sent at {now}");
        queue.settle(vec![PublishOutcome::Rejected("no".into())], at(now));
        assert!(queue.next_wave(at(now)).is_empty(), "it waits at {now}");
    }
}

/// The outbox, the broker and the relay's queue.
struct Model {
    outbox: BTreeMap<Position, OutboxRow>,
    dead: BTreeMap<Position, u32>,
    poison: HashSet<Position>,
    /// Versions in the order in which the broker saw each for the first time.
    seen: HashMap<StreamName, Vec<u64>>,
    refusals: HashMap<Position, u32>,
    /// What the broker has said that it has.
    acknowledged: HashSet<Position>,
    queue: SendQueue,
    now: i64,
}

impl Model {
    fn new(rows: Vec<OutboxRow>, poison: HashSet<Position>) -> Self {
        let mut model = Self {
            outbox: rows.into_iter().map(|r| (r.position, r)).collect(),
            dead: BTreeMap::new(),
            poison,
            seen: HashMap::new(),
            refusals: HashMap::new(),
            acknowledged: HashSet::new(),
            queue: SendQueue::new(LIMITS),
            now: 0,
        };
        model.assign(3);
        model
    }

    fn assign(&mut self, partitions: u16) {
        let ours: Vec<PartitionId> = (0..partitions).map(PartitionId).collect();
        self.queue.assign(&ours);
    }

    fn read(&mut self, limit: usize) {
        let mut read = Vec::new();
        for (partition, after) in self.queue.wants() {
            let rows = self.outbox.values().filter(|r| {
                r.position.partition == partition && after.is_none_or(|a| r.position > a)
            });
            read.extend(rows.take(limit).cloned());
        }
        self.queue.loaded(read, at(self.now));
        for lane in self.queue.lanes.values() {
            assert!(
                lane.rows.len() <= LIMITS.window,
                "law 13: the window is kept"
            );
        }
    }

    /// What a broker does with a wave: in order, per stream nothing past what failed. `fate` picks
    /// how the row at which it fails (if any) ends.
    fn send(&mut self, fail_at: usize, stored: bool, persisted: bool) {
        let wave = self.queue.next_wave(at(self.now));
        assert!(wave.len() <= LIMITS.wave_rows);
        let bytes: u32 = wave.iter().map(|row| row.len).sum();
        let fits = bytes as usize <= LIMITS.wave_bytes || wave.len() == 1;
        assert!(fits, "law 13: {bytes} bytes in {} rows", wave.len());
        let mut blocked = HashSet::new();
        let mut verdicts = Vec::new();
        for (i, row) in wave.iter().enumerate() {
            if blocked.contains(&row.stream) {
                verdicts.push(PublishOutcome::Failed);
                continue;
            }
            let poisoned = self.poison.contains(&row.position);
            if !poisoned && (i < fail_at || stored) {
                let seen = self.seen.entry(row.stream.clone()).or_default();
                if !seen.contains(&row.version.0) {
                    seen.push(row.version.0);
                }
            }
            let verdict = match (i < fail_at, poisoned) {
                (true, false) => PublishOutcome::Delivered,
                (true, true) => PublishOutcome::Rejected("too large".into()),
                (false, _) => PublishOutcome::Failed,
            };
            if verdict == PublishOutcome::Delivered {
                self.acknowledged.insert(row.position);
            }
            if verdict != PublishOutcome::Delivered {
                blocked.insert(row.stream.clone());
            }
            if wave.len() == 1 && matches!(verdict, PublishOutcome::Rejected(_)) {
                *self.refusals.entry(row.position).or_default() += 1;
            }
            verdicts.push(verdict);
        }
        let settlement = self.queue.settle(verdicts, at(self.now));
        for position in &settlement.delivered {
            assert!(self.acknowledged.contains(position), "law 9: {position}");
        }
        for refused in settlement.refused {
            if !persisted {
                continue;
            }
            match refused.next_attempt {
                None => {
                    self.outbox.remove(&refused.position);
                    self.dead.insert(refused.position, refused.attempts);
                }
                Some(_) => {
                    if let Some(row) = self.outbox.get_mut(&refused.position) {
                        row.attempts = refused.attempts;
                        row.next_attempt = refused.next_attempt;
                    }
                }
            }
        }
    }

    fn delete(&mut self) {
        let gone = self.queue.undeleted();
        for position in &gone {
            assert!(self.acknowledged.contains(position), "law 9: {position}");
            self.outbox.remove(position);
        }
        self.queue.deleted(&gone);
    }

    /// Everything works from now on.
    fn finish(&mut self) {
        self.assign(3);
        for _ in 0..2_000 {
            if self.outbox.is_empty() {
                return;
            }
            self.now += 1;
            if self.now % 7 == 0 {
                self.queue.sweep();
            }
            self.read(LIMITS.window / 2);
            self.send(usize::MAX, true, true);
            self.delete();
        }
        panic!("rows were left behind: {:?}", self.outbox.keys());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Read(usize),
    Send {
        fail_at: usize,
        stored: bool,
        persisted: bool,
    },
    Delete,
    Sweep,
    Assign(u16),
    Restart,
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..=LIMITS.window / 2).prop_map(Step::Read),
        6 => (0_usize..8, any::<bool>(), any::<bool>())
            .prop_map(|(fail_at, stored, persisted)| Step::Send { fail_at, stored, persisted }),
        3 => Just(Step::Delete),
        1 => Just(Step::Sweep),
        1 => (1_u16..=3).prop_map(Step::Assign),
        1 => Just(Step::Restart),
        2 => (0_i64..3).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn law_9_order_per_stream_and_completeness_survive_everything(
        streams in prop::collection::vec((0_u16..3, 0_u8..3, 1_u32..80), 1..60),
        poison in prop::collection::hash_set(0_usize..60, 0..4),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut versions: HashMap<(u16, u8), u64> = HashMap::new();
        let rows: Vec<OutboxRow> = streams
            .iter()
            .enumerate()
            .map(|(i, (partition, stream, len))| {
                let version = versions.entry((*partition, *stream)).or_default();
                *version += 1;
                let row = row(*partition, i as u64, *stream, *version);
                OutboxRow { len: *len, ..row }
            })
            .collect();
        let poison: HashSet<Position> =
            poison.into_iter().filter_map(|i| rows.get(i).map(|r| r.position)).collect();
        let mut model = Model::new(rows.clone(), poison.clone());
        for step in steps {
            match step {
                Step::Read(limit) => model.read(limit),
                Step::Send { fail_at, stored, persisted } => model.send(fail_at, stored, persisted),
                Step::Delete => model.delete(),
                Step::Sweep => model.queue.sweep(),
                Step::Assign(n) => model.assign(n),
                Step::Restart => {
                    model.queue = SendQueue::new(LIMITS);
                    model.assign(3);
                }
                Step::Wait(seconds) => model.now += seconds,
            }
        }
        model.finish();
        for (stream, seen) in &model.seen {
            prop_assert!(seen.is_sorted(), "{stream}: {seen:?}");
        }
        let delivered: usize = model.seen.values().map(Vec::len).sum();
        prop_assert_eq!(delivered + poison.len(), rows.len());
        prop_assert_eq!(model.dead.keys().copied().collect::<HashSet<_>>(), poison);
        for (position, attempts) in &model.dead {
            prop_assert_eq!(*attempts, LIMITS.max_attempts);
            prop_assert!(model.refusals[position] >= LIMITS.max_attempts);
        }
    }
}

#[test]
fn law_3_a_refused_row_holds_its_own_stream_only() {
    let rows: Vec<OutboxRow> = (0..9)
        .map(|i| row(0, i, (i % 3) as u8, i / 3 + 1))
        .collect();
    let poison = HashSet::from([rows[0].position]);
    let mut model = Model::new(rows, poison);
    model.read(LIMITS.window / 2);
    for _ in 0..6 {
        model.send(usize::MAX, true, true);
        model.delete();
        model.read(LIMITS.window / 2);
    }
    let left: Vec<u64> = model.outbox.keys().map(|p| p.offset).collect();
    assert_eq!(left, [0, 3, 6], "only the stream of the refused row waits");
    assert_eq!(model.outbox.values().next().map(|r| r.attempts), Some(1));
    assert_eq!(model.queue.next_due(), Some(at(1)));
}

#[test]
fn rows_behind_a_hold_do_not_fill_the_window() {
    let mut rows: Vec<OutboxRow> = (0..40).map(|i| row(0, i, 0, i + 1)).collect();
    rows.push(row(0, 40, 1, 1));
    let poison = HashSet::from([rows[0].position]);
    let other = rows[40].position;
    let mut model = Model::new(rows, poison);
    for _ in 0..20 {
        model.read(LIMITS.window / 2);
        model.send(usize::MAX, true, true);
        model.delete();
    }
    assert!(
        !model.outbox.contains_key(&other),
        "it is not behind the hold"
    );
    assert_eq!(model.outbox.len(), 40);
}

#[test]
fn law_9_what_was_delivered_past_a_failure_is_sent_again() {
    let mut queue = SendQueue::new(LIMITS);
    queue.assign(&[PartitionId(0)]);
    let rows: Vec<OutboxRow> = (0..4).map(|i| row(0, i, (i / 3) as u8, i + 1)).collect();
    let positions: Vec<Position> = rows.iter().map(|r| r.position).collect();
    queue.loaded(rows, at(0));
    assert_eq!(queue.next_wave(at(0)).len(), 4);
    assert!(queue.next_wave(at(0)).is_empty(), "one wave at a time");
    let verdicts = [
        PublishOutcome::Delivered,
        PublishOutcome::Failed,
        PublishOutcome::Delivered,
        PublishOutcome::Delivered,
    ];
    let settled = queue.settle(verdicts.to_vec(), at(0));
    assert_eq!(settled.delivered, [positions[0], positions[3]]);
    let again = queue.next_wave(at(0));
    assert_eq!(
        again.iter().map(|r| r.position).collect::<Vec<_>>(),
        positions[1..3]
    );
}
