//! Queries on instances as SQL, with the meaning defined in [`crate::ports::read_model::query`];
//! integration tests compare the two.

use serde_json::{Map, Value};

use super::sql::{Param, Sql, system_time, table};
use crate::ports::read_model::Generation;
use crate::ports::read_model::cursor::{After, Term, micros, terms};
use crate::ports::read_model::field::{Comparison, Field, Test};
use crate::ports::read_model::query::{ClassQuery, Filter, SORT_CHARS};
use crate::ports::read_model::sort::SortKey;

/// Columns before the sort terms in the rows of a page.
pub(super) const FIXED_COLUMNS: usize = 5;

/// With no more matches than this, and an index that finds them, fetching and sorting all takes a
/// few milliseconds; with more, walking the class by id fills a page as fast. The planner cannot
/// know: it has no statistics for documents of this size.
const FEW: u64 = 2_000;

/// A page: `limit` + 1 rows of id, version, data, times and the sort terms as text. The row beyond
/// the limit only shows that there is more.
///
/// `total` is how many match.
pub(super) fn page(generation: Generation, query: &ClassQuery, total: u64) -> Sql {
    let mut sql = Sql::default();
    let keys: Vec<(SortKey, Vec<String>)> = query
        .sort
        .iter()
        .map(|key| (key.clone(), term_expressions(&mut sql, key)))
        .collect();
    // All rows are sorted but few returned: what only these need is computed in the outer query.
    let (mut inner, mut outer) = (String::new(), String::new());
    let (mut inner_order, mut outer_order) = (String::new(), String::new());
    let mut columns = 0;
    for (key, expressions) in &keys {
        let direction = direction(key);
        for (term, expression) in terms(&key.field).iter().zip(expressions) {
            let column = format!("k{columns}");
            columns += 1;
            inner.push_str(&format!(", {expression} AS {column}"));
            outer.push_str(&match term {
                Term::Micros => {
                    format!(", (extract(epoch FROM p.{column}) * 1000000)::bigint::text")
                }
                _ => format!(", p.{column}::text"),
            });
            inner_order.push_str(&format!("{expression} {direction}, "));
            outer_order.push_str(&format!("p.{column} {direction}, "));
        }
    }
    sql.push(&format!(
        "SELECT p.id, p.version, p.data::text, p.created_at, p.updated_at{outer} FROM (\
         SELECT i.id, i.version, i.data, i.created_at, i.updated_at{inner}"
    ));
    matching(&mut sql, generation, query);
    if let Some(after) = &query.after {
        let beyond = beyond(&mut sql, &keys, after);
        sql.push(&format!(" AND ({beyond})"));
    }
    let limit = sql.param(Param::Int(i64::from(query.limit) + 1));
    let by_index = total <= FEW && query.filters.iter().any(is_indexed);
    // An expression keeps the planner from using the order of the primary key.
    let id = if by_index { "(i.id || '')" } else { "i.id" };
    sql.push(&format!(
        " ORDER BY {inner_order}{id} LIMIT {limit}) p ORDER BY {outer_order}p.id"
    ));
    sql
}

/// Counts all matches.
pub(super) fn count(generation: Generation, query: &ClassQuery) -> Sql {
    let mut sql = Sql::default();
    sql.push("SELECT count(*)");
    matching(&mut sql, generation, query);
    sql
}

fn matching(sql: &mut Sql, generation: Generation, query: &ClassQuery) {
    let (db, class) = (sql.text(query.db.as_str()), sql.text(query.class.as_str()));
    sql.push(&format!(
        " FROM {} i WHERE i.db = {db} AND i.class = {class} AND i.data IS NOT NULL \
         AND i.parent = ({})",
        table(generation, "instances"),
        class_incarnation(generation, &db, &class),
    ));
    for filter in &query.filters {
        let condition = condition(sql, filter);
        sql.push(&format!(" AND {condition}"));
    }
}

/// The incarnation of an existing class of an existing database; otherwise no row.
pub(super) fn class_incarnation(generation: Generation, db: &str, class: &str) -> String {
    format!(
        "SELECT c.incarnation FROM {} c JOIN {} d ON d.name = c.db AND d.incarnation = c.parent \
         WHERE c.db = {db} AND c.id = {class} AND c.data IS NOT NULL AND d.data IS NOT NULL",
        table(generation, "classes"),
        table(generation, "databases"),
    )
}

fn condition(sql: &mut Sql, filter: &Filter) -> String {
    match &filter.field {
        Field::Path(path) => property(sql, path, filter),
        Field::Id => own(sql, "i.id", &filter.test, |value| match value {
            Value::String(text) => Some(Param::Text(text.clone())),
            _ => None,
        }),
        Field::Version => own(sql, "i.version", &filter.test, |value| {
            value.as_i64().map(Param::Int)
        }),
        Field::CreatedAt => own(sql, "i.created_at", &filter.test, time),
        Field::UpdatedAt => own(sql, "i.updated_at", &filter.test, time),
    }
}

fn time(value: &Value) -> Option<Param> {
    let time: jiff::Timestamp = value.as_str()?.parse().ok()?;
    Some(Param::Time(system_time(time)))
}

/// A condition on a column. It is never NULL, and its values have one type, which `param` makes;
/// values of another type are refused by parsing and would equal nothing.
fn own(
    sql: &mut Sql,
    column: &str,
    test: &Test,
    param: impl Fn(&Value) -> Option<Param>,
) -> String {
    let mut against = |operator: &str, value: &Value, otherwise: &str| match param(value) {
        Some(value) => format!("{column} {operator} {}", sql.param(value)),
        None => otherwise.to_owned(),
    };
    match test {
        Test::Eq(value) => against("=", value, "false"),
        Test::Ne(value) => against("<>", value, "true"),
        Test::Order(order, value) => against(order.sql(), value, "false"),
        Test::In(values) => any_of(values.iter().map(|value| against("=", value, "false"))),
        Test::Contains(Value::String(part)) => format!("strpos({column}, {}) > 0", sql.text(part)),
        Test::Contains(_) => "false".to_owned(),
        Test::StartsWith(prefix) => format!("starts_with({column}, {})", sql.text(prefix)),
        Test::Exists(there) => there.to_string(),
    }
}

fn any_of(conditions: impl Iterator<Item = String>) -> String {
    let conditions: Vec<String> = conditions.collect();
    if conditions.is_empty() {
        return "false".to_owned();
    }
    format!("({})", conditions.join(" OR "))
}

/// Whether the index can find the matches: equality with scalars, and membership in a list of them,
/// at a path that jsonb containment can express. It cannot express that a string contains another.
fn is_indexed(filter: &Filter) -> bool {
    let Field::Path(path) = &filter.field else {
        return false;
    };
    walks_objects(path)
        && match &filter.test {
            Test::Eq(value) => is_scalar(value),
            Test::In(values) => values.iter().all(is_scalar),
            Test::Contains(value) => is_scalar(value) && !value.is_string(),
            _ => false,
        }
}

fn property(sql: &mut Sql, path: &[String], filter: &Filter) -> String {
    let mut contains = |value: Value| {
        let document = sql.param(Param::Json(nest(path, value)));
        format!("i.data @> {document}")
    };
    match &filter.test {
        Test::Eq(value) if is_indexed(filter) => contains(value.clone()),
        Test::In(values) if is_indexed(filter) => {
            any_of(values.iter().map(|value| contains(value.clone())))
        }
        Test::Contains(value) if is_indexed(filter) => contains(Value::Array(vec![value.clone()])),
        test => {
            let at = sql.param(Param::Texts(path.to_vec()));
            let field = format!("(i.data #> {at})");
            unindexed(sql, &field, test)
        }
    }
}

fn unindexed(sql: &mut Sql, field: &str, test: &Test) -> String {
    let is = |kind: &str| format!("jsonb_typeof{field} = '{kind}'");
    match test {
        Test::Eq(value) => format!("{field} = {}", sql.param(Param::Json(value.clone()))),
        Test::Ne(value) => {
            let value = sql.param(Param::Json(value.clone()));
            format!("{field} IS DISTINCT FROM {value}")
        }
        Test::In(values) => {
            format!("{field} = ANY({})", sql.param(Param::Jsons(values.clone())))
        }
        Test::Order(order, Value::String(text)) => {
            let text = sql.text(text);
            ordered(
                &is("string"),
                &format!("({field} #>> '{{}}') COLLATE \"C\""),
                *order,
                &text,
            )
        }
        Test::Order(order, number) => {
            // Among numbers, jsonb compares exact decimals.
            let number = sql.param(Param::Json(number.clone()));
            ordered(&is("number"), field, *order, &number)
        }
        Test::Contains(Value::String(text)) => {
            let text = sql.text(text);
            format!(
                "CASE jsonb_typeof{field} WHEN 'string' THEN strpos({field} #>> '{{}}', {text}) > 0 \
                 WHEN 'array' THEN jsonb_exists({field}, {text}) ELSE false END"
            )
        }
        Test::Contains(value) => {
            let value = sql.param(Param::Json(value.clone()));
            format!(
                "EXISTS (SELECT FROM jsonb_array_elements(CASE jsonb_typeof{field} \
                 WHEN 'array' THEN {field} ELSE '[]' END) e WHERE e = {value})"
            )
        }
        Test::StartsWith(prefix) => {
            let prefix = sql.text(prefix);
            format!(
                "({} AND starts_with({field} #>> '{{}}', {prefix}))",
                is("string")
            )
        }
        Test::Exists(true) => format!("{field} IS NOT NULL"),
        Test::Exists(false) => format!("{field} IS NULL"),
    }
}

fn ordered(guard: &str, left: &str, order: Comparison, right: &str) -> String {
    format!("({guard} AND {left} {} {right})", order.sql())
}

/// The smallest document that has `value` at `path`.
fn nest(path: &[String], value: Value) -> Value {
    path.iter().rev().fold(value, |inner, part| {
        Value::Object(Map::from_iter([(part.clone(), inner)]))
    })
}

/// Containment means equality only for scalars; for arrays and objects it also matches a part.
fn is_scalar(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

/// Whether no step of the path could be an index of an array, which containment cannot express.
fn walks_objects(path: &[String]) -> bool {
    let may_be_integer = |part: &String| {
        let unsigned = part.trim_start().trim_start_matches(['+', '-']);
        unsigned.starts_with(|c: char| c.is_ascii_digit())
    };
    !path.iter().any(may_be_integer)
}

/// The expressions for a sort key; none is ever NULL.
fn term_expressions(sql: &mut Sql, key: &SortKey) -> Vec<String> {
    let path = match &key.field {
        Field::Id => return vec!["i.id".into()],
        Field::Version => return vec!["i.version".into()],
        Field::CreatedAt => return vec!["i.created_at".into()],
        Field::UpdatedAt => return vec!["i.updated_at".into()],
        Field::Path(path) => path,
    };
    let at = sql.param(Param::Texts(path.clone()));
    let field = format!("(i.data #> {at})");
    // Rows without the field come last in either direction.
    let missing = if key.descending { -1 } else { 9 };
    vec![
        format!(
            "CASE jsonb_typeof{field} WHEN 'number' THEN 1 WHEN 'string' THEN 2 \
             WHEN 'boolean' THEN 3 WHEN 'null' THEN 4 WHEN 'array' THEN 5 WHEN 'object' THEN 6 \
             ELSE {missing} END"
        ),
        format!("CASE jsonb_typeof{field} WHEN 'number' THEN {field}::numeric ELSE 0 END"),
        format!(
            "(CASE jsonb_typeof{field} WHEN 'string' THEN left({field} #>> '{{}}', {SORT_CHARS}) \
             WHEN 'boolean' THEN {field} #>> '{{}}' ELSE '' END) COLLATE \"C\""
        ),
    ]
}

fn direction(key: &SortKey) -> &'static str {
    if key.descending { "DESC" } else { "ASC" }
}

/// The condition for rows after the end of the previous page: `a > $1 OR (a = $1 AND (b > $2 OR
/// …))`, id last.
fn beyond(sql: &mut Sql, keys: &[(SortKey, Vec<String>)], after: &After) -> String {
    let mut steps = Vec::new();
    let mut values = after.keys.iter();
    for (key, expressions) in keys {
        let operator = if key.descending { "<" } else { ">" };
        let typed = terms(&key.field).iter().zip(expressions).zip(&mut values);
        for ((term, expression), value) in typed {
            let value = match (term, micros(value)) {
                (Term::Micros, Some(time)) => sql.param(Param::Time(system_time(time))),
                (Term::Rank, _) => format!("{}::int", sql.text(value)),
                (Term::Integer, _) => format!("{}::bigint", sql.text(value)),
                (Term::Number, _) => format!("{}::numeric", sql.text(value)),
                (Term::Text | Term::Micros, _) => sql.text(value),
            };
            steps.push((expression.clone(), operator, value));
        }
    }
    let last = sql.text(&after.id);
    steps
        .into_iter()
        .rev()
        .fold(format!("i.id > {last}"), |rest, (left, operator, value)| {
            format!("{left} {operator} {value} OR ({left} = {value} AND ({rest}))")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::read_model::InstanceQuery;
    use oms_core::domain::ids::{ClassId, DatabaseName};
    use serde_json::json;

    fn bound(spec: Value) -> ClassQuery {
        InstanceQuery::parse(serde_json::from_value(spec).unwrap())
            .unwrap()
            .bind(
                &DatabaseName::new("films").unwrap(),
                &ClassId::new("Film").unwrap(),
            )
            .unwrap()
    }

    fn filter(field: &str, op: &str, value: Value) -> String {
        let query = bound(json!({"filters": [{"field": field, "op": op, "value": value}]}));
        condition(&mut Sql::default(), &query.filters[0])
    }

    #[test]
    fn equality_and_membership_can_use_the_index() {
        for (op, value) in [
            ("eq", json!("x")),
            ("eq", json!(1)),
            ("eq", json!(null)),
            ("contains", json!(1)),
        ] {
            assert_eq!(filter("a.b", op, value), "i.data @> $1");
        }
        assert_eq!(
            filter("a", "in", json!([1, "x"])),
            "(i.data @> $1 OR i.data @> $2)"
        );
        assert_eq!(filter("a", "in", json!([])), "false");
        // A number in a path may be a place in an array, and parts are not the whole.
        assert_eq!(filter("a.0", "eq", json!(1)), "(i.data #> $1) = $2");
        assert_eq!(filter("a", "eq", json!([1])), "(i.data #> $1) = $2");
        assert_eq!(
            nest(&["a".into(), "b".into()], json!([1])),
            json!({"a": {"b": [1]}})
        );
    }

    #[test]
    fn nothing_a_caller_sends_becomes_sql() {
        let evil = "x'); DROP TABLE instances; --\" $1";
        let ops = ["eq", "ne", "gt", "in", "contains", "starts_with"];
        let filters: Vec<Value> = ops
            .iter()
            .flat_map(|op| [(evil, op), ("id", op)])
            .map(|(field, op)| {
                let value = if *op == "in" {
                    json!([evil])
                } else {
                    json!(evil)
                };
                json!({"field": field, "op": op, "value": value})
            })
            .collect();
        let spec = json!({"filters": filters, "sort": [evil, format!("-{evil}")]});
        let first = bound(spec.clone());
        let keys = ["2", "0", evil, "2", "0", evil].map(str::to_owned).to_vec();
        let cursor = first.cursor(keys, evil.into(), 1);
        let mut spec = spec;
        spec["cursor"] = json!(cursor);
        let sql = page(Generation(3), &bound(spec), 9000);
        assert!(!sql.text.contains("DROP"), "{}", sql.text);
        let carried = |p: &&Param| format!("{p:?}").contains("DROP TABLE");
        assert!(sql.params.iter().filter(carried).count() >= 20);
    }

    #[test]
    fn pages_go_on_after_the_last_row_in_every_direction() {
        let mut spec = json!({"sort": ["-version", "id", "created_at"], "limit": 2});
        let keys = ["7", "a", "1500000"].map(str::to_owned).to_vec();
        spec["cursor"] = json!(bound(spec.clone()).cursor(keys, "a".into(), 9));
        let sql = page(Generation(1), &bound(spec), 1).text;
        assert!(sql.contains(
            "AND (i.version < $3::bigint OR (i.version = $3::bigint AND \
             (i.id > $4 OR (i.id = $4 AND ("
        ));
        assert!(sql.ends_with(
            " ORDER BY i.version DESC, i.id ASC, i.created_at ASC, i.id LIMIT $7) p \
             ORDER BY p.k0 DESC, p.k1 ASC, p.k2 ASC, p.id"
        ));
    }
}
