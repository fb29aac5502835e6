//! The declaration of every metric: name, kind, unit and help text. `docs/METRICS.md` is generated
//! from it.

use metrics::Unit;

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of values.
    Histogram,
}

/// A declared metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name as exported.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit.
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
    DIVERGENCES = "oms_divergences", Gauge, Count, "Differences between the two places of the log, as the last verification of this process found; absent before the first";
    DIVERGENT_STREAMS = "oms_divergent_streams", Gauge, Count, "Streams that differ between the two places of the log, as the last verification of this process found; absent before the first";
    REPAIRS = "oms_repairs_total", Counter, Count, "Differences that a repair looked at, by outcome";
    JOB_DONE = "oms_job_items_done", Gauge, Count, "How much of a job of the migration is done, by kind; absent before this process worked on one";
    JOB_SIZE = "oms_job_items", Gauge, Count, "How much a job of the migration has to do, by kind; absent before this process worked on one";
    RESTARTS = "oms_actor_restarts_total", Counter, Count, "Restarts of actors, by actor and cause";
    ESCALATIONS = "oms_actor_escalations_total", Counter, Count, "Actors that failed beyond their limit, by actor";
    REBUILDS = "oms_actor_rebuilds_total", Counter, Count, "Actors built anew with another mailbox, by actor";
    ARBITER_RESTARTS = "oms_arbiter_restarts_total", Counter, Count, "Threads of actors that had ended and were started again, by arbiter";
    ACTOR_STUCK = "oms_actor_stuck", Gauge, Count, "Actors that live and do not work, seen from outside, by actor";
    CALLS_IN_FLIGHT = "oms_actor_calls_in_flight", Gauge, Count, "Calls that actors have not answered yet, by actor";
    ACTOR_WAIT = "oms_actor_mailbox_wait_seconds", Gauge, Seconds, "Smoothed time a message waits before its actor takes it up, by actor: the longest of its kind";
    ARBITER_LAG = "oms_arbiter_lag_seconds", Gauge, Seconds, "How long the thread has owed an answer to a ping, by arbiter; 0 when it answers at once";
    PANICS = "oms_panics_total", Counter, Count, "Panics, in an actor or elsewhere";
    SPANS_EXPORTED = "oms_trace_spans_exported_total", Counter, Count, "Spans of traces that the collector has taken";
    SPANS_DROPPED = "oms_trace_spans_dropped_total", Counter, Count, "Spans of traces that were dropped, by reason: queue_full, unreachable or refused by the collector, stopping; nothing waits for them";
    LIVE_AGGREGATES = "oms_live_aggregates", Gauge, Count, "Aggregates in memory";
    LIVE_AGGREGATE_BYTES = "oms_live_aggregate_bytes", Gauge, Bytes, "Memory of the states of aggregates in memory, by aggregate type";
    CLASS_CONTEXT_BYTES = "oms_class_context_bytes", Gauge, Bytes, "Memory of classes made ready to check instances, patterns included";
    OBJECT_CACHE_BYTES = "oms_object_cache_bytes", Gauge, Bytes, "Memory of recent commit objects";
    COMMAND_BYTES = "oms_command_bytes", Gauge, Bytes, "What the commands at work hold in memory, about";
    READ_BYTES = "oms_read_bytes", Gauge, Bytes, "What large pages and states that are being rebuilt hold in memory, about";
    MAILBOX_WAIT = "oms_mailbox_wait_seconds", Histogram, Seconds, "From sending a command to an aggregate to its start";
    ADMISSION_REJECTS = "oms_admission_rejects_total", Counter, Count, "Requests refused because a limit was reached, by limit";
    DEPENDENCY_STARTED = "oms_dependency_started_total", Counter, Count, "Calls begun, by dependency and operation";
    DEPENDENCY_SUCCEEDED = "oms_dependency_succeeded_total", Counter, Count, "Calls that succeeded, by dependency and operation";
    DEPENDENCY_FAILED = "oms_dependency_failed_total", Counter, Count, "Calls that failed, by dependency, operation and kind";
    DEPENDENCY_FAULTS = "oms_dependency_faults_total", Counter, Count, "Failed calls that the dependency and not the request is at fault for, by dependency and kind; there from the start, which the operations of PostgreSQL are not";
    DEPENDENCY_SECONDS = "oms_dependency_seconds", Histogram, Seconds, "Duration of calls, by dependency and operation";
    HTTP_REQUESTS = "oms_http_requests_total", Counter, Count, "HTTP requests, by method, route and class of the status: 2xx, 4xx and so on";
    HTTP_RESPONSES = "oms_http_responses_total", Counter, Count, "HTTP answers, by status";
    HTTP_SECONDS = "oms_http_request_seconds", Histogram, Seconds, "HTTP requests, by route and class of the status; a live stream lasts as long as its client stays";
    HTTP_CUT = "oms_http_connections_cut_total", Counter, Count, "HTTP connections cut because their client was too slow, by what it was slow at";
    HTTP_CONNECTIONS = "oms_http_connections", Gauge, Count, "HTTP connections that are open";
    HTTP_RESPONSE_BYTES = "oms_http_response_bytes_in_flight", Gauge, Bytes, "Bytes of answers that callers have not taken yet";
    HTTP_STREAMS = "oms_http_live_streams", Gauge, Count, "Live streams that are open";
    UNMIRRORED = "oms_unmirrored_commits", Gauge, Count, "Commits that the store which does not lead still lacks, by partition, while both are kept; absent while there is no copy, or nobody knows how far it reaches";
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
    POSTGRES_CONNECTIONS = "oms_postgres_connections", Gauge, Count, "Connections of the pool to PostgreSQL, by state: idle or in_use";
    POSTGRES_CONNECTIONS_MAX = "oms_postgres_connections_max", Gauge, Count, "Connections that the pool to PostgreSQL may have";
    POSTGRES_WAITS = "oms_postgres_connection_waits", Gauge, Count, "Calls that wait for a connection to PostgreSQL";
    BUILD_INFO = "oms_build_info", Gauge, Count, "1; version and commit of the program, unknown where the build was not told";
    LOG_INFO = "oms_log_info", Gauge, Count, "1; identity of the log: processes with the same one belong together, whatever their job is called";
    THREAD_CPU = "oms_thread_cpu_seconds_total", Counter, Seconds, "Processor time of the threads that live, by what they are for";
    PROCESS_CPU = "process_cpu_seconds_total", Counter, Seconds, "Processor time of the process, of the user and of the system";
    PROCESS_RSS = "process_resident_memory_bytes", Gauge, Bytes, "Memory of the process that is resident";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes", Gauge, Bytes, "Address space of the process";
    PROCESS_OPEN_FDS = "process_open_fds", Gauge, Count, "File descriptors that are open";
    PROCESS_MAX_FDS = "process_max_fds", Gauge, Count, "File descriptors that may be open; absent where there is no limit";
    PROCESS_THREADS = "process_threads", Gauge, Count, "Threads of the process";
    PROCESS_START = "process_start_time_seconds", Gauge, Seconds, "When the process was started, in seconds since 1970";
    FALLBACK_READS = "oms_fallback_reads_total", Counter, Count, "Reads served by another source than the first, by from, to and reason";
}
