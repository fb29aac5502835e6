//! Judges what is made from the log: messages and the read model.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::history::Event;
use crate::validator::{States, Verdict};

/// Law 9: every event came, byte for byte, and of each stream they came for the first time in
/// order.
pub fn kafka(feed: &[Event], came: &[Event], verdict: &mut Verdict) {
    let known: HashMap<&str, &Event> = feed.iter().map(|e| (e.id.as_str(), e)).collect();
    let mut newest: HashMap<&str, u64> = HashMap::new();
    let mut seen = HashSet::new();
    for message in came {
        match known.get(message.id.as_str()) {
            None => verdict.wrong("law 9: published, yet not there", || message.bytes.clone()),
            Some(event) if event.bytes != message.bytes => {
                verdict.wrong("law 8: changed on its way", || message.bytes.clone());
            }
            Some(_) => {}
        }
        let newest = newest.entry(&message.stream).or_default();
        if message.version > *newest + 1 {
            verdict.wrong("law 9: out of order", || {
                let Event {
                    stream, version, ..
                } = message;
                format!("{stream}: {version} came right after {newest}")
            });
        }
        *newest = message.version.max(*newest);
        seen.insert(message.id.as_str());
    }
    for event in feed {
        if !seen.contains(event.id.as_str()) {
            verdict.wrong("law 9: not delivered", || event.position.clone());
        }
    }
}

/// The read model is the fold of the log.
pub fn read_model(
    all: &HashMap<&str, States>,
    model: &BTreeMap<String, (u64, Value)>,
    verdict: &mut Verdict,
) {
    for (stream, states) in all {
        let expected = (states.last().cloned().flatten()).map(|data| (states.len() as u64, data));
        if model.get(*stream) != expected.as_ref() {
            verdict.wrong("law 11: read model differs", || {
                format!(
                    "{stream}: {:?}, the log says {expected:?}",
                    model.get(*stream)
                )
            });
        }
    }
    for stream in model.keys() {
        if !all.contains_key(stream.as_str()) {
            verdict.wrong("law 11: read model differs", || {
                format!("{stream} is not in the log")
            });
        }
    }
}
