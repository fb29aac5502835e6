//! Builds the SQL statements that read a source's table, from its description.

use oms_core::import::spec::{Columns, SourceSpec};

/// Expressions by configuration key, in the order in which they are selected after the position.
pub(super) fn parts(columns: &Columns) -> [(&'static str, Option<&str>); 10] {
    fn of(column: &Option<String>) -> Option<&str> {
        column.as_deref().filter(|c| !c.is_empty())
    }
    [
        ("stream_name", of(&columns.stream_name)),
        ("stream_type", of(&columns.stream_type)),
        ("stream_id", of(&columns.stream_id)),
        ("version", of(&columns.version)),
        ("event_id", of(&columns.event_id)),
        ("event_type", of(&columns.event_type)),
        ("schema_version", of(&columns.schema_version)),
        ("data", of(&columns.data)),
        ("metadata", of(&columns.metadata)),
        ("time", of(&columns.time)),
    ]
}

/// A column's name as a column of the row `e`; any other text as the expression that it is.
pub(super) fn expression(spec: &SourceSpec, given: &str) -> String {
    let plain = !given.is_empty()
        && !given.starts_with(|c: char| c.is_ascii_digit())
        && given
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain {
        format!("e.\"{given}\"")
    } else {
        format!("({})", spec.sql(given))
    }
}

/// How a value of a type is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Select {
    /// As text.
    Text,
    /// As bytes.
    Bytes,
    /// As a timestamp.
    Time,
    /// Converted to JSON.
    ToJson,
}

/// Whether a type is a kind of text.
pub(super) fn is_text(type_name: &str) -> bool {
    matches!(type_name, "text" | "varchar" | "bpchar" | "citext" | "name")
}

/// Whether a type is a kind of number.
pub(super) fn is_number(type_name: &str) -> bool {
    matches!(type_name, "int2" | "int4" | "int8" | "numeric")
}

/// Whether values of a type are references to something stored elsewhere in the same database.
fn is_reference(type_name: &str) -> bool {
    let one = type_name.strip_prefix('_').unwrap_or(type_name);
    one.starts_with("reg") || matches!(one, "oid" | "oidvector" | "xid" | "xid8" | "cid" | "tid")
}

impl Select {
    /// How `part` with this type is selected. The error says what to configure instead, because the
    /// stored value is a reference or cannot be used.
    pub fn of(
        part: &str,
        type_name: &str,
        expression: &str,
        ordered: bool,
    ) -> Result<Self, String> {
        let content = matches!(part, "data" | "metadata");
        match (part, type_name) {
            _ if content && type_name == "oid" => Err(format!(
                "it is an oid, the number of a large object and not its content: write \
                 {part} = \"lo_get({expression})\""
            )),
            _ if content && is_reference(type_name) => Err(format!(
                "it is a {type_name}, the number of something that lies elsewhere and not its \
                 content: write an expression that gives the content"
            )),
            _ if content && (is_text(type_name) || matches!(type_name, "json" | "jsonb")) => {
                Ok(Self::Text)
            }
            _ if content && type_name == "bytea" => Ok(Self::Bytes),
            _ if content => Ok(Self::ToJson),
            ("time", "timestamptz" | "timestamp") => Ok(Self::Time),
            // Parsed as RFC 3339, row by row.
            ("time", _) if is_text(type_name) => Ok(Self::Text),
            ("time", _) => Err(not_a_time(type_name, expression)),
            ("version", "int2" | "int4" | "int8") => Ok(Self::Text),
            // Parsed as an integer, row by row. Not in a pass, where it would sort as text.
            ("version", "numeric") if ordered => Ok(Self::Text),
            ("version", _) if ordered && is_text(type_name) => Ok(Self::Text),
            ("version", _) => Err(format!(
                "must be an integer, it is {type_name}: write version = \"({expression})::int8\" if \
                 that is what it means"
            )),
            _ => Ok(Self::Text),
        }
    }

    fn sql(self, part: &str, expression: &str, guard: usize) -> String {
        let value = match self {
            Self::Text => format!("({expression})::text"),
            Self::Bytes => format!("({expression})::bytea"),
            Self::Time => return expression.to_owned(),
            Self::ToJson => format!("to_jsonb({expression})::text"),
        };
        if matches!(part, "data" | "metadata") {
            return format!("CASE WHEN pg_column_size({expression}) <= {guard} THEN {value} END");
        }
        value
    }
}

/// Advice for a time column of another type.
fn not_a_time(type_name: &str, expression: &str) -> String {
    let instead = match type_name {
        "int2" | "int4" | "int8" | "numeric" | "float4" | "float8" => format!(
            "write time = \"to_timestamp({expression} / 1000.0)\" for milliseconds since 1970, \
             time = \"to_timestamp({expression})\" for seconds"
        ),
        "date" => {
            format!("write time = \"({expression})::timestamp\" to take the day's beginning, UTC")
        }
        _ => "write an expression that gives a timestamptz".to_owned(),
    };
    format!(
        "must be a timestamptz, a timestamp (taken as UTC) or RFC 3339 text, it is {type_name}: {instead}"
    )
}

/// Content larger than so many times the largest event is not read at all. Stored forms may be
/// larger than their text; what is read is measured exactly.
const GUARD_FACTOR: usize = 16;

/// Index of the column that says whether content was left out because of its size.
pub(super) const TOO_LARGE: usize = 11;

/// The statements of one source. Parameters are `int8`, except `text` for the key of a pass.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    /// Rows after `$1` up to `$2`, at most `$3`; or the first page of a pass, at most `$1`.
    pub page: String,
    /// Further pages of a pass: rows after the key `$1…`, at most the last parameter.
    pub next_page: Option<String>,
    /// As `page`, but with the identifying columns only: for a row whose content cannot be read.
    pub names: String,
    /// As `names`, but with the position only.
    pub place: Option<String>,
    /// As `next_page`, but with the identifying columns only.
    pub next_names: Option<String>,
    /// The newest position.
    pub newest: Option<String>,
    /// Whether there are rows without a position or a key, which no page would contain.
    pub unplaced: String,
    /// Number of rows.
    pub count: String,
}

/// Makes an expression depend on rows of the page only. Without this, expressions may be evaluated
/// on all rows before sorting and limiting, if no index sorts them, and fail on a row that is not
/// wanted; volatile ones are evaluated after that.
fn late(value: &str) -> String {
    format!("CASE WHEN random() IS NOT NULL THEN {value} END")
}

/// The columns of a page; `wanted` says which parts are selected.
fn columns(
    spec: &SourceSpec,
    selects: &[(&'static str, String, Select)],
    wanted: impl Fn(&str) -> bool,
) -> String {
    let guard = spec.max_event_bytes.saturating_mul(GUARD_FACTOR);
    let sorted_by = |part: &str| spec.columns.order.is_none() && is_key(part);
    let mut list: Vec<String> = Vec::new();
    let mut large = Vec::new();
    for (part, _) in parts(&spec.columns) {
        let found = selects
            .iter()
            .find(|(name, ..)| *name == part && wanted(part));
        let Some((_, expression, select)) = found else {
            list.push("NULL::text".to_owned());
            continue;
        };
        let value = select.sql(part, expression, guard);
        if sorted_by(part) {
            list.push(value);
            continue;
        }
        list.push(late(&value));
        if matches!(part, "data" | "metadata") {
            let large_part = format!("coalesce(pg_column_size({expression}) > {guard}, false)");
            large.push(late(&large_part));
        }
    }
    let large = if large.is_empty() {
        "false".to_owned()
    } else {
        large.join(" OR ")
    };
    format!("{}, ({large})", list.join(", "))
}

/// Builds the statements; `selects` says how each of [`parts`] is selected, `key_types` are the
/// types of stream type, stream id and version.
pub(super) fn statements(
    spec: &SourceSpec,
    selects: &[(&'static str, String, Select)],
    key_types: &[String],
) -> Statements {
    let all = columns(spec, selects, |_| true);
    let from = from(spec);
    let filter = filter(spec);
    let order = spec.columns.order.as_deref().filter(|o| !o.is_empty());
    if let Some(order) = order {
        let order = expression(spec, order);
        let page = |columns: &str| {
            format!(
                "SELECT ({order})::int8, {columns} {from} WHERE {order} > $1::int8 \
                 AND {order} <= $2::int8 AND {filter} ORDER BY {order} LIMIT $3"
            )
        };
        return Statements {
            page: page(&all),
            next_page: None,
            names: page(&columns(spec, selects, is_key)),
            place: Some(page(&columns(spec, selects, |_| false))),
            next_names: None,
            count: format!("SELECT count(*) {from} WHERE {filter}"),
            newest: Some(format!("SELECT max({order})::int8 {from}")),
            unplaced: format!("SELECT EXISTS (SELECT 1 {from} WHERE {order} IS NULL AND {filter})"),
        };
    }
    let key: Vec<String> = KEY_PARTS
        .iter()
        .filter_map(|part| selects.iter().find(|(name, ..)| name == part))
        .map(|(_, expression, _)| expression.clone())
        .collect();
    let without_key: Vec<String> = key.iter().map(|k| format!("{k} IS NULL")).collect();
    let without_key = without_key.join(" OR ");
    let key = key.join(", ");
    let parameters: Vec<String> = key_types
        .iter()
        .enumerate()
        .map(|(i, t)| format!("${}::text::{t}", i + 1))
        .collect();
    let limit = key_types.len() + 1;
    let page = |columns: &str, after: &str, limit: usize| {
        format!(
            "SELECT NULL::int8, {columns} {from} WHERE {after} AND {filter} AND {{since}} \
             ORDER BY {key} LIMIT ${limit}"
        )
    };
    let after = format!("({key}) > ({})", parameters.join(", "));
    let names = columns(spec, selects, is_key);
    Statements {
        page: page(&all, "true", 1),
        next_page: Some(page(&all, &after, limit)),
        names: page(&names, "true", 1),
        place: None,
        next_names: Some(page(&names, &after, limit)),
        newest: None,
        count: format!("SELECT count(*) {from} WHERE {filter}"),
        unplaced: format!("SELECT EXISTS (SELECT 1 {from} WHERE ({without_key}) AND {filter})"),
    }
}

/// The configured condition, or one that is always true.
pub(super) fn filter(spec: &SourceSpec) -> String {
    match spec.filter.as_deref().filter(|f| !f.is_empty()) {
        Some(filter) => format!("({})", spec.sql(filter)),
        None => "true".to_owned(),
    }
}

/// The columns of a row's key where there is no position.
const KEY_PARTS: [&str; 4] = ["stream_name", "stream_type", "stream_id", "version"];

/// Whether a part belongs to the key where there is no position.
pub(super) fn is_key(part: &str) -> bool {
    KEY_PARTS.contains(&part)
}

fn join(spec: &SourceSpec) -> String {
    spec.join
        .as_deref()
        .map(|j| spec.sql(j))
        .unwrap_or_default()
}

/// The table as `e`, with the configured joins.
pub(super) fn from(spec: &SourceSpec) -> String {
    format!("FROM {} e {}", spec.table, join(spec))
}

/// The condition that replaces `{since}` in the pages of a pass.
pub(super) fn since(transaction: Option<u64>) -> String {
    match transaction {
        None => "true".to_owned(),
        // Rows have the lower half of a transaction's number; `age` handles its wrap-around.
        Some(transaction) => format!("age(e.xmin) <= age('{}'::xid)", transaction as u32),
    }
}

/// The table, its partitions and the sequences of its columns: a transaction that is about to
/// insert a row holds a lock on one of them from before it takes its position until the row is
/// visible.
pub(super) const RELATIONS: &str = "
WITH own AS (
    SELECT $1::text::regclass::oid AS oid
    UNION SELECT relid FROM pg_partition_tree($1::text::regclass)
    UNION SELECT inhrelid FROM pg_inherits WHERE inhparent = $1::text::regclass
), sequences AS (
    SELECT d.objid AS oid FROM pg_depend d JOIN own ON d.refobjid = own.oid
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
    UNION
    SELECT d.refobjid FROM pg_attrdef a JOIN own ON a.adrelid = own.oid
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid
        AND d.refclassid = 'pg_class'::regclass
)
SELECT oid, 1::int8, 1::int8 FROM own
UNION SELECT c.oid, q.seqcache, abs(q.seqincrement) FROM sequences s
JOIN pg_class c ON c.oid = s.oid AND c.relkind = 'S'
JOIN pg_sequence q ON q.seqrelid = c.oid";

/// Transactions that may be about to insert, including waiting and prepared ones.
pub(super) const WRITERS: &str = "
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE relation = ANY($1::oid[]) AND pid IS DISTINCT FROM pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')";

/// The type of an expression, for a domain its base type, without reading a row. Because the
/// expression is used in a condition, the server refuses aggregates, window functions and
/// set-returning functions.
pub(super) fn type_of(spec: &SourceSpec, expression: &str) -> String {
    let from = from(spec);
    format!(
        "WITH RECURSIVE base AS (
             SELECT t.*, 0 AS depth FROM pg_type t WHERE t.oid = pg_typeof(
                 (SELECT {expression} {from} WHERE ({expression}) IS NOT NULL LIMIT 0))::oid
             UNION ALL
             SELECT t.*, b.depth + 1 FROM base b JOIN pg_type t ON t.oid = b.typbasetype
             WHERE b.typtype = 'd'
         )
         SELECT n.nspname::text, b.typname::text FROM base b
         JOIN pg_namespace n ON n.oid = b.typnamespace ORDER BY b.depth DESC LIMIT 1"
    )
}

/// Whether every content in a sample is the number of an existing large object, as some mappers
/// store texts.
pub(super) fn only_large_objects(spec: &SourceSpec, expression: &str) -> String {
    let (from, filter) = (from(spec), filter(spec));
    format!(
        "SELECT count(s.v) > 0 AND coalesce(bool_and(EXISTS (
             SELECT FROM pg_largeobject_metadata m WHERE m.oid = CASE
                 WHEN s.v ~ '^[1-9][0-9]{{0,9}}$' AND s.v::int8 < 4294967296 THEN s.v::oid END
         )), false)
         FROM (SELECT ({expression})::text AS v {from} WHERE {filter} LIMIT 100) s
         WHERE s.v IS NOT NULL"
    )
}

/// The kind of table, whether the server is a standby, and the estimated number of rows.
pub(super) const ABOUT: &str = "
SELECT c.relkind::text, pg_is_in_recovery(), greatest(0, (
    SELECT sum(greatest(p.reltuples, 0)) FROM pg_class p
    WHERE p.oid = c.oid OR p.oid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf)
))::int8
FROM pg_class c WHERE c.oid = $1::text::regclass";

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::import::presets::Preset;

    #[test]
    fn names_are_columns_and_the_rest_is_sql() {
        let known = Preset::Marten.known();
        let spec = SourceSpec {
            name: "m".into(),
            table: "events.mt_events".into(),
            columns: known.columns,
            join: known.join.map(str::to_owned),
            ..SourceSpec::default()
        };
        assert_eq!(expression(&spec, "order"), "e.\"order\"");
        assert_eq!(expression(&spec, "e.x + 1"), "(e.x + 1)");
        assert_eq!(expression(&spec, "{schema}.f(e.x)"), "(events.f(e.x))");
        assert!(from(&spec).contains(" events.mt_streams s "));
    }

    #[test]
    fn law_2_a_type_that_would_be_stored_as_something_else_is_refused_with_what_to_write() {
        let refused = [
            ("data", "oid", "lo_get(e.p)"),
            ("metadata", "oid", "lo_get(e.p)"),
            ("data", "_oid", "content"),
            ("data", "regclass", "content"),
            ("time", "int8", "to_timestamp(e.p / 1000.0)"),
            ("time", "numeric", "to_timestamp(e.p)"),
            ("time", "date", "(e.p)::timestamp"),
            ("time", "time", "timestamptz"),
            ("version", "float8", "integer"),
            ("version", "oid", "integer"),
        ];
        for (part, type_name, hint) in refused {
            let told = Select::of(part, type_name, "e.p", true).unwrap_err();
            assert!(told.contains(hint), "{part} {type_name}: {told}");
        }
        for type_name in ["numeric", "text"] {
            assert_eq!(
                Select::of("version", type_name, "e.p", true),
                Ok(Select::Text)
            );
            assert!(
                Select::of("version", type_name, "e.p", false).is_err(),
                "sorts otherwise"
            );
        }
        for (type_name, select) in [
            ("jsonb", Select::Text),
            ("citext", Select::Text),
            ("bytea", Select::Bytes),
            ("numeric", Select::ToJson),
        ] {
            assert_eq!(Select::of("data", type_name, "e.p", true), Ok(select));
        }
    }
}
