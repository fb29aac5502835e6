//! SQL statements of the log.

/// An append: one statement, hence one transaction, one round trip, one fsync.
///
/// `FOR SHARE` waits for a hand-off that is changing the row and then sees the row it made, while
/// everything else uses the statement's snapshot. That is sufficient: the predecessor was read
/// before the append was formed, and an object at the same offset that the snapshot does not show
/// is found by the primary key, which also waits for the transaction that brings it. The watermark
/// is advanced only if the snapshot shows it at this offset, with the same predecessor; if it moves
/// there meanwhile, or has no recorded predecessor, the tailer inserts the outbox rows.
pub(super) const APPEND: &str = "
WITH fence AS (
    SELECT mode, lead, epoch, step, revision FROM migration WHERE partition = $1 FOR SHARE
), base AS (
    SELECT $21::bool OR EXISTS (
        SELECT FROM commits
        WHERE partition = $1 AND commit_offset = $22::int8 - 1 AND sha256 = $23::bytea
    ) AS chained
), added AS (
    INSERT INTO commits (partition, commit_offset, epoch, kind, header, control, count, size,
                         sha256, committed)
    SELECT $1::int4, c.*
    FROM fence, base,
         unnest($2::int8[], $3::int8[], $4::text[], $5::json[], $6::json[], $7::int4[], $8::int8[],
                $9::bytea[], $10::timestamptz[])
         AS c(commit_offset, epoch, kind, header, control, count, size, sha256, committed)
    WHERE fence.lead = 'postgres' AND fence.step = 'steady' AND fence.epoch = $24::int8
      AND base.chained
    ON CONFLICT (partition, commit_offset) DO NOTHING
    RETURNING commit_offset, sha256
), described AS (
    INSERT INTO events (partition, commit_offset, idx, stream_type, stream_id, version, event_id,
                        event_type, command_id, recorded, envelope)
    SELECT $1::int4, e.*
    FROM unnest($11::int8[], $12::int4[], $13::text[], $14::text[], $15::int8[], $16::uuid[],
                $17::text[], $18::uuid[], $19::timestamptz[], $20::json[])
         AS e(commit_offset, idx, stream_type, stream_id, version, event_id, event_type,
              command_id, recorded, envelope)
    WHERE EXISTS (SELECT FROM added)
), moved AS (
    UPDATE outbox_watermarks m
    SET next_offset = $22::int8 + 1, moved = now(), anchored_at = $22::int8 + 1,
        sha256 = added.sha256
    FROM added WHERE m.partition = $1 AND m.next_offset = $22::int8
      AND m.anchored_at = $22::int8 AND m.sha256 = $23::bytea
    RETURNING m.partition
), taken AS (
    INSERT INTO outbox (partition, commit_offset, idx, event_id, stream_type, stream_id, version,
                        topic, epoch, mode, start_byte, len_bytes, body)
    SELECT r.*
    FROM unnest($25::int4[], $26::int8[], $27::int4[], $28::uuid[], $29::text[], $30::text[],
                $31::int8[], $32::text[], $33::int8[], $34::text[], $35::int8[], $36::int8[],
                $37::bytea[])
         AS r(partition, commit_offset, idx, event_id, stream_type, stream_id, version,
              topic, epoch, mode, start_byte, len_bytes, body)
    WHERE EXISTS (SELECT FROM moved)
    ON CONFLICT DO NOTHING
)
SELECT f.mode, f.lead, f.epoch, f.step, f.revision, base.chained, EXISTS (SELECT FROM added)
FROM base LEFT JOIN fence f ON true";

/// Inserts objects of one partition, all or none. The commits come first, in order: of two
/// processes that insert the same ones the second waits at the first common one, and then fails by
/// its primary key without having touched an event.
pub(super) const INSERT: &str = "
WITH added AS (
    INSERT INTO commits (partition, commit_offset, epoch, kind, header, control, count, size,
                         sha256, committed)
    SELECT $1::int4, c.*
    FROM unnest($2::int8[], $3::int8[], $4::text[], $5::json[], $6::json[], $7::int4[], $8::int8[],
                $9::bytea[], $10::timestamptz[])
         AS c(commit_offset, epoch, kind, header, control, count, size, sha256, committed)
    RETURNING commit_offset
)
INSERT INTO events (partition, commit_offset, idx, stream_type, stream_id, version, event_id,
                    event_type, command_id, recorded, envelope)
SELECT $1::int4, e.*
FROM unnest($11::int8[], $12::int4[], $13::text[], $14::text[], $15::int8[], $16::uuid[],
            $17::text[], $18::uuid[], $19::timestamptz[], $20::json[])
     AS e(commit_offset, idx, stream_type, stream_id, version, event_id, event_type, command_id,
          recorded, envelope)
WHERE (SELECT count(*) FROM added) > 0";

/// The constraint that an occupied offset violates.
pub(super) const OFFSET_TAKEN: &str = "commits_pkey";

/// The hashes of a span of a partition, both ends included.
pub(super) const HASHES: &str = "
SELECT commit_offset, sha256 FROM commits
WHERE partition = $1 AND commit_offset BETWEEN $2 AND $3 ORDER BY commit_offset";

/// The offset after the last one. Objects are added at the end only, so that there are no gaps.
pub(super) const END: &str =
    "SELECT coalesce(max(commit_offset) + 1, 0) FROM commits WHERE partition = $1";

/// Objects from an offset on, as long as they fit into so many bytes, at least one. The server
/// joins the lines: one row and one copy per object, and no work per event. The hash verifies their
/// order.
pub(super) const SPAN: &str = "
WITH sized AS (
    SELECT commit_offset, header, control, size, sha256,
           (sum(size) OVER (ORDER BY commit_offset))::int8 AS total
    FROM (
        SELECT commit_offset, header, control, size, sha256 FROM commits
        WHERE partition = $1 AND commit_offset >= $2 AND commit_offset < $3
        ORDER BY commit_offset LIMIT $4
    ) c
)
SELECT s.commit_offset, s.header, s.control, s.size, s.sha256, l.lines, l.count, l.first, l.last
FROM sized s
CROSS JOIN LATERAL (
    SELECT string_agg(e.envelope::text, E'\\n') AS lines, count(*) AS count,
           min(e.idx) AS first, max(e.idx) AS last
    FROM (
        SELECT idx, envelope FROM events
        WHERE partition = $1 AND commit_offset = s.commit_offset ORDER BY idx
    ) e
) l
WHERE s.total <= $5 OR s.total = s.size
ORDER BY s.commit_offset";

/// Events by their locations, in the requested order; of one that is not there, whether its commit is.
pub(super) const EVENTS: &str = "
SELECT e.version, e.envelope,
       CASE WHEN e.version IS NULL THEN EXISTS (
           SELECT FROM commits WHERE partition = $1 AND commit_offset = w.commit_offset) END
FROM unnest($2::int8[], $3::int4[]) WITH ORDINALITY AS w(commit_offset, idx, nr)
LEFT JOIN LATERAL (
    SELECT version, envelope FROM events
    WHERE partition = $1 AND commit_offset = w.commit_offset AND idx = w.idx
    LIMIT 1
) e ON true
ORDER BY w.nr";
