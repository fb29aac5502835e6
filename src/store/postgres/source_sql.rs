//! The statements that read somebody else's table, from its description.

use crate::import::spec::{Columns, SourceSpec};

/// Columns by key, in the order in which they are selected after the order column.
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

/// A column's name as itself of the row `e`; anything else as the expression it is.
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

/// How content of a type is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Select {
    /// As text.
    Text,
    /// As bytes.
    Bytes,
    /// As a timestamp.
    Time,
    /// As JSON made from it.
    ToJson,
}

impl Select {
    /// How `part` of a type is selected.
    pub fn of(part: &str, type_name: &str) -> Self {
        match (part, type_name) {
            ("data" | "metadata", "json" | "jsonb" | "text" | "varchar" | "bpchar") => Self::Text,
            ("data" | "metadata", "bytea") => Self::Bytes,
            ("data" | "metadata", _) => Self::ToJson,
            ("time", "timestamptz" | "timestamp") => Self::Time,
            _ => Self::Text,
        }
    }

    fn sql(self, part: &str, expression: &str) -> String {
        match self {
            Self::Text if part == "version" => format!("({expression})::int8"),
            Self::Text => format!("({expression})::text"),
            Self::Bytes | Self::Time => expression.to_owned(),
            Self::ToJson => format!("to_jsonb({expression})::text"),
        }
    }
}

/// The statements of one source.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    /// Rows after `$1` up to `$2`, at most `$3`; or the first page of a pass, at most `$1`.
    pub page: String,
    /// Further pages of a pass: rows after the key `$1…`, at most the last parameter.
    pub next_page: Option<String>,
    /// The newest position.
    pub newest: Option<String>,
    /// Whether there are rows without a position or a key, which no page would show.
    pub unplaced: String,
    /// Number of rows.
    pub count: String,
}

/// Puts the statements together; `selects` says how each of [`parts`] is selected, `key_types` are
/// the types of stream type, stream id and version.
pub(super) fn statements(
    spec: &SourceSpec,
    selects: &[(&'static str, String, Select)],
    key_types: &[String],
) -> Statements {
    let all = parts(&spec.columns);
    let columns: Vec<String> = all
        .iter()
        .map(|(part, _)| {
            let found = selects.iter().find(|(name, ..)| name == part);
            found.map_or_else(
                || {
                    if *part == "version" {
                        "NULL::int8"
                    } else {
                        "NULL::text"
                    }
                    .to_owned()
                },
                |(_, expression, select)| select.sql(part, expression),
            )
        })
        .collect();
    let columns = columns.join(", ");
    let from = from(spec);
    let filter = match spec.filter.as_deref().filter(|f| !f.is_empty()) {
        Some(filter) => format!("({})", spec.sql(filter)),
        None => "true".to_owned(),
    };
    let order = spec.columns.order.as_deref().filter(|o| !o.is_empty());
    if let Some(order) = order {
        let order = expression(spec, order);
        return Statements {
            page: format!(
                "SELECT ({order})::int8, {columns} {from} WHERE {order} > $1::int8 \
                 AND {order} <= $2::int8 AND {filter} ORDER BY {order} LIMIT $3"
            ),
            next_page: None,
            count: format!("SELECT count(*) {from} WHERE {filter}"),
            newest: Some(format!("SELECT max({order})::int8 {from}")),
            unplaced: format!("SELECT EXISTS (SELECT 1 {from} WHERE {order} IS NULL AND {filter})"),
        };
    }
    let key: Vec<String> = ["stream_name", "stream_type", "stream_id", "version"]
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
    let page = |after: &str, limit: usize| {
        format!(
            "SELECT NULL::int8, {columns} {from} WHERE {after} AND {filter} AND {{since}} \
             ORDER BY {key} LIMIT ${limit}"
        )
    };
    Statements {
        page: page("true", 1),
        next_page: Some(page(
            &format!("({key}) > ({})", parameters.join(", ")),
            limit,
        )),
        newest: None,
        count: format!("SELECT count(*) {from} WHERE {filter}"),
        unplaced: format!("SELECT EXISTS (SELECT 1 {from} WHERE ({without_key}) AND {filter})"),
    }
}

fn join(spec: &SourceSpec) -> String {
    spec.join
        .as_deref()
        .map(|j| spec.sql(j))
        .unwrap_or_default()
}

/// The table as `e`, with what is joined to it.
pub(super) fn from(spec: &SourceSpec) -> String {
    format!("FROM {} e {}", spec.table, join(spec))
}

/// The condition that stands for `{since}` in the pages of a pass.
pub(super) fn since(transaction: Option<u64>) -> String {
    match transaction {
        None => "true".to_owned(),
        // Rows carry the lower half of a transaction's number; its age knows about going round.
        Some(transaction) => format!("age(e.xmin) <= age('{}'::xid)", transaction as u32),
    }
}

/// The table, its partitions, and the sequences its columns draw from: whoever is about to insert
/// a row holds a lock on one of them from before the position is drawn until the row is visible.
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
SELECT oid, 0::int8 FROM own
UNION SELECT c.oid, q.seqcache FROM sequences s
JOIN pg_class c ON c.oid = s.oid AND c.relkind = 'S'
JOIN pg_sequence q ON q.seqrelid = c.oid";

/// Transactions that may be about to insert, waiting ones and prepared ones included.
pub(super) const WRITERS: &str = "
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE relation = ANY($1::oid[]) AND pid IS DISTINCT FROM pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')";

/// What the table is, whether this is a standby, and about how many rows there are.
pub(super) const ABOUT: &str = "
SELECT c.relkind::text, pg_is_in_recovery(), greatest(0, (
    SELECT sum(greatest(p.reltuples, 0)) FROM pg_class p
    WHERE p.oid = c.oid OR p.oid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf)
))::int8
FROM pg_class c WHERE c.oid = $1::text::regclass";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::presets::Preset;
    use crate::import::spec::BinaryPolicy;

    #[test]
    fn names_are_columns_and_the_rest_is_sql() {
        let known = Preset::Marten.known();
        let spec = SourceSpec {
            name: "m".into(),
            table: "events.mt_events".into(),
            columns: known.columns,
            join: known.join.map(str::to_owned),
            filter: None,
            version_base: 1,
            default_stream_type: None,
            stream_type_prefix: String::new(),
            stream_types: Default::default(),
            time_pointer: None,
            binary: BinaryPolicy::Park,
            lag: std::time::Duration::ZERO,
        };
        assert_eq!(expression(&spec, "order"), "e.\"order\"");
        assert_eq!(expression(&spec, "e.x + 1"), "(e.x + 1)");
        assert_eq!(expression(&spec, "{schema}.f(e.x)"), "(events.f(e.x))");
        assert!(from(&spec).contains("JOIN events.mt_streams s"));
    }
}
