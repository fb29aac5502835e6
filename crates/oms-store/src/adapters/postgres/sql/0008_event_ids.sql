-- An event is known by its stream and version, and lies at one position. Its id is its author's:
-- other event stores have been seen to use one id in two streams, and such events are in logs
-- already. A second use of an id must neither be left out nor hold up its partition, in any mode.

ALTER TABLE outbox DROP CONSTRAINT outbox_event_id_key;
ALTER TABLE dead_letters DROP CONSTRAINT dead_letters_event_id_key;
ALTER TABLE events DROP CONSTRAINT events_event_id_key;

-- A row that dies again is one row still. The id is part of it for the sake of rows that are there
-- from another log: with it the index can always be made.
CREATE UNIQUE INDEX dead_letters_position
    ON dead_letters (partition, commit_offset, idx, event_id);

-- Which of a source's stream types was given which name of ours, where another one could be given
-- the same.
ALTER TABLE import_checkpoints ADD COLUMN names jsonb NOT NULL DEFAULT '{}';
