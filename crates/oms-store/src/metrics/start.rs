//! Counters from the start: a counter that appears with its first event has no growth that a rule
//! could see (`increase()` of a series that was not there is nothing). So every set of labels that
//! is known beforehand is there with 0.

use hashbrown::HashSet;
use metrics::{counter, histogram};
use parking_lot::RwLock;

use super::{
    ADMISSION_REJECTS, ARBITER_RESTARTS, AUDIT_LOST, AUDITED, COMMITS, DEPENDENCY_FAILED,
    DEPENDENCY_STARTED, DEPENDENCY_SUCCEEDED, ERRORS, ESCALATIONS, HANDOFFS, IMPORTED,
    MIRROR_COPIED, MIRROR_FAILED, PANICS, PROJECTED, PUBLISH_FAILED, PUBLISHED, RACES_LOST, READS,
    REBUILDS, REPAIRS, RESTARTS, SETTLED, SHADOW_READS, SWITCHES, VERIFIED, VERSION_CONFLICTS,
    WRITE_SECONDS, WRITES,
};
use crate::error::StoreErrorKind;
use oms_core::log::lead::Lead;
use oms_core::migration::stage::StageKind;
use oms_core::migration::switch::SwitchState;

/// What a dependency, and not the request, is at fault for.
const FAULTS: [StoreErrorKind; 5] = [
    StoreErrorKind::Unavailable,
    StoreErrorKind::Timeout,
    StoreErrorKind::Full,
    StoreErrorKind::Throttled,
    StoreErrorKind::Denied,
];

/// Calls to a bucket; those of PostgreSQL and Kafka are there from the first time they are made.
const S3_OPERATIONS: [&str; 6] = ["put_if_absent", "put", "get", "get_range", "list", "delete"];

/// Event types by the label of their aggregate.
const EVENT_TYPES: [(&str, &[&str]); 4] = [
    ("database", &["DatabaseCreated", "DatabaseDeleted"]),
    ("class", &["ClassCreated", "ClassUpdated", "ClassDeleted"]),
    (
        "instance",
        &["InstanceCreated", "InstanceUpdated", "InstanceDeleted"],
    ),
    ("stream", &["other"]),
];

/// Ways in which reads are made, by the label of their aggregate.
const READ_OPERATIONS: [(&str, &[&str]); 4] = [
    ("database", &["get", "list"]),
    ("class", &["get", "list"]),
    ("instance", &["get", "point_in_time", "query"]),
    ("stream", &["get", "stream", "feed"]),
];

const LIMITS: [&str; 9] = [
    "live_aggregates",
    "per_entity",
    "live_streams",
    "body_bytes_in_flight",
    "requests_in_flight",
    "response_bytes_in_flight",
    "http2_streams",
    "commands",
    "command_bytes",
];

const LEADS: [Lead; 2] = [Lead::Postgres, Lead::S3];

/// Labels that only whoever puts the process together knows.
#[derive(Debug, Default)]
pub struct Labels {
    /// Kinds of actors.
    pub actors: Vec<&'static str>,
    /// Threads of actors.
    pub arbiters: Vec<String>,
    /// Topics.
    pub topics: Vec<String>,
    /// Configured sources of imports.
    pub sources: Vec<String>,
}

/// Makes every counter with known labels exist.
pub fn begin(labels: &Labels) {
    for name in [COMMITS, RACES_LOST, VERSION_CONFLICTS, PROJECTED, VERIFIED] {
        counter!(name).increment(0);
    }
    actors(labels);
    migration();
    events();
    for operation in S3_OPERATIONS {
        dependency("s3", operation);
    }
    for kind in ["command", "refusal"] {
        counter!(AUDITED, "kind" => kind).increment(0);
    }
    counter!(AUDIT_LOST).increment(0);
    for limit in LIMITS {
        counter!(ADMISSION_REJECTS, "limit" => limit).increment(0);
    }
    for topic in &labels.topics {
        counter!(PUBLISHED, "topic" => topic.clone()).increment(0);
    }
    let faults = FAULTS.map(StoreErrorKind::as_str);
    for cause in faults.into_iter().chain(["rejected", "body"]) {
        counter!(PUBLISH_FAILED, "cause" => cause).increment(0);
    }
    for source in &labels.sources {
        for outcome in ["written", "existing", "parked"] {
            counter!(IMPORTED, "source" => source.clone(), "outcome" => outcome).increment(0);
        }
    }
}

fn actors(labels: &Labels) {
    for &actor in &labels.actors {
        for cause in ["panic", "killed", "stopped", "stuck", "lost"] {
            counter!(RESTARTS, "actor" => actor, "cause" => cause).increment(0);
        }
        counter!(ESCALATIONS, "actor" => actor).increment(0);
        counter!(REBUILDS, "actor" => actor).increment(0);
    }
    for arbiter in &labels.arbiters {
        counter!(ARBITER_RESTARTS, "arbiter" => arbiter.clone()).increment(0);
    }
    for place in ["actor", "other"] {
        counter!(PANICS, "in" => place).increment(0);
    }
}

fn migration() {
    for store in LEADS.map(Lead::as_str) {
        for outcome in ["done", "undone"] {
            counter!(HANDOFFS, "store" => store, "outcome" => outcome).increment(0);
        }
        counter!(MIRROR_COPIED, "store" => store).increment(0);
        let others = [
            StoreErrorKind::Corrupt,
            StoreErrorKind::Conflict,
            StoreErrorKind::Invalid,
        ];
        for kind in FAULTS.into_iter().chain(others) {
            counter!(MIRROR_FAILED, "store" => store, "kind" => kind.as_str()).increment(0);
        }
    }
    for from in LEADS {
        for reason in FAULTS.into_iter().chain([StoreErrorKind::NotFound]) {
            super::fallback_reads(from, from.other(), reason, 0);
        }
    }
    for outcome in ["same", "differs"] {
        counter!(SHADOW_READS, "outcome" => outcome).increment(0);
    }
    for goal in StageKind::ROAD.map(StageKind::as_str) {
        for outcome in SwitchState::ENDS.map(SwitchState::as_str) {
            counter!(SWITCHES, "goal" => goal, "outcome" => outcome).increment(0);
        }
    }
    for outcome in [
        "repaired",
        "would_repair",
        "needs_order",
        "gone",
        "not_repairable",
    ] {
        counter!(REPAIRS, "outcome" => outcome).increment(0);
    }
}

fn events() {
    for (aggregate, types) in EVENT_TYPES {
        for event_type in types {
            counter!(WRITES, "aggregate_type" => aggregate, "event_type" => *event_type)
                .increment(0);
        }
        // Made, and with that exported, without a sample.
        drop(histogram!(WRITE_SECONDS, "aggregate_type" => aggregate));
    }
    for (aggregate, operations) in READ_OPERATIONS {
        for operation in operations {
            counter!(READS, "aggregate_type" => aggregate, "operation" => *operation).increment(0);
        }
    }
    for outcome in ["committed", "lost_race"] {
        counter!(SETTLED, "outcome" => outcome).increment(0);
    }
}

/// An operation of a dependency, the first time that it is named: what may become of it.
pub(super) fn dependency(dependency: &'static str, operation: &'static str) {
    static KNOWN: RwLock<Option<HashSet<(&str, &str)>>> = RwLock::new(None);
    let named = (dependency, operation);
    if KNOWN
        .read()
        .as_ref()
        .is_some_and(|known| known.contains(&named))
    {
        return;
    }
    let first = KNOWN.write().get_or_insert_default().insert(named);
    if !first {
        return;
    }
    let labels = [("dependency", dependency), ("operation", operation)];
    counter!(DEPENDENCY_STARTED, &labels).increment(0);
    counter!(DEPENDENCY_SUCCEEDED, &labels).increment(0);
    for kind in FAULTS.map(StoreErrorKind::as_str) {
        counter!(DEPENDENCY_FAILED, "dependency" => dependency, "operation" => operation,
            "kind" => kind)
        .increment(0);
        counter!(ERRORS, "operation" => operation, "error_type" => kind).increment(0);
    }
}
