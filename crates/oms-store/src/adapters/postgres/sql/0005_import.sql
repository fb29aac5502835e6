-- Imports of other people's events: how far they are, and which rows could not be taken in.

CREATE TABLE import_checkpoints (
    source  text        PRIMARY KEY,
    -- Everything up to here is in the log or parked.
    reached json        NOT NULL,
    rows    bigint      NOT NULL,
    updated timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE import_parked (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source         text        NOT NULL,
    -- Position of the row in its source, or its stream and version.
    key            text        NOT NULL,
    foreign_stream text,
    stream_type    text,
    stream_id      text,
    version        bigint,
    event_id       text,
    event_type     text,
    reason         text        NOT NULL,
    detail         text        NOT NULL,
    parked         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source, key)
);

CREATE INDEX import_parked_streams ON import_parked (source, stream_type, stream_id);
