//! Judges a history by the laws. Pure: the same history gives the same verdict, and every law has a
//! test that breaks it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use crate::copies::{kafka, read_model};
use crate::history::{Asked, Call, Event, Found, History, Outcome, ReadKind};

/// Violations listed of one kind at most: a lost partition need not fill a screen.
const MOST_OF_A_KIND: usize = 5;

/// What a law forbids and was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which rule, in two words.
    pub rule: &'static str,
    /// What was found.
    pub what: String,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Acknowledged commands.
    pub acknowledged: usize,
    /// Refused ones.
    pub refused: usize,
    /// Ones of which nothing was done.
    pub not_done: usize,
    /// Ones that were acknowledged twice.
    pub again: usize,
    /// Ones of unknown outcome.
    pub unknown: usize,
    /// Of these: that had happened.
    pub unknown_happened: usize,
    /// Events in the feed.
    pub events: usize,
    /// Messages of Kafka.
    pub messages: usize,
    /// Reads.
    pub reads: usize,
    /// Instances of the read model.
    pub instances: usize,
}

/// The verdict.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is wrong; empty when all is well.
    pub violations: Vec<Violation>,
    /// How much was looked at.
    pub checked: Checked,
    counts: HashMap<&'static str, usize>,
}

impl Verdict {
    /// Notes a violation.
    pub fn wrong(&mut self, rule: &'static str, what: impl FnOnce() -> String) {
        let count = self.counts.entry(rule).or_default();
        *count += 1;
        if *count <= MOST_OF_A_KIND {
            let what = what();
            self.violations.push(Violation { rule, what });
        }
    }

    /// Whether this rule was broken.
    pub fn broke(&self, rule: &str) -> bool {
        self.counts.contains_key(rule)
    }

    /// How often each rule was broken.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.counts.iter().map(|(k, v)| (*k, *v)).collect()
    }
}

/// Position as numbers.
fn place(position: &str) -> Option<(u64, u64, u64)> {
    let mut parts = position.split('/').map(|p| p.parse().ok());
    let place = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(place)
}

/// The state of an instance after each version: none once it is deleted.
pub type States = Vec<Option<Value>>;

struct Stored<'a> {
    /// Events by the key of the command that made them, in the feed's order.
    by_key: HashMap<String, Vec<(&'a Event, Value)>>,
    /// State after each version, from version 1, of streams of instances.
    states: HashMap<&'a str, States>,
}

/// Judges.
pub fn judge(history: &History, found: &Found) -> Verdict {
    let mut verdict = Verdict::default();
    let feed = found.feeds.first().map_or(&[][..], Vec::as_slice);
    for other in found.feeds.iter().skip(1) {
        same_feed(feed, other, &mut verdict);
    }
    let stored = log(feed, &mut verdict);
    calls(history, &stored, &mut verdict);
    if_match(history, &mut verdict);
    without_postgres(history, &mut verdict);
    for _ in history.bursts.iter().filter(|away| **away == 0) {
        verdict.wrong("law 13: none turned away", || {
            "a burst on one entity".into()
        });
    }
    for status in history.unproven.iter().filter(|s| **s != 409) {
        verdict.wrong("law 15: no proof", || {
            format!("a switch was answered by {status}")
        });
    }
    reads(history, &stored, &mut verdict);
    kafka(feed, &found.kafka, &mut verdict);
    read_model(&stored.states, &found.read_model, &mut verdict);
    for broken in found.audit.iter().flatten() {
        verdict.wrong("law 5: chain broken", || broken.clone());
    }
    for divergence in found.verify.iter().flatten() {
        verdict.wrong("law 1: places diverge", || divergence.clone());
    }
    verdict.checked.events = feed.len();
    verdict.checked.messages = found.kafka.len();
    verdict.checked.reads = history.reads.len();
    verdict.checked.instances = found.read_model.len();
    verdict
}

/// Every node gives the same events; each partition in the same order.
fn same_feed(one: &[Event], other: &[Event], verdict: &mut Verdict) {
    let by_position = |feed: &[Event]| -> BTreeMap<Option<(u64, u64, u64)>, String> {
        (feed.iter().map(|e| (place(&e.position), e.bytes.clone()))).collect()
    };
    let (one, other) = (by_position(one), by_position(other));
    for at in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
        if one.get(at) != other.get(at) {
            verdict.wrong("nodes disagree", || format!("at {at:?}"));
        }
    }
}

/// Law 5 over the feed: positions only grow within a partition, indexes have no holes within a
/// commit, versions of each stream are 1, 2, 3, …, no event comes twice.
fn log<'a>(feed: &'a [Event], verdict: &mut Verdict) -> Stored<'a> {
    let mut stored = Stored {
        by_key: HashMap::new(),
        states: HashMap::new(),
    };
    let mut last: HashMap<u64, (u64, u64)> = HashMap::new();
    let mut versions: HashMap<&str, u64> = HashMap::new();
    let mut ids = HashSet::new();
    for event in feed {
        let Some((partition, offset, index)) = place(&event.position) else {
            verdict.wrong("law 5: no position", || event.position.clone());
            continue;
        };
        let follows = match last.insert(partition, (offset, index)) {
            None => index == 0,
            Some((o, i)) if o == offset => index == i + 1,
            Some((o, _)) => offset > o && index == 0,
        };
        if !follows {
            verdict.wrong("law 5: feed out of order", || event.position.clone());
        }
        if !ids.insert(&event.id) {
            verdict.wrong("law 2: doubled", || {
                format!("{} {}", event.stream, event.id)
            });
        }
        let version = versions.entry(&event.stream).or_default();
        *version += 1;
        if event.version != *version {
            verdict.wrong("law 5: version gap", || {
                let Event {
                    stream,
                    version: is,
                    ..
                } = event;
                format!("{stream} has {is} where {version} should be")
            });
            *version = event.version;
        }
        let Ok(envelope) = serde_json::from_str::<Value>(&event.bytes) else {
            verdict.wrong("law 8: not an envelope", || event.bytes.clone());
            continue;
        };
        if event.stream.starts_with("instance/") {
            let deleted = envelope["type"] == "InstanceDeleted";
            let states = stored.states.entry(&event.stream).or_default();
            states.push((!deleted).then(|| envelope["data"]["data"].clone()));
        }
        if let Some(key) = envelope["idempotencykey"].as_str() {
            let key = key.to_owned();
            stored
                .by_key
                .entry(key)
                .or_default()
                .push((event, envelope));
        }
    }
    for event in feed {
        let sent = serde_json::from_str::<Value>(&event.bytes)
            .is_ok_and(|e| e["idempotencykey"].is_string());
        if !sent {
            verdict.wrong("law 6: invented", || {
                format!("{} {}", event.stream, event.id)
            });
        }
    }
    stored
}

/// Laws 2, 4, 6 and 7, command by command.
fn calls(history: &History, stored: &Stored<'_>, verdict: &mut Verdict) {
    let mut known = HashSet::new();
    for call in &history.calls {
        if !known.insert(call.key.as_str()) {
            verdict.wrong("the test is wrong: key twice", || call.key.clone());
        }
        let events = stored.by_key.get(&call.key).map_or(&[][..], Vec::as_slice);
        let wanted = call.asked.events() as usize;
        if events.len() > wanted {
            verdict.wrong("law 2: doubled", || {
                format!("{}: {} events of {wanted}", describe(call), events.len())
            });
        }
        match &call.outcome {
            Outcome::Acknowledged {
                version, position, ..
            } => {
                verdict.checked.acknowledged += 1;
                if events.len() < wanted {
                    verdict.wrong("law 2: lost", || {
                        format!("{}: {} events of {wanted}", describe(call), events.len())
                    });
                } else if let Some((last, _)) = events.last()
                    && (last.version != *version || last.position != *position)
                {
                    verdict.wrong("law 2: elsewhere", || {
                        let (v, p) = (last.version, &last.position);
                        format!("{}: is at {v} {p}", describe(call))
                    });
                }
            }
            Outcome::Refused { .. } => {
                verdict.checked.refused += 1;
                if !events.is_empty() {
                    verdict.wrong("law 4: refused, yet there", || describe(call));
                }
                if call.private {
                    // Its client knows the stream: what it asks for must be possible.
                    verdict.wrong("law 2: refused its own state", || describe(call));
                }
            }
            Outcome::NotDone { .. } => {
                verdict.checked.not_done += 1;
                if !events.is_empty() {
                    verdict.wrong("law 4: not done, yet there", || describe(call));
                }
            }
            Outcome::Unknown => {
                verdict.checked.unknown += 1;
                verdict.checked.unknown_happened += usize::from(!events.is_empty());
                if !events.is_empty() && events.len() < wanted {
                    verdict.wrong("law 5: half a command", || {
                        format!("{}: {} events of {wanted}", describe(call), events.len())
                    });
                }
            }
        }
        repeated(call, verdict);
        contents(call, events, stored, verdict);
    }
    for (key, events) in &stored.by_key {
        if !known.contains(key.as_str()) {
            verdict.wrong("law 6: invented", || {
                format!("{} by {key}", events[0].0.stream)
            });
        }
    }
}

/// Law 2: whoever asks again what was acknowledged is told the same.
fn repeated(call: &Call, verdict: &mut Verdict) {
    let is_same = match (&call.outcome, &call.again) {
        (
            Outcome::Acknowledged {
                version, position, ..
            },
            Some(Outcome::Acknowledged {
                version: v,
                position: p,
                ..
            }),
        ) => (version, position) == (v, p),
        (_, None | Some(Outcome::NotDone { .. } | Outcome::Unknown)) => return,
        _ => false,
    };
    verdict.checked.again += 1;
    if !is_same {
        verdict.wrong("law 2: two answers", || {
            format!("{}, then {:?}", describe(call), call.again)
        });
    }
}

/// Law 10: while S3 leads, writes go on without PostgreSQL.
fn without_postgres(history: &History, verdict: &mut Verdict) {
    for (from, to) in &history.without_postgres {
        let mut calls = history.calls.iter();
        let went_on = calls.any(|call| {
            let acknowledged = matches!(call.outcome, Outcome::Acknowledged { .. });
            acknowledged && call.invoked > *from && call.ended < *to
        });
        if !went_on {
            verdict.wrong("law 10: no write without PostgreSQL", || {
                format!("from {from} to {to} µs")
            });
        }
    }
}

/// Law 8: what is stored is what was sent, all of it together, on the stream it was sent to.
fn contents(call: &Call, events: &[(&Event, Value)], stored: &Stored<'_>, verdict: &mut Verdict) {
    for (i, (event, envelope)) in events.iter().enumerate() {
        let alike = match &call.asked {
            Asked::Prepare => true,
            Asked::Append(sent) => sent.get(i).is_some_and(|(kind, data)| {
                envelope["type"] == kind.as_str()
                    && event.bytes.ends_with(&format!(r#","data":{data}}}"#))
            }),
            Asked::Create(data) => {
                envelope["type"] == "InstanceCreated" && envelope["data"]["data"] == *data
            }
            Asked::Patch(patch) => {
                let before = before(event, stored);
                envelope["type"] == "InstanceUpdated"
                    && envelope["data"]["data"] == patched(before, patch)
            }
            Asked::Delete => envelope["type"] == "InstanceDeleted",
        };
        if !alike || event.stream != call.stream {
            verdict.wrong("law 8: changed", || {
                format!("{}: {}", describe(call), event.bytes)
            });
        }
    }
    let together = events.windows(2).all(|pair| {
        let ends = [place(&pair[0].0.position), place(&pair[1].0.position)];
        matches!(ends, [Some((p, o, i)), Some(next)] if next == (p, o, i + 1))
    });
    if !together {
        verdict.wrong("law 5: torn apart", || describe(call));
    }
    if let (Some(expected), Some((first, _))) = (call.expected, events.first())
        && first.version != expected + 1
    {
        verdict.wrong("law 7: If-Match ignored", || {
            format!("{}: it is version {}", describe(call), first.version)
        });
    }
}

fn before(event: &Event, stored: &Stored<'_>) -> Value {
    let states = stored.states.get(event.stream.as_str());
    (event.version.checked_sub(2))
        .and_then(|i| states?.get(i as usize)?.clone())
        .unwrap_or_default()
}

/// RFC 7396 for the flat objects that the load sends.
fn patched(mut before: Value, patch: &Value) -> Value {
    if let (Some(object), Some(patch)) = (before.as_object_mut(), patch.as_object()) {
        for (name, value) in patch {
            if value.is_null() {
                object.shift_remove(name);
            } else {
                object.insert(name.clone(), value.clone());
            }
        }
    }
    before
}

/// Law 7: of one version of a stream at most one command was told that it followed it.
fn if_match(history: &History, verdict: &mut Verdict) {
    let mut won: HashMap<(&str, u64), &Call> = HashMap::new();
    for call in &history.calls {
        let (Outcome::Acknowledged { version, .. }, Some(expected)) =
            (&call.outcome, call.expected)
        else {
            continue;
        };
        if *version != expected + call.asked.events() {
            verdict.wrong("law 7: If-Match ignored", || describe(call));
        }
        if let Some(other) = won.insert((&call.stream, expected), call) {
            verdict.wrong("law 7: two winners", || {
                format!("{} and {}", describe(other), describe(call))
            });
        }
    }
}

/// No read goes back behind what it promises to see, and none shows what never was.
fn reads(history: &History, stored: &Stored<'_>, verdict: &mut Verdict) {
    let mut told: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in &history.calls {
        told.entry(&call.stream).or_default().push(call);
    }
    for read in &history.reads {
        let must_see = told.get(read.stream.as_str()).into_iter().flatten();
        let must_see = must_see
            .filter(|c| c.ended < read.invoked)
            .filter(|c| read.kind == ReadKind::Strong || c.client == read.client)
            .filter_map(|c| match c.outcome {
                Outcome::Acknowledged { version, .. } => Some(version),
                _ => None,
            })
            .max()
            .unwrap_or(0);
        let states = stored.states.get(read.stream.as_str());
        let at = |version: u64| states?.get(version.checked_sub(1)? as usize);
        match &read.seen {
            Some((version, data)) => {
                if *version < must_see {
                    verdict.wrong("stale read", || {
                        let (stream, kind) = (&read.stream, read.kind);
                        format!("{stream} ({kind:?}) shows {version} after {must_see}")
                    });
                }
                if at(*version) != Some(&Some(data.clone())) {
                    verdict.wrong("read of what never was", || {
                        format!("{} {version}: {data}", read.stream)
                    });
                }
            }
            None => {
                // Nothing is right if at some version from there on there was nothing.
                let later = states.map_or(&[][..], Vec::as_slice);
                let later = &later[(must_see.saturating_sub(1) as usize).min(later.len())..];
                if must_see > 0 && later.iter().all(Option::is_some) {
                    verdict.wrong("stale read", || {
                        let (stream, kind) = (&read.stream, read.kind);
                        format!("{stream} ({kind:?}) shows nothing after {must_see}")
                    });
                }
            }
        }
    }
}

fn describe(call: &Call) -> String {
    let Call {
        key,
        stream,
        expected,
        tries,
        outcome,
        ..
    } = call;
    let kind = match &call.asked {
        Asked::Append(events) => format!("append of {}", events.len()),
        Asked::Create(_) => "create".into(),
        Asked::Patch(_) => "patch".into(),
        Asked::Delete => "delete".into(),
        Asked::Prepare => "preparation".into(),
    };
    format!("{kind} {key} to {stream} (If-Match {expected:?}, {tries} tries): {outcome:?}")
}
