-- Jobs of the migration, and what a repair took away.

CREATE TABLE migration_jobs (
    id         uuid        PRIMARY KEY,
    kind       text        NOT NULL,
    state      text        NOT NULL,
    parameters json        NOT NULL,
    started_by text        NOT NULL,
    -- Where it goes on, in its runner's own words.
    checkpoint json,
    progress   json        NOT NULL,
    report     json,
    error      text,
    -- Who works on it, and when that was last heard of: silence means that it may be taken over.
    node       text        NOT NULL,
    heartbeat  timestamptz NOT NULL DEFAULT now(),
    begun      timestamptz NOT NULL DEFAULT now(),
    ended      timestamptz
);

-- One job of a kind at a time.
CREATE UNIQUE INDEX migration_jobs_active ON migration_jobs (kind)
    WHERE state IN ('running', 'pausing', 'paused');
CREATE INDEX migration_jobs_latest ON migration_jobs (kind, begun DESC);

-- Rows that a repair took out of the log: they said what the log does not. Kept as they were.
CREATE TABLE log_quarantine (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source        text        NOT NULL,
    partition     integer     NOT NULL,
    commit_offset bigint      NOT NULL,
    idx           integer,
    body          json        NOT NULL,
    why           text        NOT NULL,
    taken         timestamptz NOT NULL DEFAULT now()
);
