//! What each place holds: the log in S3, and the read model and the feed behind the API.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context;
use serde_json::{Map, Value};

use super::plan::State;
use crate::cli::log::bucket::{Bucket, Stopped};
use crate::cli::remote::{Api, component};
use crate::domain::event::Envelope;
use crate::domain::ids::{EventId, Offset, PartitionId};
use crate::domain::property::decimal::Decimal;
use crate::log::audit::PartitionAudit;
use crate::log::object::{CommitKind, CommitObject, ObjectHash};

/// Items per page.
const PAGE: usize = 1000;
/// Differences shown at most.
const SHOWN: usize = 3;

/// The log's content of one database.
#[derive(Debug, Default)]
pub struct LogFacts {
    /// Hash of each event's bytes, and the position of its commit.
    pub events: HashMap<EventId, (PartitionId, Offset, ObjectHash)>,
    /// Events that are in the log twice.
    pub repeated: usize,
    /// The instances, folded from their events.
    pub state: State,
    /// Errors in the log's hash chains.
    pub broken: Vec<String>,
    pub objects: u64,
}

impl LogFacts {
    /// Reads and checks the whole log straight from the bucket.
    pub async fn read(bucket: &Bucket, db: &str) -> anyhow::Result<Self> {
        let mut facts = Self::default();
        for partition in bucket.log.partition_ids() {
            let offsets = bucket.offsets(partition).await?;
            let to = offsets.last().map_or(0, |last| last + 1);
            let mut audit = PartitionAudit::new(partition, bucket.log.partitions());
            let walked = bucket
                .walk(partition, to, |object| {
                    audit.take(object)?;
                    facts.take(object, db)
                })
                .await;
            match walked {
                Ok(()) => {}
                Err(Stopped::Broken { offset, what }) => {
                    facts.broken.push(format!("{partition}/{offset}: {what}"));
                }
                Err(Stopped::Store(error)) => return Err(error.into()),
            }
            facts.objects += audit.next_offset();
        }
        Ok(facts)
    }

    fn take(&mut self, object: &CommitObject, db: &str) -> Result<(), String> {
        if object.header.kind != CommitKind::Events {
            return Ok(());
        }
        for i in 0..object.lines.len() {
            let line = object.line(i);
            let event = Envelope::parse(&line).map_err(|e| e.to_string())?;
            let stream = event.stream();
            let components: Vec<_> = stream.components().map(|c| c.into_owned()).collect();
            let ours = matches!(stream.stream_type(), "database" | "class" | "instance");
            if !ours || components.first().is_none_or(|first| first != db) {
                continue;
            }
            let place = (object.header.partition, object.header.offset);
            let known = self
                .events
                .insert(event.id, (place.0, place.1, ObjectHash::of(&line)));
            self.repeated += usize::from(known.is_some());
            if let [_, class, id] = &components[..] {
                self.fold(class, id, &event)?;
            }
        }
        Ok(())
    }

    fn fold(&mut self, class: &str, id: &str, event: &Envelope<'_>) -> Result<(), String> {
        let key = (class.to_owned(), id.to_owned());
        match &*event.event_type {
            "InstanceCreated" | "InstanceUpdated" => {
                let payload: Value =
                    serde_json::from_str(event.data.get()).map_err(|e| e.to_string())?;
                let Some(Value::Object(state)) = payload.get("data") else {
                    return Err(format!("{} without data", event.event_type));
                };
                self.state.insert(key, state.clone());
            }
            "InstanceDeleted" => {
                self.state.remove(&key);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Every instance of these classes, page by page, as the query API answers.
pub async fn read_model(api: &Api, db: &str, classes: &[&str]) -> anyhow::Result<State> {
    let mut state = State::new();
    for class in classes {
        let path = format!(
            "/api/v1/databases/{}/classes/{}/instances?limit={PAGE}",
            component(db),
            component(class)
        );
        let mut cursor: Option<String> = None;
        loop {
            let after = cursor
                .map(|c| format!("&cursor={}", component(&c)))
                .unwrap_or_default();
            let page = api.get(&format!("{path}{after}")).await?;
            let items = page["items"].as_array().context("a page without items")?;
            for item in items {
                let id = item["id"].as_str().context("an item without id")?;
                let data = item["data"].as_object().context("an item without data")?;
                state.insert(((*class).to_owned(), id.to_owned()), data.clone());
            }
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(state)
}

/// Ids of the events of one database in the feed, and how many came twice.
pub async fn feed(api: &Api, db: &str) -> anyhow::Result<(HashSet<EventId>, usize)> {
    let mut ids = HashSet::new();
    let mut repeated = 0;
    let mut cursor: Option<String> = None;
    loop {
        let after = cursor
            .as_deref()
            .map(|c| format!("&after={}", component(c)))
            .unwrap_or_default();
        let page = api
            .get(&format!("/api/v1/events?limit={PAGE}{after}"))
            .await?;
        let items = page["items"].as_array().context("a page without items")?;
        for event in items {
            let subject = event["subject"].as_str().unwrap_or_default();
            let of_database = subject.split('/').nth(1) == Some(db);
            if of_database {
                let id = serde_json::from_value(event["id"].clone())?;
                repeated += usize::from(!ids.insert(id));
            }
        }
        let next = page["next_cursor"].as_str().map(str::to_owned);
        if items.is_empty() && (next.is_none() || next == cursor) {
            return Ok((ids, repeated));
        }
        cursor = next;
    }
}

/// How many instances differ between two states, with a few of them described.
pub fn differences(a: &State, b: &State) -> (usize, Vec<String>) {
    let keys: BTreeMap<_, ()> = a.keys().chain(b.keys()).map(|k| (k, ())).collect();
    let differ = keys
        .keys()
        .filter(|key| match (a.get(**key), b.get(**key)) {
            (Some(a), Some(b)) => !same_object(a, b),
            _ => true,
        });
    let differ: Vec<String> = differ.map(|(class, id)| format!("{class} {id}")).collect();
    (differ.len(), differ.into_iter().take(SHOWN).collect())
}

fn same_object(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == b.len()
        && a.iter()
            .all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
}

/// Compares values rather than their text: PostgreSQL formats numbers in its own way.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.to_string(), b.to_string());
            a == b || Decimal::parse(&a).is_some_and(|a| Decimal::parse(&b) == Some(a))
        }
        (Value::Object(a), Value::Object(b)) => same_object(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(data: Value) -> State {
        let data = data.as_object().unwrap().clone();
        State::from([(("C".to_owned(), "1".to_owned()), data)])
    }

    #[test]
    fn values_are_compared_and_not_their_spelling() {
        let text = r#"{"a":1.50,"b":1e2,"c":[{"d":0.1}]}"#;
        let other = r#"{"c":[{"d":0.10}],"b":100,"a":1.5}"#;
        let read = |text: &str| state(serde_json::from_str(text).unwrap());
        assert_eq!(differences(&read(text), &read(other)).0, 0);
    }

    #[test]
    fn what_is_missing_or_other_is_a_difference() {
        let base = state(json!({ "a": 1 }));
        for other in [
            json!({ "a": 2 }),
            json!({ "a": "1" }),
            json!({}),
            json!({ "a": 1, "b": null }),
        ] {
            assert_eq!(differences(&base, &state(other.clone())).0, 1, "{other}");
        }
        assert_eq!(differences(&base, &State::new()).0, 1);
        assert_eq!(differences(&State::new(), &base).0, 1);
    }
}
