-- The read model: derived from the log, disposable. Each generation is a set of tables of its own
-- (see read_model/generation.sql); queries read the one that is live.

-- Never reused, so that a reader that remembers a dropped generation notices.
CREATE SEQUENCE read_model_generation;

-- At most one generation is live, and one is being built to take its place.
CREATE TABLE read_model_generations (
    generation bigint      PRIMARY KEY DEFAULT nextval('read_model_generation'),
    state      text        NOT NULL UNIQUE CHECK (state IN ('live', 'building')),
    begun      timestamptz NOT NULL DEFAULT now()
);

-- The offset after the last commit of a partition that a generation has taken in; moves in the
-- transaction that takes it in.
CREATE TABLE read_model_positions (
    generation  bigint  NOT NULL REFERENCES read_model_generations ON DELETE CASCADE,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL,
    PRIMARY KEY (generation, partition)
) WITH (fillfactor = 50);

-- Events that a generation could not take in.
CREATE TABLE read_model_parked (
    generation    bigint      NOT NULL REFERENCES read_model_generations ON DELETE CASCADE,
    partition     integer     NOT NULL,
    commit_offset bigint      NOT NULL,
    idx           integer     NOT NULL,
    stream        text        NOT NULL,
    event_type    text        NOT NULL,
    reason        text        NOT NULL,
    parked        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation, partition, commit_offset, idx)
);
