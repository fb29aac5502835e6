use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::*;
use crate::domain::event::NewEvent;
use crate::domain::ids::{EventId, EventType, StreamType};

fn stream(n: u8) -> StreamName {
    StreamName::new(&StreamType::new("order").unwrap(), &[&n.to_string()]).unwrap()
}

fn event(n: u8, version: u64) -> ImportedEvent {
    ImportedEvent {
        stream: stream(n),
        version: Version(version),
        position: Some(1),
        id: EventId(Uuid::from_u128(u128::from(version))),
        time: Timestamp::UNIX_EPOCH,
        event: NewEvent {
            event_type: EventType::new("Placed").unwrap(),
            schema_version: 1,
            data: RawValue::NULL.to_owned(),
            metadata: None,
        },
        row: RowRef {
            key: format!("{n}/{version}"),
            foreign_stream: None,
            version: None,
            event_id: None,
            event_type: None,
        },
    }
}

fn lanes() -> Lanes {
    Lanes::new(LaneLimits::default(), [])
}

fn offer(lanes: &mut Lanes, position: i64, n: u8, version: u64) {
    lanes.offer(Cursor::Position(position), Ok(event(n, version)));
}

fn versions(run: &Run) -> Vec<u64> {
    run.events.iter().map(|q| q.event.version.0).collect()
}

#[test]
fn a_stream_has_one_run_under_way_and_the_rest_waits_together() {
    let mut lanes = lanes();
    offer(&mut lanes, 1, 1, 1);
    let first = lanes.next_run().unwrap();
    for version in 2..5 {
        offer(&mut lanes, version as i64, 1, version);
    }
    assert!(lanes.next_run().is_none());
    lanes.finish(first, 1, None);
    let second = lanes.next_run().unwrap();
    assert_eq!(versions(&second), [2, 3, 4]);
    assert_eq!(lanes.reached(), Some(&Cursor::Position(1)));
    lanes.finish(second, 3, None);
    assert_eq!(lanes.reached(), Some(&Cursor::Position(4)));
    assert_eq!((lanes.unsettled(), lanes.bytes), (0, 0));
}

#[test]
fn the_checkpoint_waits_for_the_slowest() {
    let mut lanes = lanes();
    offer(&mut lanes, 1, 1, 1);
    offer(&mut lanes, 2, 2, 1);
    let slow = lanes.next_run().unwrap();
    let quick = lanes.next_run().unwrap();
    lanes.finish(quick, 1, None);
    assert_eq!(lanes.reached(), None);
    lanes.finish(slow, 1, None);
    assert_eq!(lanes.reached(), Some(&Cursor::Position(2)));
}

#[test]
fn law_3_a_stream_stops_at_a_bad_row_and_others_go_on() {
    let mut lanes = lanes();
    for version in 1..=3 {
        offer(&mut lanes, version as i64, 1, version);
    }
    let run = lanes.next_run().unwrap();
    offer(&mut lanes, 4, 1, 4);
    offer(&mut lanes, 5, 2, 1);
    lanes.finish(run, 1, Some((ParkReason::Diverged, "another event".into())));
    offer(&mut lanes, 6, 1, 5);
    let parked = lanes.take_parked(100);
    let told: Vec<(&str, ParkReason)> = parked
        .iter()
        .map(|p| (p.row.key.as_str(), p.reason))
        .collect();
    let after = ParkReason::AfterParked;
    let expected = [
        ("1/2", ParkReason::Diverged),
        ("1/3", after),
        ("1/4", after),
        ("1/5", after),
    ];
    assert_eq!(told, expected);
    assert_eq!(
        lanes.reached(),
        Some(&Cursor::Position(1)),
        "not recorded yet"
    );
    let other = lanes.next_run().unwrap();
    assert_eq!(other.stream, stream(2));
    lanes.finish(other, 1, None);
    lanes.parked(&parked);
    assert_eq!(lanes.reached(), Some(&Cursor::Position(6)));
    assert!(lanes.next_run().is_none());
}

#[test]
fn versions_that_do_not_follow_are_parked() {
    let mut lanes = lanes();
    for (position, n, version) in [(1, 1, 1), (2, 1, 3), (3, 2, 5), (4, 2, 5), (5, 1, 2)] {
        offer(&mut lanes, position, n, version);
    }
    let reasons: Vec<ParkReason> = lanes.take_parked(9).iter().map(|p| p.reason).collect();
    let after = ParkReason::AfterParked;
    assert_eq!(reasons, [ParkReason::Gap, ParkReason::Duplicate, after]);
    assert_eq!(versions(&lanes.next_run().unwrap()), [1]);
}

#[test]
fn law_13_runs_and_rows_under_way_are_bounded() {
    let limits = LaneLimits {
        run_events: 3,
        rows: 5,
        ..LaneLimits::default()
    };
    let mut lanes = Lanes::new(limits, []);
    for version in 1..=5 {
        assert!(lanes.has_room());
        offer(&mut lanes, version as i64, 1, version);
    }
    assert!(!lanes.has_room());
    let run = lanes.next_run().unwrap();
    assert_eq!(versions(&run), [1, 2, 3]);
    lanes.finish(run, 3, None);
    assert!(lanes.has_room());
}

proptest! {
    /// Whatever the order in which appends end, each stream's events come out in order, once, and
    /// the checkpoint never passes one that is not settled.
    #[test]
    fn law_5_streams_stay_in_order_whatever_ends_first(
        rows in proptest::collection::vec(0u8..6, 1..120),
        ends in proptest::collection::vec(any::<prop::sample::Index>(), 400),
    ) {
        let mut lanes = Lanes::new(LaneLimits { run_events: 4, ..LaneLimits::default() }, []);
        let mut next = [0u64; 6];
        let mut appended = [0u64; 6];
        let mut under_way: Vec<Run> = Vec::new();
        let mut settled = vec![false; rows.len()];
        let mut ends = ends.into_iter();
        let mut fed = 0;
        loop {
            if fed < rows.len() {
                let n = rows[fed];
                next[usize::from(n)] += 1;
                offer(&mut lanes, fed as i64, n, next[usize::from(n)]);
                fed += 1;
            }
            under_way.extend(lanes.next_run());
            if under_way.is_empty() {
                prop_assert_eq!(fed, rows.len());
                break;
            }
            let end = ends.next().is_none_or(|i| fed == rows.len() || i.index(2) == 0);
            if end {
                let run = under_way.swap_remove(fed % under_way.len());
                for queued in &run.events {
                    let n = usize::from(run.stream.id().parse::<u8>().unwrap());
                    appended[n] += 1;
                    prop_assert_eq!(queued.event.version.0, appended[n]);
                    settled[queued.slot as usize] = true;
                }
                let n = run.events.len();
                lanes.finish(run, n, None);
            }
            if let Some(Cursor::Position(reached)) = lanes.reached() {
                prop_assert!(settled[..=*reached as usize].iter().all(|s| *s));
            }
        }
        prop_assert_eq!(lanes.reached(), Some(&Cursor::Position(rows.len() as i64 - 1)));
        prop_assert_eq!(appended, next);
    }
}
