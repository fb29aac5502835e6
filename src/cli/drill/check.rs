//! Reads back what the drill wrote, to check laws 2, 5 and 7 as a client.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::super::remote::{Api, ApiError};
use super::patience::{Waited, persist};
use super::stream::{Acknowledged, Ledger, Stream, Streams, acknowledged};

/// Events per page.
const PAGE: usize = 1000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Check {
    pub streams: u64,
    pub acknowledged: u64,
    /// Acknowledged writes that are missing.
    pub lost: u64,
    /// Surplus copies of writes, acknowledged or not.
    pub doubled: u64,
    /// Events with another version or position than was acknowledged, or that nobody wrote.
    pub misplaced: u64,
    /// Writes without an acknowledgement: they may be there or not.
    pub unknown: u64,
    /// Of those, the ones that are there.
    pub unknown_found: u64,
}

impl Check {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.lost + self.doubled + self.misplaced == 0
    }

    fn add(&mut self, other: &Check) {
        self.streams += other.streams;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.misplaced += other.misplaced;
        self.unknown += other.unknown;
        self.unknown_found += other.unknown_found;
    }
}

/// An event that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    number: u64,
    place: Acknowledged,
}

/// Reads all streams; each page is retried for at most `limit`.
pub async fn all(api: &Api, streams: &Streams, limit: Duration) -> Result<Check, Waited> {
    let mut sum = Check::default();
    for stream in streams.all() {
        let found = read(api, &stream, limit).await?;
        sum.add(&compare(&stream.ledger(), &found));
    }
    Ok(sum)
}

async fn read(api: &Api, stream: &Stream, limit: Duration) -> Result<Vec<Found>, Waited> {
    let mut events = Vec::new();
    let mut from = String::new();
    loop {
        let path = format!("{}?limit={PAGE}{from}", stream.path());
        let page = persist(Instant::now(), limit, || async {
            match api.get(&path).await {
                Err(ApiError::Refused { code, .. }) if code == "stream_not_found" => {
                    Ok(Some(Value::Null))
                }
                page => page.map(Some),
            }
        });
        let page = page.await?.answer;
        for event in page["items"].as_array().into_iter().flatten() {
            events.push(found(event).ok_or_else(|| ApiError::Odd {
                url: path.clone(),
                message: format!("no event of a drill: {event}"),
            })?);
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => from = format!("&cursor={cursor}"),
            None => return Ok(events),
        }
    }
}

fn found(event: &Value) -> Option<Found> {
    Some(Found {
        number: event["data"]["n"].as_u64()?,
        place: acknowledged(event)?,
    })
}

fn compare(ledger: &Ledger, events: &[Found]) -> Check {
    let known = ledger.acknowledged.len() as u64;
    let mut check = Check {
        streams: 1,
        acknowledged: known,
        unknown: ledger.sent - known,
        ..Check::default()
    };
    let mut times = vec![0; ledger.sent as usize];
    for (event, version) in events.iter().zip(1..) {
        let place = event.number.checked_sub(1).map(|at| at as usize);
        let Some(times) = place.and_then(|at| times.get_mut(at)) else {
            check.misplaced += 1;
            continue;
        };
        *times += 1;
        if *times > 1 {
            check.doubled += 1;
            continue;
        }
        let said = place.and_then(|at| ledger.acknowledged.get(at));
        if event.place.version != version || said.is_some_and(|said| *said != event.place) {
            check.misplaced += 1;
        }
    }
    let (acknowledged, unknown) = times.split_at(ledger.acknowledged.len());
    check.lost = acknowledged.iter().filter(|times| **times == 0).count() as u64;
    check.unknown_found = unknown.iter().filter(|times| **times > 0).count() as u64;
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(version: u64) -> Acknowledged {
        Acknowledged {
            version,
            position: format!("0/{version}/0").parse().unwrap(),
        }
    }

    fn ledger(acknowledged: u64, sent: u64) -> Ledger {
        Ledger {
            sent,
            acknowledged: (1..=acknowledged).map(place).collect(),
        }
    }

    fn events(numbers: &[u64]) -> Vec<Found> {
        let events = numbers.iter().zip(1..);
        events
            .map(|(number, version)| Found {
                number: *number,
                place: place(version),
            })
            .collect()
    }

    #[test]
    fn law_2_what_was_acknowledged_is_there_once() {
        let sound = compare(&ledger(3, 3), &events(&[1, 2, 3]));
        assert!(sound.is_sound(), "{sound:?}");
        let cut = compare(&ledger(3, 3), &events(&[1, 2]));
        assert_eq!((cut.lost, cut.is_sound()), (1, false));
        let twice = compare(&ledger(3, 3), &events(&[1, 2, 3, 3]));
        assert_eq!((twice.doubled, twice.lost, twice.is_sound()), (1, 0, false));
        let nothing = compare(&ledger(2, 2), &[]);
        assert_eq!(nothing.lost, 2);
    }

    #[test]
    fn law_4_what_was_not_acknowledged_may_be_there_or_not_but_not_twice() {
        for (numbers, found) in [(&[1, 2][..], 0), (&[1, 2, 3], 1)] {
            let check = compare(&ledger(2, 3), &events(numbers));
            assert!(check.is_sound(), "{check:?}");
            assert_eq!((check.unknown, check.unknown_found), (1, found));
        }
        let twice = compare(&ledger(2, 3), &events(&[1, 2, 3, 3]));
        assert_eq!((twice.doubled, twice.is_sound()), (1, false));
    }

    #[test]
    fn law_7_versions_and_positions_are_those_that_were_acknowledged() {
        let swapped = compare(&ledger(2, 2), &events(&[2, 1]));
        assert_eq!((swapped.misplaced, swapped.lost), (2, 0));
        let mut moved = events(&[1, 2]);
        moved[1].place.position = "1/2/0".parse().unwrap();
        assert_eq!(compare(&ledger(2, 2), &moved).misplaced, 1);
        let invented = compare(&ledger(1, 1), &events(&[1, 9]));
        assert_eq!((invented.misplaced, invented.is_sound()), (1, false));
        let mut gap = events(&[1, 2]);
        gap[1].place.version = 3;
        assert_eq!(compare(&ledger(1, 2), &gap).misplaced, 1);
    }
}
