//! Every metric, declared once with unit and help, and set through the functions below. No label is
//! unbounded: stream ids, and types of other programs' streams and events, are never labels.

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
use oms_core::log::batch::Owner;
use oms_core::log::identity::LogId;
use oms_core::log::lead::Lead;
use oms_core::log::object::CommitObject;
use oms_core::log::partition::PartitionLog;
use oms_core::migration::stage::{Mode, Stage};

/// Histogram bounds of durations in seconds: 0.25 ms to 10 s, fine around the targets.
const SECONDS: &[f64] = &[
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Histogram bounds of events per commit object.
const EVENTS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0,
];
/// Histogram bounds of bytes per commit object.
const BYTES: &[f64] = &[1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6];

/// Renders the metrics of this process.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// The metrics in Prometheus' text format. A gauge whose value is unknown is absent, because 0
    /// or an outdated value would be wrong.
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
/// services in one test process) returns the handle of the first.
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

/// The label of a stream type: the ontology's own types, or `stream` for all others.
pub fn aggregate_label(stream_type: &str) -> &'static str {
    match stream_type {
        "database" => "database",
        "class" => "class",
        "instance" => "instance",
        _ => "stream",
    }
}

/// The label of an event type: the ontology's own types, or `other`.
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

/// Counts the start of a call to a dependency.
pub fn dependency_started(dependency: &'static str, operation: &'static str) {
    start::dependency(dependency, operation);
    counter!(DEPENDENCY_STARTED, "dependency" => dependency, "operation" => operation).increment(1);
}

/// Counts and times the end of a call to a dependency.
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

/// Sets the progress of a job of the migration.
pub fn job_progress(kind: &'static str, done: u64, total: u64) {
    gauge!(JOB_DONE, "kind" => kind).set(done as f64);
    gauge!(JOB_SIZE, "kind" => kind).set(total as f64);
}

/// Sets a gauge of one partition.
pub fn partition_gauge(name: &'static str, partition: PartitionId, value: f64) {
    gauge!(name, "partition" => partition.to_string()).set(value);
}

/// Sets a gauge of one partition; `None` removes it from the export.
pub fn known_gauge(name: &'static str, partition: PartitionId, value: Option<f64>) {
    partition_gauge(name, partition, value.unwrap_or(f64::NAN));
}

/// Counts a put whose unknown outcome was settled.
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

/// Sets in how many places a component is halted.
pub fn halted(what: &'static str, places: usize) {
    gauge!(HALTED, "what" => what).set(places as f64);
}

/// Counts an entry of the audit trail.
pub fn audited(kind: &'static str) {
    counter!(AUDITED, "kind" => kind).increment(1);
}

/// Counts an entry of the audit trail that is lost to its table.
pub fn audit_lost() {
    counter!(AUDIT_LOST).increment(1);
}

/// Counts a conditional put that another writer won.
pub fn race_lost() {
    counter!(RACES_LOST).increment(1);
}

/// Counts a commit object of this process.
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

/// Counts an append that was refused because its stream had moved on.
pub fn version_conflict() {
    counter!(VERSION_CONFLICTS).increment(1);
}

/// Sets the sizes of a partition, as far as it was read.
pub fn index_size(log: &PartitionLog) {
    partition_gauge(LOG_HEAD, log.id(), log.next_offset() as f64);
    partition_gauge(INDEX_BYTES, log.id(), log.index().memory_bytes() as f64);
}

/// Counts a read that was made on both stores.
pub fn shadow_read(same: bool) {
    let outcome = if same { "same" } else { "differs" };
    counter!(SHADOW_READS, "outcome" => outcome).increment(1);
}

/// Sets whether a budget of a young stage is exceeded.
pub fn guardrail(exceeded: bool) {
    gauge!(GUARDRAIL).set(f64::from(u8::from(exceeded)));
}

/// Counts a read that was served by the second store.
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

/// Counts commits copied to a store.
pub fn mirrored(to: Lead, commits: u64) {
    counter!(MIRROR_COPIED, "store" => to.as_str()).increment(commits);
}

/// Counts a failed copy.
pub fn mirror_failed(to: Lead, kind: StoreErrorKind) {
    counter!(MIRROR_FAILED, "store" => to.as_str(), "kind" => kind.as_str()).increment(1);
}

/// Counts a hand-off that has ended, and its pause of writes.
pub fn handoff(to: Lead, outcome: &'static str, pause: Duration) {
    counter!(HANDOFFS, "store" => to.as_str(), "outcome" => outcome).increment(1);
    histogram!(HANDOFF_PAUSE).record(pause);
}

/// Counts a switch that has ended.
pub fn switch_ended(goal: &'static str, outcome: &'static str) {
    counter!(SWITCHES, "goal" => goal, "outcome" => outcome).increment(1);
}

/// Sets the overall mode: that of the partition that is furthest behind.
pub fn mode(mode: Mode) {
    gauge!(MIGRATION_MODE).set(mode.gauge());
}

/// Sets the stage of a partition.
pub fn stage(partition: PartitionId, stage: &Stage, moving: bool) {
    partition_gauge(MOVING, partition, f64::from(u8::from(moving)));
    let leads = |lead: Lead| f64::from(u8::from(stage.leadership.lead == lead));
    for lead in [Lead::S3, Lead::Postgres] {
        gauge!(LEAD, "partition" => partition.to_string(), "store" => lead.as_str())
            .set(leads(lead));
    }
    partition_gauge(EPOCH, partition, stage.leadership.epoch.0 as f64);
}

/// Events and streams that this process has seen, by aggregate label.
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

/// Counts a committed command; `is_new` if its stream had no events before.
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

/// Sets the bytes of all commit objects in the bucket, as far as this process has read.
pub fn stored_bytes(bucket: &str, bytes: u64) {
    gauge!(STORAGE_BYTES, "bucket" => bucket.to_owned()).set(bytes as f64);
}

/// Sets free space and reserve on the disk of the data directory, in bytes.
pub fn data_dir(free: u64, reserve: u64) {
    gauge!(DATA_DIR_FREE).set(free as f64);
    gauge!(DATA_DIR_RESERVE).set(reserve as f64);
}

/// Records how long a command waited in its entity's mailbox.
pub fn mailbox_wait(waited: Duration) {
    histogram!(MAILBOX_WAIT).record(waited.as_secs_f64());
}

/// Sets the number of entities in memory and the bytes of their states, by type.
pub fn live_aggregates(aggregate: &'static str, live: usize, bytes: usize) {
    gauge!(LIVE_AGGREGATES, "aggregate_type" => aggregate).set(live as f64);
    gauge!(LIVE_AGGREGATE_BYTES, "aggregate_type" => aggregate).set(bytes as f64);
}

/// Sets the memory of cached classes.
pub fn class_contexts(bytes: u64) {
    gauge!(CLASS_CONTEXT_BYTES).set(bytes as f64);
}

/// Sets the memory of cached commit objects.
pub fn object_cache(bytes: u64) {
    gauge!(OBJECT_CACHE_BYTES).set(bytes as f64);
}

/// Sets the memory of the commands in progress.
pub fn command_bytes(bytes: usize) {
    gauge!(COMMAND_BYTES).set(bytes as f64);
}

/// Memory of what is being read.
pub fn read_bytes(bytes: usize) {
    gauge!(READ_BYTES).set(bytes as f64);
}

/// Counts a read.
pub fn read(stream_type: &str, operation: &'static str) {
    counter!(READS, "aggregate_type" => aggregate_label(stream_type), "operation" => operation)
        .increment(1);
}

/// Counts and times a read.
pub fn read_took(stream_type: &str, operation: &'static str, elapsed: Duration) {
    read(stream_type, operation);
    histogram!(READ_SECONDS, "operation" => operation).record(elapsed.as_secs_f64());
}

/// The class of a status as a label, such as `2xx`.
pub fn status_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// The counter of a route's requests with one class of status; callers keep it, to avoid the
/// lookup.
pub fn http_requests(
    method: &'static str,
    route: &'static str,
    class: &'static str,
) -> metrics::Counter {
    counter!(HTTP_REQUESTS, "method" => method, "route" => route, "status_class" => class)
}

/// The counter of answers with one status; callers keep it.
pub fn http_responses(status: u16) -> metrics::Counter {
    counter!(HTTP_RESPONSES, "status" => status.to_string())
}

/// The histogram of a route's requests with one class of status; callers keep it.
pub fn http_seconds(route: &'static str, class: &'static str) -> metrics::Histogram {
    histogram!(HTTP_SECONDS, "route" => route, "status_class" => class)
}

/// Sets the connections of the PostgreSQL pool.
pub fn postgres_connections(idle: usize, in_use: usize, max: usize, waits: usize) {
    gauge!(POSTGRES_CONNECTIONS, "state" => "idle").set(idle as f64);
    gauge!(POSTGRES_CONNECTIONS, "state" => "in_use").set(in_use as f64);
    gauge!(POSTGRES_CONNECTIONS_MAX).set(max as f64);
    gauge!(POSTGRES_WAITS).set(waits as f64);
}

/// Sets whether a copy of a partition is halted, because it is not of this log.
pub fn copy_halted(copy: &'static str, partition: PartitionId, halted: bool) {
    let labels = [
        ("copy", copy.to_owned()),
        ("partition", partition.to_string()),
    ];
    gauge!(COPY_HALTED, &labels).set(f64::from(u8::from(halted)));
}

/// Sets whether a reader cannot continue in a partition because the log is damaged.
pub fn log_damaged(reader: &'static str, partition: PartitionId, damaged: bool) {
    let labels = [
        ("reader", reader.to_owned()),
        ("partition", partition.to_string()),
    ];
    gauge!(DAMAGED, &labels).set(f64::from(u8::from(damaged)));
}

/// Sets the version of the program and the id of its log.
pub fn identity(log: Option<LogId>) {
    let revision = option_env!("OMS_REVISION").unwrap_or("unknown");
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "revision" => revision).set(1.0);
    if let Some(log) = log {
        gauge!(LOG_INFO, "log" => log.to_string()).set(1.0);
    }
}

/// Counts settled rows of an imported source.
pub fn imported(source: &str, outcome: &'static str, rows: u64) {
    if rows > 0 {
        counter!(IMPORTED, "source" => source.to_owned(), "outcome" => outcome).increment(rows);
    }
}

/// Sets the estimated number of rows of a source that are still to be read.
pub fn import_left(source: &str, rows: u64) {
    gauge!(IMPORT_LEFT, "source" => source.to_owned()).set(rows as f64);
}

/// Counts a connection that was closed because its client was too slow.
pub fn connection_cut(at: &'static str) {
    counter!(HTTP_CUT, "at" => at).increment(1);
}

/// Sets what clients occupy of this process.
pub fn http_held(connections: usize, response_bytes: usize, streams: usize) {
    gauge!(HTTP_CONNECTIONS).set(connections as f64);
    gauge!(HTTP_RESPONSE_BYTES).set(response_bytes as f64);
    gauge!(HTTP_STREAMS).set(streams as f64);
}

/// Counts a request that was refused at `limit`.
pub fn admission_rejected(limit: &'static str) {
    counter!(ADMISSION_REJECTS, "limit" => limit).increment(1);
}
