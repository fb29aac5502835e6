//! Well-known event stores on PostgreSQL.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::{BinaryPolicy, Columns};

/// A tool whose tables are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// message-db 1.x (Eventide).
    MessageDb,
    /// Marten 4 and later (.NET).
    Marten,
    /// Emmett 0.3x and later (TypeScript).
    Emmett,
    /// postgres-es 0.4 and later (Rust, cqrs-es). It has no global order.
    PostgresEs,
    /// eventsourcing 9.x (Python). One table an application, so the table has to be named.
    Eventsourcing,
}

/// The tables of a tool.
#[derive(Debug, Clone)]
pub struct Known {
    /// The table; `None` if its name differs between installations.
    pub table: Option<&'static str>,
    /// Its columns.
    pub columns: Columns,
    /// SQL that joins more tables.
    pub join: Option<&'static str>,
    /// Number of a stream's first event.
    pub version_base: i64,
    /// The type of streams without one.
    pub default_stream_type: Option<&'static str>,
    /// JSON pointer to the time in the data.
    pub time_pointer: Option<&'static str>,
    /// What to do with bytes that are not JSON.
    pub binary: BinaryPolicy,
    /// How long a position may be taken before its row is inserted.
    pub lag: Duration,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            table: None,
            columns: Columns::default(),
            join: None,
            version_base: 1,
            default_stream_type: None,
            time_pointer: None,
            binary: BinaryPolicy::Wrap,
            lag: Duration::ZERO,
        }
    }
}

/// In its rich append mode Marten reserves numbers in a round trip before the transaction that
/// inserts. Its own daemon accepts a gap as permanent after three seconds, and so do we.
const MARTEN_LAG: Duration = Duration::from_secs(3);

/// Streams of different tenants may share an id. So may, where archived streams have a partition of
/// their own, an archived stream and one that was started again: a row belongs to the one whose
/// archived state is its own. For missing columns see below.
const MARTEN_JOIN: &str = "LEFT JOIN LATERAL (\
     SELECT s.type, x.archived, count(*) OVER () > 1 AS twin, \
            coalesce((SELECT is_archived FROM (SELECT s.*) r), false) = x.archived AS fits \
     FROM (SELECT NULL::bool AS is_archived) absent, \
          LATERAL (SELECT coalesce((SELECT is_archived FROM (SELECT e.*) r), false) AS archived) x, \
          {schema}.mt_streams s \
     WHERE s.id = e.stream_id AND s.tenant_id = e.tenant_id ORDER BY fits DESC LIMIT 1) s ON true";

/// Not every Marten store has all of these columns. A name is looked up in the row first; if the
/// row lacks it, the NULL of `absent` is found.
const MARTEN_METADATA: &str = "(SELECT jsonb_strip_nulls(jsonb_build_object(\
     'headers', (SELECT headers FROM (SELECT e.*) r), \
     'correlation_id', (SELECT correlation_id FROM (SELECT e.*) r), \
     'causation_id', (SELECT causation_id FROM (SELECT e.*) r), \
     'user_name', (SELECT user_name FROM (SELECT e.*) r), \
     'archived', nullif((SELECT is_archived FROM (SELECT e.*) r), false), \
     'dotnet_type', e.mt_dotnet_type, \
     'tenant_id', nullif(e.tenant_id, '*DEFAULT*'))) \
     FROM (SELECT NULL::jsonb AS headers, NULL::text AS correlation_id, \
     NULL::text AS causation_id, NULL::text AS user_name, NULL::bool AS is_archived) absent)";

/// Streams of different tenants may share an id, so the tenant's name is part of ours; so is
/// `archived/` where an archived stream and a restarted one both exist.
const MARTEN_STREAM: &str = "CASE WHEN s.archived AND s.twin THEN 'archived/' ELSE '' END || \
     CASE WHEN coalesce(e.tenant_id, '*DEFAULT*') = '*DEFAULT*' THEN '' ELSE e.tenant_id || '/' END \
     || e.stream_id::text";

const EMMETT_JOIN: &str = "LEFT JOIN {schema}.emt_streams s ON s.stream_id = e.stream_id \
     AND s.partition = e.partition AND s.is_archived = e.is_archived";

const EMMETT_STREAM: &str = "CASE WHEN e.partition IN ('emt:default', 'global') THEN e.stream_id \
     ELSE e.partition || '/' || e.stream_id END";

impl Preset {
    /// The description of the tool's tables.
    pub fn known(self) -> Known {
        let is = |text: &str| Some(text.to_owned());
        match self {
            Self::MessageDb => Known {
                table: Some("message_store.messages"),
                columns: Columns {
                    order: is("global_position"),
                    stream_name: is("stream_name"),
                    version: is("position"),
                    event_id: is("id"),
                    event_type: is("type"),
                    data: is("data"),
                    metadata: is("metadata"),
                    time: is("time"),
                    ..Columns::default()
                },
                version_base: 0,
                ..Known::default()
            },
            Self::Marten => Known {
                table: Some("public.mt_events"),
                columns: Columns {
                    order: is("seq_id"),
                    stream_type: is("s.type"),
                    stream_id: is(MARTEN_STREAM),
                    version: is("version"),
                    event_id: is("id"),
                    event_type: is("type"),
                    data: is("data"),
                    metadata: is(MARTEN_METADATA),
                    time: is("timestamp"),
                    ..Columns::default()
                },
                join: Some(MARTEN_JOIN),
                default_stream_type: Some("stream"),
                lag: MARTEN_LAG,
                ..Known::default()
            },
            Self::Emmett => Known {
                table: Some("public.emt_messages"),
                columns: Columns {
                    order: is("global_position"),
                    stream_type: is("nullif(s.stream_type, 'emt:unknown')"),
                    stream_id: is(EMMETT_STREAM),
                    version: is("stream_position"),
                    event_id: is("message_id"),
                    event_type: is("message_type"),
                    schema_version: is("message_schema_version"),
                    data: is("message_data"),
                    metadata: is("message_metadata"),
                    time: is("created"),
                    ..Columns::default()
                },
                join: Some(EMMETT_JOIN),
                default_stream_type: Some("stream"),
                ..Known::default()
            },
            Self::PostgresEs => Known {
                table: Some("public.events"),
                columns: Columns {
                    stream_type: is("aggregate_type"),
                    stream_id: is("aggregate_id"),
                    version: is("sequence"),
                    event_type: is("event_type"),
                    schema_version: is("event_version"),
                    data: is("payload"),
                    metadata: is("metadata"),
                    ..Columns::default()
                },
                ..Known::default()
            },
            Self::Eventsourcing => Known {
                columns: Columns {
                    order: is("notification_id"),
                    stream_id: is("originator_id"),
                    version: is("originator_version"),
                    event_type: is("topic"),
                    data: is("state"),
                    ..Columns::default()
                },
                time_pointer: Some("/timestamp/_data_"),
                // The library writes JSON: anything else was compressed or encrypted.
                binary: BinaryPolicy::Park,
                ..Known::default()
            },
        }
    }
}
