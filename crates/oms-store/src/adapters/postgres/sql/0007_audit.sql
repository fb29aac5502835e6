-- The audit trail: what administrators ordered, and who was turned away. Written by whoever answered
-- the request; removed only by age.
CREATE TABLE audit (
    -- UUIDv7 of the process that recorded it: its order is that of time, and writing an entry twice
    -- leaves it there once.
    id         uuid        PRIMARY KEY,
    recorded   timestamptz NOT NULL,
    -- The process, by the name it has among those that share the work.
    node       text        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('command', 'refusal')),
    -- NULL where nobody was recognised.
    principal  text,
    address    text,
    action     text        NOT NULL,
    -- The order itself as it came, if it was short enough to be kept.
    body       text,
    status     integer     NOT NULL,
    code       text,
    request_id text        NOT NULL,
    -- How often the same happened since the entry before it.
    times      bigint      NOT NULL CHECK (times > 0)
);
