//! Every metric: declared once with unit and help, set through the functions below. No label is
//! unbounded: stream ids and types of programs with their own domain never become labels.

mod declared;
mod process;
pub mod recent;
pub mod start;

pub use declared::*;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::StoreErrorKind;
use oms_core::domain::ids::PartitionId;
use oms_core::log::identity::LogId;
use oms_core::log::lead::Lead;
use oms_core::log::object::CommitObject;
use oms_core::log::partition::{Owner, PartitionLog};
use oms_core::migration::stage::{Mode, Stage};

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
        process::render(&mut known);
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
            if start::FAULTS.contains(&kind) {
                dependency_fault(dependency, kind, 1);
            }
        }
    }
}

fn dependency_fault(dependency: &'static str, kind: StoreErrorKind, calls: u64) {
    counter!(DEPENDENCY_FAULTS, "dependency" => dependency, "kind" => kind.as_str())
        .increment(calls);
}

/// How far a job of the migration is.
pub fn job_progress(kind: &'static str, done: u64, total: u64) {
    gauge!(JOB_DONE, "kind" => kind).set(done as f64);
    gauge!(JOB_SIZE, "kind" => kind).set(total as f64);
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

/// Memory of what is being read.
pub fn read_bytes(bytes: usize) {
    gauge!(READ_BYTES).set(bytes as f64);
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

/// The class of a status, as a label.
pub fn status_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// Counts requests of one route with one class of outcome; kept by the caller, which has few of them.
pub fn http_requests(
    method: &'static str,
    route: &'static str,
    class: &'static str,
) -> metrics::Counter {
    counter!(HTTP_REQUESTS, "method" => method, "route" => route, "status_class" => class)
}

/// Counts answers with one status; kept by the caller.
pub fn http_responses(status: u16) -> metrics::Counter {
    counter!(HTTP_RESPONSES, "status" => status.to_string())
}

/// Times requests of one route with one class of outcome; kept by the caller.
pub fn http_seconds(route: &'static str, class: &'static str) -> metrics::Histogram {
    histogram!(HTTP_SECONDS, "route" => route, "status_class" => class)
}

/// The pool of connections to PostgreSQL.
pub fn postgres_connections(idle: usize, in_use: usize, max: usize, waits: usize) {
    gauge!(POSTGRES_CONNECTIONS, "state" => "idle").set(idle as f64);
    gauge!(POSTGRES_CONNECTIONS, "state" => "in_use").set(in_use as f64);
    gauge!(POSTGRES_CONNECTIONS_MAX).set(max as f64);
    gauge!(POSTGRES_WAITS).set(waits as f64);
}

/// Whether a copy of a partition is of another log, or of an end that the log has lost.
pub fn copy_halted(copy: &'static str, partition: PartitionId, halted: bool) {
    let labels = [
        ("copy", copy.to_owned()),
        ("partition", partition.to_string()),
    ];
    gauge!(COPY_HALTED, &labels).set(f64::from(u8::from(halted)));
}

/// Whether a reader of the log cannot read on in a partition because it is damaged.
pub fn log_damaged(reader: &'static str, partition: PartitionId, damaged: bool) {
    let labels = [
        ("reader", reader.to_owned()),
        ("partition", partition.to_string()),
    ];
    gauge!(DAMAGED, &labels).set(f64::from(u8::from(damaged)));
}

/// What program this is, and which log it serves.
pub fn identity(log: Option<LogId>) {
    let revision = option_env!("OMS_REVISION").unwrap_or("unknown");
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "revision" => revision).set(1.0);
    if let Some(log) = log {
        gauge!(LOG_INFO, "log" => log.to_string()).set(1.0);
    }
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
