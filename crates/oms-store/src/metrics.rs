//! Every metric: declared once with unit and help, set through the functions below. No label is
//! unbounded: stream ids and types of programs with their own domain never become labels.

pub mod start;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::StoreErrorKind;
use oms_core::domain::ids::PartitionId;
use oms_core::log::lead::Lead;
use oms_core::log::object::CommitObject;
use oms_core::log::partition::{Owner, PartitionLog};
use oms_core::migration::stage::{Mode, Stage};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution.
    Histogram,
}

/// A declared metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name, as exported.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Unit.
    pub unit: Unit,
    /// Help text.
    pub help: &'static str,
}

macro_rules! metrics_table {
    ($($const:ident = $name:literal, $kind:ident, $unit:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $const: &str = $name;)*
        /// Every metric the service exports.
        pub const ALL: &[Metric] = &[
            $(Metric { name: $name, kind: Kind::$kind, unit: Unit::$unit, help: $help },)*
        ];
    };
}

metrics_table! {
    WRITES = "event_store_writes_total", Counter, Count, "Events committed, by aggregate and event type";
    READS = "event_store_reads_total", Counter, Count, "Reads of the event store, by aggregate type and operation";
    WRITE_SECONDS = "event_store_write_duration_seconds", Histogram, Seconds, "From a command's arrival at its aggregate to its durable commit";
    READ_SECONDS = "event_store_read_duration_seconds", Histogram, Seconds, "Reads of the event store, by operation";
    AUDITED = "oms_audit_entries_total", Counter, Count, "Entries of the audit trail, by kind: command or refusal";
    AUDIT_LOST = "oms_audit_entries_lost_total", Counter, Count, "Entries of the audit trail that are in the log only: PostgreSQL was away for too long, or refused them";
    HALTED = "oms_halted", Gauge, Count, "Places where something does not go on, by what: writes, hand_off, copy, outbox, relay, projection or a kind of job; a short outage of a store counts too; GET /health says where, since when and why";
    DATA_DIR_FREE = "oms_data_dir_free_bytes", Gauge, Bytes, "Room on the disk of the data directory, where embedded parts keep their data on it";
    DATA_DIR_RESERVE = "oms_data_dir_reserve_bytes", Gauge, Bytes, "Below so much room commands are refused";
    STORAGE_BYTES = "event_store_storage_bytes", Gauge, Bytes, "Bytes of commit objects in the bucket, as far as this process has read the log";
    EVENTS_PER_AGGREGATE = "event_store_events_per_aggregate", Gauge, Count, "Mean number of events per stream, by aggregate type, of the writes this process has seen";
    MIGRATION_MODE = "event_store_migration_mode", Gauge, Count, "0 legacy, 1 dual_write, 2 s3_only";
    ERRORS = "event_store_errors_total", Counter, Count, "Failed operations of the event store, by operation and error type";
    LEAD = "oms_lead", Gauge, Count, "1 for the store that leads the partition";
    EPOCH = "oms_epoch", Gauge, Count, "Epoch of the partition";
    BATCH_EVENTS = "oms_commit_batch_events", Histogram, Count, "Events per commit object";
    BATCH_BYTES = "oms_commit_batch_bytes", Histogram, Bytes, "Bytes per commit object";
    COMMITS = "oms_commits_total", Counter, Count, "Commit objects written by this process; events per PUT is the rate of event_store_writes_total over this";
    RACES_LOST = "oms_conditional_put_conflicts_total", Counter, Count, "Conditional puts another writer won";
    SETTLED = "oms_indeterminate_settled_total", Counter, Count, "Puts of unknown outcome that were settled by reading back, by outcome";
    VERSION_CONFLICTS = "oms_concurrency_conflicts_total", Counter, Count, "Appends refused because the stream had moved on";
    LOG_HEAD = "oms_log_next_offset", Gauge, Count, "Next offset of the partition";
    INDEX_BYTES = "oms_stream_index_bytes", Gauge, Bytes, "Memory of the stream index, by partition";
    KEY_BYTES = "oms_idempotency_bytes", Gauge, Bytes, "Memory of the idempotency keys remembered, by partition; part of the stream index";
    OUTBOX_WATERMARK_LAG = "oms_outbox_watermark_lag_commits", Gauge, Count, "Commits not yet in the outbox, by partition";
    OUTBOX_DEPTH = "oms_outbox_depth", Gauge, Count, "Rows waiting in the outbox";
    OUTBOX_OLDEST = "oms_outbox_oldest_seconds", Gauge, Seconds, "Age of the oldest row waiting in the outbox";
    DEAD_LETTERS = "oms_dead_letters", Gauge, Count, "Rows the broker will never take, waiting for an operator";
    PUBLISHED = "oms_relay_published_total", Counter, Count, "Messages acknowledged by the broker, by topic";
    PUBLISH_FAILED = "oms_relay_failures_total", Counter, Count, "Publishes that failed, by cause";
    RELAY_SECONDS = "oms_relay_lag_seconds", Histogram, Seconds, "From an event's recording to the broker's acknowledgement";
    DAMAGED = "oms_log_damaged", Gauge, Count, "1 while the log cannot be read on because it is damaged, by reader (outbox, projection) and partition";
    COPIES_REFUSED = "oms_copies_refused_total", Counter, Count, "Copies of the log that were not believed, by copy (outbox, read_model, mirror, index, migration, snapshot) and reason";
    COPY_HALTED = "oms_copy_halted", Gauge, Count, "1 while a copy of a partition is of another log, or of an end that the log has lost, by copy and partition";
    PROJECTION_LAG = "oms_projection_lag_commits", Gauge, Count, "Commits not yet projected, by partition";
    PROJECTED = "oms_projection_events_total", Counter, Count, "Events taken into the read model";
    PROJECTION_POISON = "oms_projection_parked_events", Gauge, Count, "Events the projection could not take in and parked";
    VERIFIED = "oms_verified_events_total", Counter, Count, "Events compared between the two places of the log";
    DIVERGENCES = "oms_divergences", Gauge, Count, "Differences between the two places of the log, as the last verification of this process found";
    DIVERGENT_STREAMS = "oms_divergent_streams", Gauge, Count, "Streams that differ between the two places of the log, as the last verification of this process found";
    REPAIRS = "oms_repairs_total", Counter, Count, "Differences that a repair looked at, by outcome";
    JOB_DONE = "oms_job_done", Gauge, Count, "How much of a job of the migration is done, by kind";
    JOB_TOTAL = "oms_job_total", Gauge, Count, "How much a job of the migration has to do, by kind";
    RESTARTS = "oms_actor_restarts_total", Counter, Count, "Restarts of actors, by actor and cause";
    ESCALATIONS = "oms_actor_escalations_total", Counter, Count, "Actors that failed beyond their limit, by actor";
    REBUILDS = "oms_actor_rebuilds_total", Counter, Count, "Actors built anew with another mailbox, by actor";
    ARBITER_RESTARTS = "oms_arbiter_restarts_total", Counter, Count, "Threads of actors that had ended and were started again, by arbiter";
    ACTOR_STUCK = "oms_actor_stuck", Gauge, Count, "Actors that live and do not work, seen from outside, by actor";
    CALLS_IN_FLIGHT = "oms_actor_calls_in_flight", Gauge, Count, "Calls that actors have not answered yet, by actor";
    ACTOR_WAIT = "oms_actor_mailbox_wait_seconds", Gauge, Seconds, "Smoothed time a message waits before its actor takes it up, by actor: the longest of its kind";
    ARBITER_LAG = "oms_arbiter_lag_seconds", Gauge, Seconds, "How long the thread has owed an answer to a ping, by arbiter; 0 when it answers at once";
    PANICS = "oms_panics_total", Counter, Count, "Panics, in an actor or elsewhere";
    LIVE_AGGREGATES = "oms_live_aggregates", Gauge, Count, "Aggregates in memory";
    LIVE_AGGREGATE_BYTES = "oms_live_aggregate_bytes", Gauge, Bytes, "Memory of the states of aggregates in memory, by aggregate type";
    CLASS_CONTEXT_BYTES = "oms_class_context_bytes", Gauge, Bytes, "Memory of classes made ready to check instances, patterns included";
    OBJECT_CACHE_BYTES = "oms_object_cache_bytes", Gauge, Bytes, "Memory of recent commit objects";
    COMMAND_BYTES = "oms_command_bytes", Gauge, Bytes, "What the commands at work hold in memory, about";
    MAILBOX_WAIT = "oms_mailbox_wait_seconds", Histogram, Seconds, "From sending a command to an aggregate to its start";
    ADMISSION_REJECTS = "oms_admission_rejects_total", Counter, Count, "Requests refused because a limit was reached, by limit";
    DEPENDENCY_STARTED = "oms_dependency_started_total", Counter, Count, "Calls begun, by dependency and operation";
    DEPENDENCY_SUCCEEDED = "oms_dependency_succeeded_total", Counter, Count, "Calls that succeeded, by dependency and operation";
    DEPENDENCY_FAILED = "oms_dependency_failed_total", Counter, Count, "Calls that failed, by dependency, operation and kind";
    DEPENDENCY_SECONDS = "oms_dependency_seconds", Histogram, Seconds, "Duration of calls, by dependency and operation";
    HTTP_REQUESTS = "oms_http_requests_total", Counter, Count, "HTTP requests, by method, route and status";
    HTTP_SECONDS = "oms_http_request_seconds", Histogram, Seconds, "HTTP requests, by route";
    HTTP_CUT = "oms_http_connections_cut_total", Counter, Count, "HTTP connections cut because their client was too slow, by what it was slow at";
    HTTP_CONNECTIONS = "oms_http_connections", Gauge, Count, "HTTP connections that are open";
    HTTP_RESPONSE_BYTES = "oms_http_response_bytes_in_flight", Gauge, Bytes, "Bytes of answers that callers have not taken yet";
    HTTP_STREAMS = "oms_http_live_streams", Gauge, Count, "Live streams that are open";
    UNMIRRORED = "oms_unmirrored_commits", Gauge, Count, "Commits that the store which does not lead still lacks, by partition, while both are kept";
    MIRROR_COPIED = "oms_mirror_copied_commits_total", Counter, Count, "Commits copied to the store that does not lead, by the store they were copied to";
    MIRROR_FAILED = "oms_mirror_failures_total", Counter, Count, "Copies that failed and will be tried again, by the store they were meant for and kind";
    HANDOFF_PAUSE = "oms_handoff_pause_seconds", Histogram, Seconds, "For how long writes of a partition waited while the lead moved";
    HANDOFFS = "oms_handoffs_total", Counter, Count, "Hand-offs of a partition's lead, by the store it was to go to and outcome";
    MOVING = "oms_handoff_under_way", Gauge, Count, "1 while writes of the partition wait for the end of a hand-off";
    SWITCHES = "oms_switches_total", Counter, Count, "Switches of mode that ended, by goal and outcome";
    SHADOW_READS = "oms_shadow_reads_total", Counter, Count, "Reads made again in both stores and compared, by outcome";
    GUARDRAIL = "oms_guardrail_exceeded", Gauge, Count, "1 while a budget of a young stage is exceeded";
    IMPORTED = "oms_import_rows_total", Counter, Count, "Rows of another event store that were settled, by source and outcome";
    IMPORT_LEFT = "oms_import_rows_left", Gauge, Count, "Rows of another event store still to be read, about, by source";
    FALLBACK_READS = "oms_fallback_reads_total", Counter, Count, "Reads served by another source than the first, by from, to and reason";
}

/// Bounds of durations in seconds: 0.25 ms to 10 s, fine where the targets lie.
const SECONDS: &[f64] = &[
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Bounds of events per commit object.
const EVENTS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0,
];
/// Bounds of bytes per commit object.
const BYTES: &[f64] = &[1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6];

/// The metrics of this process, to be shown.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// In Prometheus' text format. A gauge of which nothing is known is absent: 0 would be a lie,
    /// and so would what it was once.
    pub fn render(&self) -> String {
        let text = self.0.render();
        let mut known = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            if !line.trim_end().ends_with(" NaN") {
                known.push_str(line);
            }
        }
        known
    }
}

/// Installs the recorder of this process and describes every metric; a second call (several
/// services in one test process) gives the handle of the first.
pub fn install() -> Result<Exporter, metrics_exporter_prometheus::BuildError> {
    static HANDLE: parking_lot::Mutex<Option<Exporter>> = parking_lot::Mutex::new(None);
    let mut handle = HANDLE.lock();
    if let Some(handle) = handle.as_ref() {
        return Ok(handle.clone());
    }
    let installed = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?
        .set_buckets_for_metric(Matcher::Full(BATCH_EVENTS.into()), EVENTS)?
        .set_buckets_for_metric(Matcher::Full(BATCH_BYTES.into()), BYTES)?
        .install_recorder()?;
    for metric in ALL {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
    let exporter = Exporter(installed);
    *handle = Some(exporter.clone());
    Ok(exporter)
}

/// The label of a stream type: the ontology's own, or `stream` for all others.
pub fn aggregate_label(stream_type: &str) -> &'static str {
    match stream_type {
        "database" => "database",
        "class" => "class",
        "instance" => "instance",
        _ => "stream",
    }
}

/// The label of an event type: the ontology's own, or `other`.
pub fn event_label(event_type: &str) -> &'static str {
    const OWN: [&str; 8] = [
        "DatabaseCreated",
        "DatabaseDeleted",
        "ClassCreated",
        "ClassUpdated",
        "ClassDeleted",
        "InstanceCreated",
        "InstanceUpdated",
        "InstanceDeleted",
    ];
    OWN.into_iter()
        .find(|own| *own == event_type)
        .unwrap_or("other")
}

/// A call to a dependency began.
pub fn dependency_started(dependency: &'static str, operation: &'static str) {
    start::dependency(dependency, operation);
    counter!(DEPENDENCY_STARTED, "dependency" => dependency, "operation" => operation).increment(1);
}

/// A call to a dependency ended.
pub fn dependency_ended(
    dependency: &'static str,
    operation: &'static str,
    elapsed: Duration,
    error: Option<StoreErrorKind>,
) {
    histogram!(DEPENDENCY_SECONDS, "dependency" => dependency, "operation" => operation)
        .record(elapsed.as_secs_f64());
    match error {
        None => {
            counter!(DEPENDENCY_SUCCEEDED, "dependency" => dependency, "operation" => operation)
                .increment(1);
        }
        Some(kind) => {
            counter!(DEPENDENCY_FAILED, "dependency" => dependency, "operation" => operation,
                "kind" => kind.as_str())
            .increment(1);
            counter!(ERRORS, "operation" => operation, "error_type" => kind.as_str()).increment(1);
        }
    }
}

/// How far a job of the migration is.
pub fn job_progress(kind: &'static str, done: u64, total: u64) {
    gauge!(JOB_DONE, "kind" => kind).set(done as f64);
    gauge!(JOB_TOTAL, "kind" => kind).set(total as f64);
}

/// Sets a gauge of one partition.
pub fn partition_gauge(name: &'static str, partition: PartitionId, value: f64) {
    gauge!(name, "partition" => partition.to_string()).set(value);
}

/// Sets a gauge of one partition to what is known; one of which nothing is known is not exported.
pub fn known_gauge(name: &'static str, partition: PartitionId, value: Option<f64>) {
    partition_gauge(name, partition, value.unwrap_or(f64::NAN));
}

/// A put whose outcome was unknown for a while is known now.
pub fn put_settled(owner: &Owner, object: &CommitObject) {
    let ours = match owner {
        Owner::Us => true,
        Owner::Found(found) => {
            found.header.writer == object.header.writer && found.header.batch == object.header.batch
        }
    };
    let outcome = if ours { "committed" } else { "lost_race" };
    counter!(SETTLED, "outcome" => outcome).increment(1);
}

/// In so many places this does not go on.
pub fn halted(what: &'static str, places: usize) {
    gauge!(HALTED, "what" => what).set(places as f64);
}

/// An entry of the audit trail was made.
pub fn audited(kind: &'static str) {
    counter!(AUDITED, "kind" => kind).increment(1);
}

/// An entry of the audit trail will not come into its table.
pub fn audit_lost() {
    counter!(AUDIT_LOST).increment(1);
}

/// Another writer won a conditional put.
pub fn race_lost() {
    counter!(RACES_LOST).increment(1);
}

/// A commit object of ours is in the log.
pub fn committed(object: &CommitObject) {
    counter!(COMMITS).increment(1);
    histogram!(BATCH_EVENTS).record(object.event_count() as f64);
    histogram!(BATCH_BYTES).record(object.bytes.len() as f64);
    partition_gauge(
        LOG_HEAD,
        object.header.partition,
        object.header.offset as f64 + 1.0,
    );
}

/// An append was refused because its stream had moved on.
pub fn version_conflict() {
    counter!(VERSION_CONFLICTS).increment(1);
}

/// Sizes of a partition, as far as it was read.
pub fn index_size(log: &PartitionLog) {
    partition_gauge(LOG_HEAD, log.id(), log.next_offset() as f64);
    partition_gauge(INDEX_BYTES, log.id(), log.index().memory_bytes() as f64);
}

/// A read was made in both stores.
pub fn shadow_read(same: bool) {
    let outcome = if same { "same" } else { "differs" };
    counter!(SHADOW_READS, "outcome" => outcome).increment(1);
}

/// Whether a budget of a young stage is exceeded.
pub fn guardrail(exceeded: bool) {
    gauge!(GUARDRAIL).set(f64::from(u8::from(exceeded)));
}

/// A read was served by the second place.
pub fn fallback_read(from: Lead, to: Lead, reason: StoreErrorKind) {
    fallback_reads(from, to, reason, 1);
}

fn fallback_reads(from: Lead, to: Lead, reason: StoreErrorKind, reads: u64) {
    let labels = [
        ("from", from.as_str()),
        ("to", to.as_str()),
        ("reason", reason.as_str()),
    ];
    counter!(FALLBACK_READS, &labels).increment(reads);
}

/// Commits were copied to a place.
pub fn mirrored(to: Lead, commits: u64) {
    counter!(MIRROR_COPIED, "store" => to.as_str()).increment(commits);
}

/// A copy failed.
pub fn mirror_failed(to: Lead, kind: StoreErrorKind) {
    counter!(MIRROR_FAILED, "store" => to.as_str(), "kind" => kind.as_str()).increment(1);
}

/// A hand-off of a partition ended.
pub fn handoff(to: Lead, outcome: &'static str, pause: Duration) {
    counter!(HANDOFFS, "store" => to.as_str(), "outcome" => outcome).increment(1);
    histogram!(HANDOFF_PAUSE).record(pause);
}

/// A switch ended.
pub fn switch_ended(goal: &'static str, outcome: &'static str) {
    counter!(SWITCHES, "goal" => goal, "outcome" => outcome).increment(1);
}

/// The mode of the whole: that of the partition that is furthest behind.
pub fn mode(mode: Mode) {
    gauge!(MIGRATION_MODE).set(mode.gauge());
}

/// The stage of a partition.
pub fn stage(partition: PartitionId, stage: &Stage, moving: bool) {
    partition_gauge(MOVING, partition, f64::from(u8::from(moving)));
    let leads = |lead: Lead| f64::from(u8::from(stage.leadership.lead == lead));
    for lead in [Lead::S3, Lead::Postgres] {
        gauge!(LEAD, "partition" => partition.to_string(), "store" => lead.as_str())
            .set(leads(lead));
    }
    partition_gauge(EPOCH, partition, stage.leadership.epoch.0 as f64);
}

/// Events and streams seen by this process, by aggregate label.
static SEEN: [(&str, AtomicU64, AtomicU64); 4] = [
    ("database", AtomicU64::new(0), AtomicU64::new(0)),
    ("class", AtomicU64::new(0), AtomicU64::new(0)),
    ("instance", AtomicU64::new(0), AtomicU64::new(0)),
    ("stream", AtomicU64::new(0), AtomicU64::new(0)),
];

fn seen(aggregate: &'static str, events: u64, is_new: bool) {
    let Some((_, total, streams)) = SEEN.iter().find(|(label, ..)| *label == aggregate) else {
        return;
    };
    let total = total.fetch_add(events, Ordering::Relaxed) + events;
    let streams = streams.fetch_add(u64::from(is_new), Ordering::Relaxed) + u64::from(is_new);
    gauge!(EVENTS_PER_AGGREGATE, "aggregate_type" => aggregate)
        .set(total as f64 / streams.max(1) as f64);
}

/// A command was committed; `is_new` if its stream had no events before.
pub fn command_committed<'a>(
    stream_type: &str,
    is_new: bool,
    event_types: impl Iterator<Item = &'a str>,
    elapsed: Duration,
) {
    let aggregate = aggregate_label(stream_type);
    histogram!(WRITE_SECONDS, "aggregate_type" => aggregate).record(elapsed.as_secs_f64());
    let mut events = 0;
    for event_type in event_types {
        events += 1;
        counter!(WRITES, "aggregate_type" => aggregate, "event_type" => event_label(event_type))
            .increment(1);
    }
    seen(aggregate, events, is_new);
}

/// Bytes of all commit objects in the bucket, as far as this process has read.
pub fn stored_bytes(bucket: &str, bytes: u64) {
    gauge!(STORAGE_BYTES, "bucket" => bucket.to_owned()).set(bytes as f64);
}

/// Room on the disk of the data directory, and how much of it is not for commands.
pub fn data_dir(free: u64, reserve: u64) {
    gauge!(DATA_DIR_FREE).set(free as f64);
    gauge!(DATA_DIR_RESERVE).set(reserve as f64);
}

/// A command waited this long in its entity's mailbox.
pub fn mailbox_wait(waited: Duration) {
    histogram!(MAILBOX_WAIT).record(waited.as_secs_f64());
}

/// Number of entities in memory, and bytes of their states, by type.
pub fn live_aggregates(aggregate: &'static str, live: usize, bytes: usize) {
    gauge!(LIVE_AGGREGATES, "aggregate_type" => aggregate).set(live as f64);
    gauge!(LIVE_AGGREGATE_BYTES, "aggregate_type" => aggregate).set(bytes as f64);
}

/// Memory of the classes made ready to check instances.
pub fn class_contexts(bytes: u64) {
    gauge!(CLASS_CONTEXT_BYTES).set(bytes as f64);
}

/// Memory of recent commit objects.
pub fn object_cache(bytes: u64) {
    gauge!(OBJECT_CACHE_BYTES).set(bytes as f64);
}

/// Memory of the commands at work.
pub fn command_bytes(bytes: usize) {
    gauge!(COMMAND_BYTES).set(bytes as f64);
}

/// A read was answered, `operation` being how.
pub fn read(stream_type: &str, operation: &'static str) {
    counter!(READS, "aggregate_type" => aggregate_label(stream_type), "operation" => operation)
        .increment(1);
}

/// The same, with how long it took.
pub fn read_took(stream_type: &str, operation: &'static str, elapsed: Duration) {
    read(stream_type, operation);
    histogram!(READ_SECONDS, "operation" => operation).record(elapsed.as_secs_f64());
}

/// Counts requests of one route with one outcome; kept by the caller, which has few of them.
pub fn http_requests(method: &'static str, route: &'static str, status: u16) -> metrics::Counter {
    counter!(HTTP_REQUESTS, "method" => method, "route" => route, "status" => status.to_string())
}

/// Times requests of one route; kept by the caller.
pub fn http_seconds(route: &'static str) -> metrics::Histogram {
    histogram!(HTTP_SECONDS, "route" => route)
}

/// Rows of a configured source were settled.
pub fn imported(source: &str, outcome: &'static str, rows: u64) {
    if rows > 0 {
        counter!(IMPORTED, "source" => source.to_owned(), "outcome" => outcome).increment(rows);
    }
}

/// Rows of a configured source are still to be read, about.
pub fn import_left(source: &str, rows: u64) {
    gauge!(IMPORT_LEFT, "source" => source.to_owned()).set(rows as f64);
}

/// A connection was cut because its client was too slow at something.
pub fn connection_cut(at: &'static str) {
    counter!(HTTP_CUT, "at" => at).increment(1);
}

/// What clients hold of this process.
pub fn http_held(connections: usize, response_bytes: usize, streams: usize) {
    gauge!(HTTP_CONNECTIONS).set(connections as f64);
    gauge!(HTTP_RESPONSE_BYTES).set(response_bytes as f64);
    gauge!(HTTP_STREAMS).set(streams as f64);
}

/// A request was refused because `limit` was reached.
pub fn admission_rejected(limit: &'static str) {
    counter!(ADMISSION_REJECTS, "limit" => limit).increment(1);
}
