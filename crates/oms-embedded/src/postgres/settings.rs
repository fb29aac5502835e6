//! Settings of the private server. All settings that make a commit durable keep their defaults
//! (`fsync`, `synchronous_commit`, `full_page_writes` on).

/// `name=value`, each with its reason.
pub const SETTINGS: &[&str] = &[
    // For the outbox and the hot part of the read model; no more, because the machine is shared.
    "shared_buffers=128MB",
    // Few checkpoints under load: after each, every changed page is written to the log as a whole.
    "max_wal_size=2GB",
    "min_wal_size=128MB",
    "checkpoint_timeout=15min",
    // Those full pages compress well, and the disk is slower than the processor.
    "wal_compression=on",
    // The outbox is small and its rows are soon dead. With the defaults (a fifth of the table dead,
    // checked once a minute, throttled) it consists mostly of dead rows that claims have to skip.
    "autovacuum_naptime=5s",
    "autovacuum_vacuum_scale_factor=0.02",
    "autovacuum_vacuum_cost_delay=0",
    // A forgotten transaction holds back vacuum.
    "idle_in_transaction_session_timeout=60s",
    // The service's pools use a few dozen; the rest is for psql.
    "max_connections=100",
    // Queries are short; compiling one takes longer than running it.
    "jit=off",
    // Random reads on solid-state disks cost hardly more than sequential ones.
    "random_page_cost=1.1",
    // Times in the log and in answers are in UTC.
    "log_timezone=UTC",
    "timezone=UTC",
    // Errors at start are shown to the user from the log.
    "lc_messages=C",
    "log_checkpoints=off",
    "logging_collector=off",
];
