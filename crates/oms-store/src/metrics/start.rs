//! Creates counters at start: the first increment of a counter that did not exist before is
//! invisible to a rule (`increase()` of a new series is nothing). Therefore every set of labels
//! that is known in advance starts at 0.

use hashbrown::HashSet;
use metrics::{counter, gauge, histogram};
use parking_lot::RwLock;

use super::{
    ADMISSION_REJECTS, ARBITER_RESTARTS, AUDIT_LOST, AUDITED, BATCH_BYTES, BATCH_EVENTS,
    CLASS_CONTEXT_BYTES, COMMAND_BYTES, COMMITS, COPIES_REFUSED, DEPENDENCY_FAILED,
    DEPENDENCY_STARTED, DEPENDENCY_SUCCEEDED, ERRORS, ESCALATIONS, HANDOFF_PAUSE, HANDOFFS,
    HTTP_CUT, IMPORTED, MAILBOX_WAIT, MIRROR_COPIED, MIRROR_FAILED, PANICS, PROJECTED,
    PUBLISH_FAILED, PUBLISHED, RACES_LOST, READ_BYTES, READ_SECONDS, READS, REBUILDS,
    RELAY_SECONDS, REPAIRS, RESTARTS, SETTLED, SHADOW_READS, SPANS_DROPPED, SPANS_EXPORTED,
    SWITCHES, VERIFIED, VERSION_CONFLICTS, WRITE_SECONDS, WRITES,
};
use crate::error::StoreErrorKind;
use oms_core::domain::ids::PartitionId;
use oms_core::log::copy_kind::CopyKind;
use oms_core::log::identity::Foreign;
use oms_core::log::lead::Lead;
use oms_core::migration::job::JobKind;
use oms_core::migration::stage::StageKind;
use oms_core::migration::switch::SwitchState;

/// Failures that are the dependency's fault rather than the request's.
pub(super) const FAULTS: [StoreErrorKind; 5] = [
    StoreErrorKind::Unavailable,
    StoreErrorKind::Timeout,
    StoreErrorKind::Full,
    StoreErrorKind::Throttled,
    StoreErrorKind::Denied,
];

/// The dependencies.
const DEPENDENCIES: [&str; 3] = ["s3", "postgres", "kafka"];

/// Calls to the broker.
const KAFKA_OPERATIONS: [&str; 3] = ["declare_topics", "fence", "publish"];

/// Operations on a bucket; those of PostgreSQL are created with their first call.
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

/// Kinds of reads, by the label of their aggregate.
const READ_OPERATIONS: [(&str, &[&str]); 4] = [
    ("database", &["get", "list"]),
    ("class", &["get", "list"]),
    ("instance", &["get", "point_in_time", "query"]),
    ("stream", &["get", "stream", "feed"]),
];

/// Limits at which requests are refused.
pub const LIMITS: [&str; 12] = [
    "idempotency_keys",
    "live_aggregates",
    "per_entity",
    "live_streams",
    "live_streams_of_token",
    "body_bytes_in_flight",
    "requests_in_flight",
    "response_bytes_in_flight",
    "http2_streams",
    "commands",
    "command_bytes",
    "queries",
];

const LEADS: [Lead; 2] = [Lead::Postgres, Lead::S3];

/// Labels that only the composition root knows.
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
    /// Number of partitions of the log.
    pub partitions: u16,
}

/// Creates every counter with known labels, every histogram, and the gauges whose value is known.
pub fn begin(labels: &Labels) {
    histograms();
    copies(labels);
    for dependency in DEPENDENCIES {
        for kind in FAULTS {
            super::dependency_fault(dependency, kind, 0);
        }
    }
    for operation in KAFKA_OPERATIONS {
        dependency("kafka", operation);
    }
    for kind in JobKind::ALL.map(JobKind::as_str) {
        super::halted(kind, 0);
    }
    for at in ["head", "write"] {
        counter!(HTTP_CUT, "at" => at).increment(0);
    }
    for gauge in [CLASS_CONTEXT_BYTES, COMMAND_BYTES, READ_BYTES] {
        gauge!(gauge).set(0.0);
    }
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
    counter!(SPANS_EXPORTED).increment(0);
    for reason in ["queue_full", "unreachable", "refused", "stopping"] {
        counter!(SPANS_DROPPED, "reason" => reason).increment(0);
    }
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

/// Creates the histograms, so that they are exported without a sample.
fn histograms() {
    for name in [
        BATCH_EVENTS,
        BATCH_BYTES,
        RELAY_SECONDS,
        MAILBOX_WAIT,
        HANDOFF_PAUSE,
    ] {
        drop(histogram!(name));
    }
    for operation in ["stream", "feed"] {
        drop(histogram!(READ_SECONDS, "operation" => operation));
    }
}

/// Sets that nothing is known to be wrong with any copy.
fn copies(labels: &Labels) {
    for copy in CopyKind::ALL {
        for reason in Foreign::LABELS {
            counter!(COPIES_REFUSED, "copy" => copy.as_str(), "reason" => reason).increment(0);
        }
        for partition in (0..labels.partitions).map(PartitionId) {
            super::copy_halted(copy.as_str(), partition, false);
        }
    }
    for reason in ["damaged", "format", "unmarked", "unreadable"]
        .iter()
        .chain(&Foreign::LABELS)
    {
        counter!(COPIES_REFUSED, "copy" => "snapshot", "reason" => *reason).increment(0);
    }
    counter!(COPIES_REFUSED, "copy" => "index", "reason" => "damaged").increment(0);
    for partition in (0..labels.partitions).map(PartitionId) {
        for reader in ["outbox", "projection"] {
            super::log_damaged(reader, partition, false);
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

/// Creates the outcomes of an operation of a dependency, when it is first used.
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
