//! The validator must notice: a sound history, and every law broken in it, one at a time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::history::{Asked, Call, Event, Found, History, Outcome, Read, ReadKind};
use crate::validator::{Verdict, judge};

const INSTANCE: &str = "instance/nemesis/Thing/a";

/// A story in which all is well, told by the calls; the events follow from them.
struct Story {
    history: History,
    found: Found,
}

fn envelope(stream: &str, version: u64, kind: &str, key: &str, data: &str) -> Event {
    let (stream_type, id) = stream.split_once('/').expect("a stream");
    let event_id = format!("{key}#{version}");
    Event {
        position: String::new(),
        stream: stream.to_owned(),
        version,
        id: event_id.clone(),
        bytes: format!(
            r#"{{"id":"{event_id}","type":"{kind}","streamtype":"{stream_type}","streamid":"{id}","streamversion":{version},"idempotencykey":"{key}","data":{data}}}"#
        ),
    }
}

impl Story {
    fn sound() -> Self {
        let mut story = Self {
            history: History::default(),
            found: Found::default(),
        };
        let ticks = |n: u64| {
            let event = |i: u64| ("Ticked".to_owned(), format!(r#"{{"i": {i}.50}}"#));
            Asked::Append((0..n).map(event).collect())
        };
        story.told("k1", "ledger/1", ticks(2), None, 2, true);
        story.told(
            "k2",
            INSTANCE,
            Asked::Create(json!({"n": 1})),
            None,
            1,
            true,
        );
        story.told("k3", "shared/0", ticks(1), Some(0), 1, false);
        story.told(
            "k4",
            INSTANCE,
            Asked::Patch(json!({"n": 2})),
            Some(1),
            2,
            true,
        );
        story.told("k5", "ledger/1", ticks(1), Some(2), 3, true);
        story.told("k6", "shared/0", ticks(2), Some(1), 3, false);
        // One that was refused and one that nobody knows of, which happened.
        story.call(
            "k7",
            "shared/0",
            ticks(1),
            Some(1),
            false,
            Outcome::Refused {
                status: 412,
                code: "version_mismatch".into(),
            },
        );
        story.call("k8", "scratch/1", ticks(1), None, false, Outcome::Unknown);
        story.happened("k8", "scratch/1", &ticks(1), 1);
        story.call("k9", "scratch/1", ticks(1), None, false, Outcome::Unknown);
        story.read(ReadKind::Strong, Some((2, json!({"n": 2}))));
        story.read(ReadKind::OwnWrites, Some((2, json!({"n": 2}))));
        story.found.kafka = story.found.feeds[0].clone();
        story.found.feeds.push(story.found.feeds[0].clone());
        story.found.read_model = BTreeMap::from([(INSTANCE.to_owned(), (2, json!({"n": 2})))]);
        story.found.audit = Some(vec![]);
        story.found.verify = Some(vec![]);
        story
    }

    fn told(
        &mut self,
        key: &str,
        stream: &str,
        asked: Asked,
        expected: Option<u64>,
        version: u64,
        private: bool,
    ) {
        let position = self.happened(key, stream, &asked, version);
        let outcome = Outcome::Acknowledged {
            version,
            position,
            mode: "s3_only".into(),
        };
        self.call(key, stream, asked, expected, private, outcome);
    }

    /// Puts its events into the feed, in a commit of their own; the position of the last.
    fn happened(&mut self, key: &str, stream: &str, asked: &Asked, version: u64) -> String {
        if self.found.feeds.is_empty() {
            self.found.feeds.push(vec![]);
        }
        let feed = &mut self.found.feeds[0];
        let offset = feed.iter().filter(|e| e.position.ends_with("/0")).count();
        let mut events: Vec<Event> = match asked {
            Asked::Append(events) => (1..)
                .zip(events)
                .map(|(i, (kind, data))| {
                    let version = version - events.len() as u64 + i;
                    envelope(stream, version, kind, key, data)
                })
                .collect(),
            Asked::Create(data) => {
                let data = json!({"data": data}).to_string();
                vec![envelope(stream, version, "InstanceCreated", key, &data)]
            }
            Asked::Patch(data) => {
                let data = json!({"data": data}).to_string();
                vec![envelope(stream, version, "InstanceUpdated", key, &data)]
            }
            Asked::Delete | Asked::Prepare => {
                vec![envelope(stream, version, "InstanceDeleted", key, "{}")]
            }
        };
        for (i, event) in events.iter_mut().enumerate() {
            event.position = format!("0/{offset}/{i}");
        }
        let last = events.last().expect("events").position.clone();
        feed.extend(events);
        last
    }

    fn call(
        &mut self,
        key: &str,
        stream: &str,
        asked: Asked,
        expected: Option<u64>,
        private: bool,
        outcome: Outcome,
    ) {
        let at = self.history.calls.len() as u64 * 10;
        self.history.calls.push(Call {
            client: 1,
            key: key.into(),
            stream: stream.into(),
            asked,
            expected,
            private,
            invoked: at,
            ended: at + 5,
            tries: 1,
            outcome,
            again: None,
        });
    }

    fn read(&mut self, kind: ReadKind, seen: Option<(u64, Value)>) {
        self.history.reads.push(Read {
            client: 1,
            stream: INSTANCE.into(),
            kind,
            invoked: 1_000,
            seen,
        });
    }

    /// Changes what is stored, as every node, Kafka and the read model would then see it.
    fn everywhere(&mut self, change: impl Fn(&mut Vec<Event>)) {
        for feed in &mut self.found.feeds {
            change(feed);
        }
        change(&mut self.found.kafka);
    }

    fn judged(&self) -> Verdict {
        judge(&self.history, &self.found)
    }
}

/// The story with one thing changed must break this rule.
fn noticed(rule: &str, change: impl FnOnce(&mut Story)) {
    let mut story = Story::sound();
    change(&mut story);
    let verdict = story.judged();
    assert!(
        verdict.broke(rule),
        "not noticed: {:#?}",
        verdict.violations
    );
}

fn place(events: &[Event], key: &str) -> usize {
    let mark = format!(r#""idempotencykey":"{key}""#);
    (events.iter())
        .position(|e| e.bytes.contains(&mark))
        .expect("an event")
}

#[test]
fn a_sound_history_is_found_sound() {
    let verdict = Story::sound().judged();
    assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    let checked = verdict.checked;
    assert_eq!((checked.acknowledged, checked.refused), (6, 1));
    assert_eq!((checked.unknown, checked.unknown_happened), (2, 1));
}

#[test]
fn law_2_a_lost_event_is_noticed_at_the_end_and_in_the_middle_of_its_stream() {
    for key in ["k1", "k6"] {
        noticed("law 2: lost", |s| {
            s.everywhere(|events| drop(events.remove(place(events, key))));
        });
    }
    noticed("law 5: version gap", |s| {
        s.everywhere(|events| drop(events.remove(place(events, "k1"))));
    });
}

#[test]
fn law_2_a_doubled_event_is_noticed_under_its_id_and_under_another() {
    noticed("law 2: doubled", |s| {
        s.everywhere(|events| events.push(events[place(events, "k5")].clone()));
    });
    noticed("law 2: doubled", |s| {
        s.everywhere(|events| {
            let mut again = events[place(events, "k5")].clone();
            again.version = 4;
            again.id = "another".into();
            again.position = "0/99/0".into();
            events.push(again);
        });
    });
}

#[test]
fn law_5_reordered_and_missing_versions_are_noticed() {
    noticed("law 5: version gap", |s| {
        s.everywhere(|events| {
            let (one, other) = (place(events, "k1"), place(events, "k5"));
            events.swap(one, other);
        });
    });
    noticed("law 5: feed out of order", |s| {
        s.everywhere(|events| {
            let (one, other) = (place(events, "k3"), place(events, "k8"));
            events.swap(one, other);
        });
    });
    noticed("law 5: version gap", |s| {
        s.everywhere(|events| {
            let at = place(events, "k5");
            events[at].version += 1;
        });
    });
}

#[test]
fn law_5_half_a_command_is_noticed() {
    noticed("law 5: half a command", |s| {
        let at = s.history.calls.iter().position(|c| c.key == "k6");
        s.history.calls[at.expect("k6")].outcome = Outcome::Unknown;
        s.everywhere(|events| drop(events.remove(place(events, "k6") + 1)));
    });
    noticed("law 5: torn apart", |s| {
        s.everywhere(|events| {
            let at = place(events, "k6") + 1;
            events[at].position = "0/50/0".into();
        });
    });
    noticed("law 5: chain broken", |s| {
        s.found.audit = Some(vec!["0/3".into()]);
    });
}

#[test]
fn law_6_an_invented_event_is_noticed_with_a_key_and_without() {
    for key in ["unheard-of", ""] {
        noticed("law 6: invented", |s| {
            s.everywhere(|events| {
                let mut event = envelope("ledger/9", 1, "Ticked", key, "{}");
                event.position = "0/60/0".into();
                if key.is_empty() {
                    event.bytes = event.bytes.replace("idempotencykey", "other");
                }
                events.push(event);
            });
        });
    }
}

#[test]
fn law_8_changed_bytes_are_noticed_even_when_they_mean_the_same() {
    for (from, to) in [("{\"i\": 0.50}", "{\"i\":0.50}"), ("Ticked", "Tocked")] {
        noticed("law 8: changed", |s| {
            s.everywhere(|events| {
                let at = place(events, "k5");
                events[at].bytes = events[at].bytes.replace(from, to);
            });
        });
    }
    noticed("law 8: changed", |s| {
        s.everywhere(|events| {
            let at = place(events, "k4");
            events[at].bytes = events[at].bytes.replace("\"n\":2", "\"n\":3");
        });
    });
    noticed("law 8: changed on its way", |s| {
        let at = place(&s.found.kafka, "k5");
        s.found.kafka[at].bytes.push(' ');
    });
    noticed("nodes disagree", |s| {
        s.found.feeds[1].pop();
    });
}

#[test]
fn law_4_a_refused_write_that_is_there_is_noticed() {
    noticed("law 4: refused, yet there", |s| {
        let at = s.history.calls.iter().position(|c| c.key == "k3");
        s.history.calls[at.expect("k3")].outcome = Outcome::Refused {
            status: 412,
            code: "version_mismatch".into(),
        };
    });
    noticed("law 2: refused its own state", |s| {
        s.call(
            "k10",
            "ledger/1",
            Asked::Append(vec![]),
            None,
            true,
            Outcome::Refused {
                status: 409,
                code: "any".into(),
            },
        );
    });
}

#[test]
fn law_7_two_winners_and_an_ignored_precondition_are_noticed() {
    noticed("law 7: two winners", |s| {
        let asked = Asked::Append(vec![("Ticked".into(), "{}".into())]);
        s.told("k10", "shared/0", asked, Some(1), 4, false);
    });
    noticed("law 7: If-Match ignored", |s| {
        let asked = Asked::Append(vec![("Ticked".into(), "{}".into())]);
        s.told("k10", "shared/0", asked, Some(2), 4, false);
    });
}

#[test]
fn law_2_an_answer_that_names_another_place_is_noticed() {
    noticed("law 2: elsewhere", |s| {
        let at = s.history.calls.iter().position(|c| c.key == "k5");
        if let Outcome::Acknowledged { position, .. } =
            &mut s.history.calls[at.expect("k5")].outcome
        {
            *position = "0/0/0".into();
        }
    });
}

#[test]
fn a_read_behind_an_acknowledged_write_is_noticed() {
    for kind in [ReadKind::Strong, ReadKind::OwnWrites] {
        noticed("stale read", |s| s.read(kind, Some((1, json!({"n": 1})))));
        noticed("stale read", |s| s.read(kind, None));
        noticed("read of what never was", |s| {
            s.read(kind, Some((2, json!({"n": 7}))));
        });
    }
}

#[test]
fn law_9_missing_reordered_and_invented_messages_are_noticed() {
    noticed("law 9: not delivered", |s| drop(s.found.kafka.pop()));
    noticed("law 9: out of order", |s| {
        let (one, other) = (place(&s.found.kafka, "k1"), place(&s.found.kafka, "k5"));
        s.found.kafka.swap(one, other);
    });
    noticed("law 9: published, yet not there", |s| {
        s.found
            .kafka
            .push(envelope("ledger/1", 4, "Ticked", "k99", "{}"));
    });
    // Coming again, also late, is what "at least once" means.
    let mut story = Story::sound();
    let again = story.found.kafka.clone();
    story.found.kafka.extend(again);
    assert!(story.judged().violations.is_empty());
}

#[test]
fn law_11_a_read_model_that_differs_from_the_fold_is_noticed() {
    for model in [
        BTreeMap::new(),
        BTreeMap::from([(INSTANCE.to_owned(), (2, json!({"n": 1})))]),
        BTreeMap::from([(INSTANCE.to_owned(), (1, json!({"n": 2})))]),
    ] {
        noticed("law 11: read model differs", |s| s.found.read_model = model);
    }
    noticed("law 11: read model differs", |s| {
        let more = ("instance/nemesis/Thing/b".to_owned(), (1, json!({})));
        s.found.read_model.extend([more]);
    });
}

#[test]
fn law_1_places_that_diverge_are_noticed() {
    noticed("law 1: places diverge", |s| {
        s.found.verify = Some(vec!["0/3 is missing in s3".into()]);
    });
}

#[test]
fn law_2_another_answer_to_the_same_command_is_noticed() {
    let answer = |version| Outcome::Acknowledged {
        version,
        position: "0/0/1".into(),
        mode: "legacy".into(),
    };
    let refused = Outcome::Refused {
        status: 412,
        code: "version_mismatch".into(),
    };
    for again in [answer(4), refused] {
        noticed("law 2: two answers", |s| {
            s.history.calls[0].again = Some(again)
        });
    }
    // The same answer, and none, are what is to be expected.
    for again in [answer(2), Outcome::Unknown] {
        let mut story = Story::sound();
        story.history.calls[0].again = Some(again);
        let verdict = story.judged();
        assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    }
}

#[test]
fn law_4_a_write_said_not_to_be_done_that_is_there_is_noticed() {
    noticed("law 4: not done, yet there", |s| {
        let at = s.history.calls.iter().position(|c| c.key == "k8");
        s.history.calls[at.expect("k8")].outcome = Outcome::NotDone {
            code: "unavailable".into(),
        };
    });
}

#[test]
fn law_10_writes_that_wait_for_postgres_are_noticed() {
    // The calls take 5 of every 10.
    noticed("law 10: no write without PostgreSQL", |s| {
        s.history.without_postgres.push((1, 9));
    });
    let mut story = Story::sound();
    story.history.without_postgres.push((9, 16));
    assert!(story.judged().violations.is_empty());
}

#[test]
fn laws_13_and_15_what_should_have_been_turned_away_and_was_not_is_noticed() {
    noticed("law 13: none turned away", |s| s.history.bursts.push(0));
    noticed("law 15: no proof", |s| s.history.unproven.push(202));
    let mut story = Story::sound();
    story.history.bursts.push(1);
    story.history.unproven.push(409);
    assert!(story.judged().violations.is_empty());
}
