-- One generation of the read model. `{g}` is its number.
--
-- version      of the thing's stream; guards against older changes
-- incarnation  version of the event that last created it
-- parent       incarnation of what it belongs to
-- data         NULL when it was deleted: the row stays to hold its version
--
-- Ids have collation C: they are ordered by bytes, everywhere the same.

CREATE TABLE rm_{g}_databases (
    name        text COLLATE "C" PRIMARY KEY,
    version     bigint      NOT NULL,
    incarnation bigint,
    data        json,
    created_at  timestamptz,
    updated_at  timestamptz NOT NULL
);

CREATE TABLE rm_{g}_classes (
    db          text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    version     bigint      NOT NULL,
    incarnation bigint,
    parent      bigint,
    data        json,
    created_at  timestamptz,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (db, id)
);

CREATE TABLE rm_{g}_instances (
    db          text COLLATE "C" NOT NULL,
    class       text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    version     bigint      NOT NULL,
    incarnation bigint,
    parent      bigint,
    data        jsonb,
    created_at  timestamptz,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (db, class, id)
);

-- Serves equality with scalars and membership in arrays, for any property.
CREATE INDEX rm_{g}_instances_data ON rm_{g}_instances USING gin (data jsonb_path_ops);
