//! SQL statements of verification and repair.

/// Rows of `events` without a commit, or whose columns contradict their envelope. Readers find
/// events by columns, which therefore must agree with the envelope.
pub(super) const STRAYS: &str = "
SELECT e.commit_offset, e.idx, e.stream_type, e.stream_id, e.version,
    encode(sha256(convert_to(e.envelope::text, 'UTF8')), 'hex'),
    c.partition IS NOT NULL,
    CASE WHEN c.partition IS NULL THEN 'no commit holds it'
         WHEN c.kind <> 'events' OR e.idx < 0 OR e.idx >= c.count
             THEN 'its commit does not count it'
         ELSE 'its columns contradict its envelope' END
FROM events e
LEFT JOIN commits c ON c.partition = e.partition AND c.commit_offset = e.commit_offset
WHERE e.partition = $1 AND e.commit_offset >= $2 AND e.commit_offset < $3
    AND (c.partition IS NULL OR c.kind <> 'events' OR e.idx < 0 OR e.idx >= c.count
        OR e.stream_type IS DISTINCT FROM e.envelope ->> 'streamtype'
        OR e.stream_id IS DISTINCT FROM e.envelope ->> 'streamid'
        OR e.version::text IS DISTINCT FROM e.envelope ->> 'streamversion'
        OR e.event_id::text IS DISTINCT FROM e.envelope ->> 'id'
        OR e.event_type IS DISTINCT FROM e.envelope ->> 'type'
        OR e.command_id::text IS DISTINCT FROM e.envelope ->> 'commandid')
ORDER BY e.commit_offset, e.idx
LIMIT $4";

/// Rows in partitions that do not exist.
pub(super) const FOREIGN: &str = "
SELECT partition, commit_offset, idx FROM events WHERE partition < 0 OR partition >= $1
UNION ALL
SELECT partition, commit_offset, NULL FROM commits WHERE partition < 0 OR partition >= $1
LIMIT $2";

pub(super) const COMMIT: &str = "
SELECT header::text, control::text FROM commits WHERE partition = $1 AND commit_offset = $2";

pub(super) const ENVELOPES: &str = "
SELECT envelope::text FROM events WHERE partition = $1 AND commit_offset = $2 ORDER BY idx";

pub(super) const KEEP_EVENTS: &str = "
INSERT INTO log_quarantine (source, partition, commit_offset, idx, body, why)
SELECT 'events', partition, commit_offset, idx, row_to_json(e), $3
FROM events e WHERE partition = $1 AND commit_offset = $2";

pub(super) const KEEP_COMMIT: &str = "
INSERT INTO log_quarantine (source, partition, commit_offset, body, why)
SELECT 'commits', partition, commit_offset, row_to_json(c), $3
FROM commits c WHERE partition = $1 AND commit_offset = $2";

/// Rows elsewhere that claim to be events of the correct object. A version of a stream is at one
/// position of the log (law 5), which is in the correct object. An id proves nothing: two events
/// may have the same.
pub(super) const RIVALS: &str = "
WITH rivals AS (
    DELETE FROM events e
    WHERE NOT (e.partition = $1 AND e.commit_offset = $2)
        AND EXISTS (
            SELECT 1 FROM unnest($3::text[], $4::text[], $5::int8[]) AS r(t, i, v)
            WHERE e.stream_type = r.t AND e.stream_id = r.i AND e.version = r.v)
    RETURNING e.*
)
INSERT INTO log_quarantine (source, partition, commit_offset, idx, body, why)
SELECT 'events', partition, commit_offset, idx, row_to_json(rivals), 'its event lies elsewhere'
FROM rivals";

pub(super) const STRAY_HASH: &str = "
SELECT sha256(convert_to(e::text, 'UTF8')) FROM events e
WHERE e.partition = $1 AND e.commit_offset = $2 AND e.idx = $3";

pub(super) const COMMIT_HASH: &str = "
SELECT sha256(convert_to(c::text, 'UTF8')) FROM commits c
WHERE c.partition = $1 AND c.commit_offset = $2";

pub(super) const TAKE_STRAY: &str = "
WITH taken AS (
    DELETE FROM events e
    WHERE e.partition = $1 AND e.commit_offset = $2 AND e.idx = $3
        AND sha256(convert_to(e::text, 'UTF8')) = $4
        AND NOT EXISTS (SELECT 1 FROM commits c
            WHERE c.partition = e.partition AND c.commit_offset = e.commit_offset)
    RETURNING e.*
)
INSERT INTO log_quarantine (source, partition, commit_offset, idx, body, why)
SELECT 'events', partition, commit_offset, idx, row_to_json(taken), 'no commit holds it'
FROM taken";

pub(super) const TAKE_COMMIT: &str = "
WITH taken AS (
    DELETE FROM commits c WHERE c.partition = $1 AND c.commit_offset = $2
        AND sha256(convert_to(c::text, 'UTF8')) = $3
        AND NOT EXISTS (SELECT 1 FROM migration m WHERE m.partition = c.partition)
    RETURNING c.*
)
INSERT INTO log_quarantine (source, partition, commit_offset, body, why)
SELECT 'commits', partition, commit_offset, row_to_json(taken), 'its partition does not exist'
FROM taken";
