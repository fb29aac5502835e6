-- The log, where PostgreSQL holds it: the same commit objects as in the bucket, at the same
-- offsets, and the migration from one to the other.

-- One row per commit object. `header` and `control` are lines of the object; `json` keeps their
-- text byte for byte. With the object's events in between nothing is missing of its bytes:
-- header '\n' line '\n' line '\n' …
CREATE TABLE commits (
    partition     integer     NOT NULL,
    commit_offset bigint      NOT NULL CHECK (commit_offset >= 0),
    epoch         bigint      NOT NULL,
    kind          text        NOT NULL,
    header        json        NOT NULL,
    -- The line of a control object; NULL for events.
    control       json,
    -- Lines after the header, and bytes of the whole object.
    count         integer     NOT NULL,
    size          bigint      NOT NULL,
    -- SHA-256 of the object's bytes, the `prev` of the next.
    sha256        bytea       NOT NULL CHECK (length(sha256) = 32),
    committed     timestamptz NOT NULL,
    PRIMARY KEY (partition, commit_offset)
);

-- One row per event. Streams compare by bytes, as everywhere else in the program.
CREATE TABLE events (
    partition     integer     NOT NULL,
    commit_offset bigint      NOT NULL,
    idx           integer     NOT NULL,
    stream_type   text        COLLATE "C" NOT NULL,
    stream_id     text        COLLATE "C" NOT NULL,
    version       bigint      NOT NULL,
    event_id      uuid        NOT NULL,
    event_type    text        NOT NULL,
    command_id    uuid        NOT NULL,
    recorded      timestamptz NOT NULL,
    envelope      json        NOT NULL,
    PRIMARY KEY (partition, commit_offset, idx),
    UNIQUE (stream_type, stream_id, version),
    UNIQUE (event_id)
);

-- Where each partition stands on the road from PostgreSQL to S3. Appends read it FOR SHARE: it is
-- their fence.
CREATE TABLE migration (
    partition integer     PRIMARY KEY,
    mode      text        NOT NULL,
    lead      text        NOT NULL,
    epoch     bigint      NOT NULL,
    step      text        NOT NULL,
    revision  bigint      NOT NULL,
    -- When mode and lead became what they are, and when anything changed.
    since     timestamptz NOT NULL DEFAULT now(),
    changed   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Orders to move along that road, kept for ever.
CREATE TABLE migration_switches (
    id       uuid        PRIMARY KEY,
    begun    timestamptz NOT NULL,
    ended    timestamptz,
    state    text        NOT NULL,
    -- Who carries it out, and when that process was heard of.
    driver   text        NOT NULL,
    heard    timestamptz NOT NULL DEFAULT now(),
    document jsonb       NOT NULL
);
-- At most one is under way.
CREATE UNIQUE INDEX migration_switches_under_way ON migration_switches ((true))
    WHERE ended IS NULL;
CREATE INDEX migration_switches_by_age ON migration_switches (begun DESC, id DESC);
