-- Delivery: what still has to reach Kafka, and how far the log has been taken in.

-- One row per event that the broker has not acknowledged; deleted in bulk once it has. The table
-- stays as small as the backlog, and its primary key is the order of sending.
CREATE TABLE outbox (
    partition     integer     NOT NULL,
    commit_offset bigint      NOT NULL,
    idx           integer     NOT NULL,
    event_id      uuid        NOT NULL UNIQUE,
    stream_type   text        NOT NULL,
    stream_id     text        NOT NULL,
    version       bigint      NOT NULL,
    topic         text        NOT NULL,
    epoch         bigint      NOT NULL,
    mode          text        NOT NULL,
    -- Place of the event's bytes in its commit object; the object's key follows from its position.
    start_byte    bigint      NOT NULL,
    len_bytes     bigint      NOT NULL,
    -- The event itself, where no commit object holds it.
    body          bytea,
    attempts      integer     NOT NULL DEFAULT 0,
    next_attempt  timestamptz,
    last_error    text,
    created       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition, commit_offset, idx)
) WITH (
    -- Every row is inserted once and deleted once: vacuum early and at full speed, or scans from
    -- the front wade through the dead.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0.1
);

-- Rows the broker will never take, waiting for an operator.
CREATE TABLE dead_letters (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition     integer     NOT NULL,
    commit_offset bigint      NOT NULL,
    idx           integer     NOT NULL,
    event_id      uuid        NOT NULL UNIQUE,
    stream_type   text        NOT NULL,
    stream_id     text        NOT NULL,
    version       bigint      NOT NULL,
    topic         text        NOT NULL,
    epoch         bigint      NOT NULL,
    mode          text        NOT NULL,
    start_byte    bigint      NOT NULL,
    len_bytes     bigint      NOT NULL,
    body          bytea,
    attempts      integer     NOT NULL,
    last_error    text        NOT NULL,
    created       timestamptz NOT NULL,
    died          timestamptz NOT NULL DEFAULT now()
);

-- The offset after the last commit of a partition whose events were recorded above.
CREATE TABLE outbox_watermarks (
    partition   integer     PRIMARY KEY,
    next_offset bigint      NOT NULL,
    moved       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Who publishes a partition, until when.
CREATE TABLE relay_leases (
    partition integer     PRIMARY KEY,
    node      text        NOT NULL,
    until     timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Processes that publish; shares of the partitions are counted among those still alive.
CREATE TABLE relay_nodes (
    node  text        PRIMARY KEY,
    until timestamptz NOT NULL
) WITH (fillfactor = 50);
