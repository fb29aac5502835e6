//! Every body of the API, at every depth: unknown members are refused, because ignoring them
//! would leave undone what the caller asked for.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::{admin, batch, databases, instances, jobs, json, openapi, streams};
use crate::domain::class::definition::ClassDefinition;
use crate::migration::switch_order::SwitchOrder;
use crate::store::ports::read_model::query::QuerySpec;

type Read = fn(&[u8]) -> Result<(), Problem>;

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<(), Problem> {
    json::parse_object::<T>(body).map(drop)
}

/// What is said by members of these names is the caller's own affair.
const FREE: &[&str] = &["data", "metadata", "default", "constraints", "value"];

/// Every operation with a body, what reads it, and a body with every object that it may hold.
fn bodies() -> Vec<(&'static str, Read, Value)> {
    let class = json!({
        "id": "Movie", "label": "Movie",
        "properties": [{"name": "title", "type": "string", "constraints": {"max_length": 9}}],
        "relationships": [{"predicate": "by", "target": "Person", "cardinality": "n:m"}],
        "metadata": {},
    });
    let job = json!({"action": "start"});
    vec![
        (
            "createDatabase",
            read::<databases::CreateDatabase>,
            json!({"name": "films"}),
        ),
        ("createClass", read::<ClassDefinition>, class.clone()),
        ("replaceClass", read::<ClassDefinition>, class),
        (
            "createInstance",
            read::<instances::CreateInstance>,
            json!({"data": {}, "metadata": {}}),
        ),
        (
            "queryInstances",
            read::<QuerySpec>,
            json!({
                "filters": [{"field": "year", "op": "gte", "value": 1990}],
                "sort": ["-year", {"field": "title", "descending": true}],
            }),
        ),
        (
            "batchInstances",
            read::<batch::Batch>,
            json!({
                "operations": [{"op": "create", "data": {}, "metadata": {}}],
            }),
        ),
        (
            "appendEvents",
            read::<streams::Append>,
            json!({
                "events": [{"type": "A", "data": {}, "metadata": {}}],
            }),
        ),
        (
            "switchMode",
            read::<SwitchOrder>,
            json!({"mode": "s3_only", "reason": "r"}),
        ),
        ("orderBackfill", read::<jobs::BackfillOrder>, job.clone()),
        ("orderVerify", read::<jobs::VerifyOrder>, job.clone()),
        ("orderRepair", read::<jobs::RepairOrder>, job.clone()),
        ("orderArchive", read::<jobs::ArchiveOrder>, job),
        (
            "killActor",
            read::<admin::Kill>,
            json!({"path": "a", "how": "panic"}),
        ),
        (
            "armFailpoint",
            read::<admin::Failpoint>,
            json!({"name": "s3.get.before", "action": "error"}),
        ),
        (
            "shiftClock",
            read::<admin::ClockShift>,
            json!({"offset_seconds": 1}),
        ),
    ]
}

/// All bodies that differ from `body` by one more member somewhere, with the path of that member.
fn with_one_more(body: &Value) -> Vec<(String, Value)> {
    const MORE: &str = "unheard_of";
    match body {
        Value::Object(members) => {
            let mut more = members.clone();
            more.insert(MORE.into(), 1.into());
            let mut all = vec![(MORE.to_owned(), more.into())];
            for (name, value) in members.iter().filter(|(n, _)| !FREE.contains(&n.as_str())) {
                for (path, changed) in with_one_more(value) {
                    let mut members: Map<String, Value> = members.clone();
                    members.insert(name.clone(), changed);
                    let dot = if path.starts_with('[') { "" } else { "." };
                    all.push((format!("{name}{dot}{path}"), members.into()));
                }
            }
            all
        }
        Value::Array(items) => {
            let changed = items.iter().enumerate().flat_map(|(i, item)| {
                with_one_more(item).into_iter().map(move |(path, changed)| {
                    let mut items = items.clone();
                    items[i] = changed;
                    (format!("[{i}].{path}"), items.into())
                })
            });
            changed.collect()
        }
        _ => vec![],
    }
}

#[test]
fn members_that_nobody_knows_are_refused_at_every_depth() {
    let mut walked = 0;
    for (operation, read, body) in bodies() {
        let text = serde_json::to_vec(&body).unwrap();
        read(&text).unwrap_or_else(|problem| panic!("{operation}: {problem}"));
        for (path, changed) in with_one_more(&body) {
            let text = serde_json::to_vec(&changed).unwrap();
            let Err(problem) = read(&text) else {
                panic!("{operation} takes {changed}");
            };
            let violation = &problem.body().violations[0];
            assert_eq!(violation.code, "unknown_field", "{operation}: {problem}");
            assert_eq!(violation.field, path, "{operation}");
            walked += 1;
        }
    }
    assert_eq!(walked, 15 + 2 + 2 + 2 + 1 + 1, "objects");
}

#[test]
fn every_operation_with_a_body_is_among_them() {
    let document = openapi::document();
    let mut described = BTreeSet::new();
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            if operation.get("requestBody").is_some() {
                described.insert(operation["operationId"].as_str().unwrap().to_owned());
            }
        }
    }
    // A merge patch is the caller's own affair as a whole.
    assert!(described.remove("patchInstance"));
    let walked: BTreeSet<String> = bodies().iter().map(|b| b.0.to_owned()).collect();
    assert_eq!(described, walked);
}

#[test]
fn the_order_of_a_sort_is_never_guessed() {
    let read = |sort: Value| {
        let body = serde_json::to_vec(&json!({"sort": [sort]})).unwrap();
        let problem = read::<QuerySpec>(&body).unwrap_err();
        let violation = &problem.body().violations[0];
        (violation.field.clone(), violation.code)
    };
    let fault = |field: &str, code| (field.to_owned(), code);
    let with_dir = json!({"field": "n", "dir": "desc"});
    assert_eq!(read(with_dir), fault("sort[0].dir", "unknown_field"));
    assert_eq!(
        read(json!({"descending": true})),
        fault("sort[0].field", "required")
    );
    assert_eq!(read(json!(7)), fault("sort[0]", "type"));
}
