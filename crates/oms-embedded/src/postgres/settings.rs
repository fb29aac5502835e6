//! How the private server is set up. Everything that makes a commit durable stays as it is
//! (`fsync`, `synchronous_commit`, `full_page_writes` on).

/// `name=value`, each with its reason.
pub const SETTINGS: &[&str] = &[
    // The outbox and the hot part of the read model; no more, since the machine is shared.
    "shared_buffers=128MB",
    // Few checkpoints under load: after each, every page touched is written to the log whole.
    "max_wal_size=2GB",
    "min_wal_size=128MB",
    "checkpoint_timeout=15min",
    // Those whole pages compress well, and the disk is slower than the processor.
    "wal_compression=on",
    // The outbox is small and every row in it dies soon. Left to the defaults (a fifth of the
    // table dead, looked at once a minute, throttled) it is mostly dead rows that claims must
    // step over.
    "autovacuum_naptime=5s",
    "autovacuum_vacuum_scale_factor=0.02",
    "autovacuum_vacuum_cost_delay=0",
    // A transaction somebody forgot holds back vacuum and every reader of the xmin horizon.
    "idle_in_transaction_session_timeout=60s",
    // The service's pools take a few dozen; some are left for psql.
    "max_connections=100",
    // Queries are short; compiling one takes longer than running it.
    "jit=off",
    // Random reads on solid-state disks cost hardly more than sequential ones.
    "random_page_cost=1.1",
    // Times in the log and in answers without a zone.
    "log_timezone=UTC",
    "timezone=UTC",
    // Startup failures are told to the user from the log.
    "lc_messages=C",
    "log_checkpoints=off",
    "logging_collector=off",
];
