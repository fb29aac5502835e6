-- Copies prove whose they are: each says of which log it is and on which commit it stands. Rows of
-- the build before say neither; they are told when the commit they stand on has been read.

-- sha256 is the hash of the commit before the offset `anchored_at`; 32 zeros before the first one. A
-- build that does not know these columns moves next_offset alone: then anchored_at is behind it.
ALTER TABLE outbox_watermarks
    ADD COLUMN log_id      uuid,
    ADD COLUMN anchored_at bigint,
    ADD COLUMN sha256      bytea CHECK (length(sha256) = 32);

ALTER TABLE read_model_positions
    ADD COLUMN log_id      uuid,
    ADD COLUMN anchored_at bigint,
    ADD COLUMN sha256      bytea CHECK (length(sha256) = 32);

-- The log this schema belongs to: who leads it, how far its migration is. Written once, by the first
-- process that has seen the bucket.
CREATE TABLE log_identity (
    singleton boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    log_id    uuid        NOT NULL,
    bound     timestamptz NOT NULL DEFAULT now()
);
