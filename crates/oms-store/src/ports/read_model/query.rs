//! Queries of callers, parsed and bounded before a store executes them.
//!
//! A *field* is `id`, `version`, `created_at`, `updated_at` (these names always mean the
//! instance's own), or the path of a property, `address.city`: each part enters an object, and a
//! part that is an integer also enters an array, from 0.
//!
//! The conditions:
//!
//! * Comparisons distinguish JSON's types: numbers compare as exact decimals (`1 = 1.0`), strings
//!   by their UTF-8 bytes (RFC 3339 times of one offset therefore by time), and values of different
//!   types are never equal and never ordered. Booleans, `null`, arrays and objects have equality
//!   only; objects are equal whatever the order of their members.
//! * A field that is missing matches `ne` and `exists: false` and nothing else. A field whose
//!   value is `null` is there.
//! * `contains` on a string is a substring, on an array a member; on anything else it is false.
//! * `in` is equality with any of up to [`MAX_IN`](super::field::MAX_IN) values, `starts_with` is for strings.
//!
//! A sort puts numbers before strings before booleans (`false` first) before `null` before arrays
//! before objects, reversed when descending; instances without the field come last either way.
//! Strings sort by their first [`SORT_CHARS`] characters; arrays, objects and equal values by id.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cursor::{After, Cursor, fingerprint};
use super::field::{Field, Op, Test};
use super::sort::{SortKey, SortSpec};
use oms_core::domain::ids::{ClassId, DatabaseName};
use oms_core::domain::refusal::{Refusal, Violation};

/// Filters of one query at most: far beyond what a form offers, and the SQL stays quick to plan.
pub const MAX_FILTERS: usize = 50;
/// Keys of one sort at most: each costs three terms in every comparison.
pub const MAX_SORT_KEYS: usize = 8;
/// Properties of one `select` at most.
pub const MAX_SELECT: usize = 100;
/// Items of a page at most.
pub const MAX_LIMIT: u32 = 1000;
/// Items of a page by default.
pub const DEFAULT_LIMIT: u32 = 100;
/// Characters of a string that a sort compares: they are part of the cursor.
pub const SORT_CHARS: usize = 256;

/// What to look for, as callers send it; every part may be left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = InstanceQuery))]
#[serde(deny_unknown_fields)]
pub struct QuerySpec {
    /// All filters must match.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_items = 50))]
    pub filters: Vec<FilterSpec>,
    /// Sort keys, most significant first.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_items = 8, example = json!(["-year", "title"])))]
    pub sort: Vec<SortSpec>,
    /// Properties to return, by path; all if absent.
    #[cfg_attr(feature = "openapi", schema(max_items = 100))]
    pub select: Option<Vec<String>>,
    /// Items of the page at most.
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = 1, maximum = 1000, default = 100)
    )]
    pub limit: Option<i64>,
    /// The `next_cursor` of the previous page, for the same filters and sort.
    pub cursor: Option<String>,
}

/// One condition, as callers send it.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Filter))]
#[serde(deny_unknown_fields)]
pub struct FilterSpec {
    /// The field.
    #[cfg_attr(feature = "openapi", schema(example = "year"))]
    pub field: String,
    /// The operator.
    #[cfg_attr(feature = "openapi", schema(schema_with = super::field::operators))]
    pub op: String,
    /// The operand; may be left out for `exists`, where it means `true`.
    #[serde(default)]
    pub value: Value,
}

/// A condition on a field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Filter {
    /// The field.
    pub field: Field,
    /// The condition.
    pub test: Test,
}

/// A query on the instances of a class, parsed and within bounds. The default lists them all by id.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceQuery {
    filters: Vec<Filter>,
    sort: Vec<SortKey>,
    select: Option<Vec<Vec<String>>>,
    limit: u32,
    cursor: Option<Cursor>,
}

impl Default for InstanceQuery {
    fn default() -> Self {
        Self {
            filters: Vec::new(),
            sort: Vec::new(),
            select: None,
            limit: DEFAULT_LIMIT,
            cursor: None,
        }
    }
}

impl InstanceQuery {
    /// Parses a query; all errors in it are reported together.
    pub fn parse(spec: QuerySpec) -> Result<Self, Refusal> {
        let mut wrong = Violations::default();
        wrong.at_most("filters", spec.filters.len(), MAX_FILTERS);
        wrong.at_most("sort", spec.sort.len(), MAX_SORT_KEYS);
        let selected = spec.select.as_ref().map_or(0, Vec::len);
        wrong.at_most("select", selected, MAX_SELECT);
        let filters = spec
            .filters
            .into_iter()
            .take(MAX_FILTERS)
            .enumerate()
            .filter_map(|(i, f)| wrong.filter(i, f))
            .collect();
        let sort = spec
            .sort
            .into_iter()
            .take(MAX_SORT_KEYS)
            .enumerate()
            .filter_map(|(i, s)| wrong.sort_key(i, s))
            .collect();
        let select = spec.select.map(|paths| {
            paths
                .iter()
                .take(MAX_SELECT)
                .enumerate()
                .filter_map(
                    |(i, path)| match wrong.field(format!("select[{i}]"), path)? {
                        Field::Path(parts) => Some(parts),
                        // `id` and the times are always returned.
                        _ => None,
                    },
                )
                .collect()
        });
        let limit = wrong.limit(spec.limit);
        wrong.done()?;
        let cursor = spec.cursor.as_deref().map(Cursor::decode).transpose()?;
        Ok(Self {
            filters,
            sort,
            select,
            limit,
            cursor,
        })
    }

    /// A plain list of a class's instances: `sort` is a comma-separated list of fields, each with
    /// `-` before it for descending order.
    pub fn list(
        sort: Option<&str>,
        limit: Option<i64>,
        cursor: Option<String>,
    ) -> Result<Self, Refusal> {
        let sort = sort
            .into_iter()
            .flat_map(|s| s.split(','))
            .map(|s| SortSpec::Short(s.trim().to_owned()))
            .collect();
        Self::parse(QuerySpec {
            sort,
            limit,
            cursor,
            ..QuerySpec::default()
        })
    }

    /// The query on one class. A cursor of another class or another query is refused with
    /// `invalid_cursor`.
    pub fn bind(&self, db: &DatabaseName, class: &ClassId) -> Result<ClassQuery, Refusal> {
        let fingerprint = fingerprint(&(db, class, &self.filters, &self.sort));
        let after = self
            .cursor
            .as_ref()
            .map(|c| c.verify(fingerprint, &self.sort))
            .transpose()?;
        Ok(ClassQuery {
            db: db.clone(),
            class: class.clone(),
            filters: self.filters.clone(),
            sort: self.sort.clone(),
            select: self.select.clone(),
            limit: self.limit,
            after,
            fingerprint,
        })
    }
}

/// A query on the instances of one class, with the end of the previous page.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassQuery {
    /// The database.
    pub db: DatabaseName,
    /// The class.
    pub class: ClassId,
    /// All filters must match.
    pub filters: Vec<Filter>,
    /// Sort keys, most significant first; id is always the last key.
    pub sort: Vec<SortKey>,
    /// Properties to return, by path; all if absent.
    pub select: Option<Vec<Vec<String>>>,
    /// Items of the page at most.
    pub limit: u32,
    /// The end of the previous page.
    pub after: Option<After>,
    pub(crate) fingerprint: u64,
}

impl ClassQuery {
    /// The cursor right after an item. It carries `total`, so that only the first page counts.
    pub fn cursor(&self, keys: Vec<String>, id: String, total: u64) -> String {
        Cursor::new(self.fingerprint, keys, id, Some(total)).encode()
    }

    /// The selected part of an instance's data.
    pub fn project(&self, data: Value) -> Value {
        let (Some(paths), Value::Object(data)) = (&self.select, &data) else {
            return data;
        };
        let mut out = Map::new();
        for path in paths {
            copy_path(data, path, &mut out);
        }
        Value::Object(out)
    }
}

fn copy_path(from: &Map<String, Value>, path: &[String], to: &mut Map<String, Value>) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let Some(value) = from.get(first) else {
        return;
    };
    match value {
        _ if rest.is_empty() => {
            to.insert(first.clone(), value.clone());
        }
        Value::Object(inner) => {
            let entry = to
                .entry(first.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(target) = entry {
                copy_path(inner, rest, target);
            }
        }
        _ => {}
    }
}

/// A page of databases, or of the classes of a database, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Items of the page at most.
    pub limit: u32,
    /// The last name of the previous page.
    pub after: Option<String>,
    fingerprint: u64,
}

impl ListQuery {
    /// A page of the databases.
    pub fn databases(limit: Option<i64>, cursor: Option<&str>) -> Result<Self, Refusal> {
        Self::parse(fingerprint(&"databases"), limit, cursor)
    }

    /// A page of the classes of `db`.
    pub fn classes(
        db: &DatabaseName,
        limit: Option<i64>,
        cursor: Option<&str>,
    ) -> Result<Self, Refusal> {
        Self::parse(fingerprint(&("classes", db)), limit, cursor)
    }

    fn parse(fingerprint: u64, limit: Option<i64>, cursor: Option<&str>) -> Result<Self, Refusal> {
        let mut wrong = Violations::default();
        let limit = wrong.limit(limit);
        wrong.done()?;
        let after = cursor
            .map(|text| Cursor::decode(text)?.verify(fingerprint, &[]))
            .transpose()?;
        Ok(Self {
            limit,
            after: after.map(|a| a.id),
            fingerprint,
        })
    }

    /// The cursor right after an item.
    pub fn cursor(&self, name: String) -> String {
        Cursor::new(self.fingerprint, Vec::new(), name, None).encode()
    }
}

/// The errors found so far.
#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn push(&mut self, field: impl Into<String>, code: &'static str, message: impl Into<String>) {
        self.0.push(Violation {
            field: field.into(),
            code,
            message: message.into(),
        });
    }

    fn at_most(&mut self, field: &str, given: usize, most: usize) {
        if given > most {
            self.push(field, "max_items", format!("at most {most}, found {given}"));
        }
    }

    fn limit(&mut self, given: Option<i64>) -> u32 {
        let limit = given.unwrap_or(i64::from(DEFAULT_LIMIT));
        match u32::try_from(limit) {
            Ok(limit @ 1..=MAX_LIMIT) => limit,
            _ => {
                self.push("limit", "range", format!("must be 1 to {MAX_LIMIT}"));
                DEFAULT_LIMIT
            }
        }
    }

    fn field(&mut self, at: String, text: &str) -> Option<Field> {
        match Field::parse(text) {
            Ok(field) => Some(field),
            Err(message) => {
                self.push(at, "field", message);
                None
            }
        }
    }

    fn filter(&mut self, i: usize, spec: FilterSpec) -> Option<Filter> {
        let field = self.field(format!("filters[{i}].field"), &spec.field);
        let Some(op) = Op::parse(&spec.op) else {
            let known: Vec<&str> = Op::ALL.iter().map(|(name, _)| *name).collect();
            let message = format!("must be one of {}", known.join(", "));
            self.push(format!("filters[{i}].op"), "enum", message);
            return None;
        };
        let field = field?;
        match Test::parse(&field, op, spec.value) {
            Ok(test) => Some(Filter { field, test }),
            Err(message) => {
                self.push(format!("filters[{i}].value"), "type", message);
                None
            }
        }
    }

    fn sort_key(&mut self, i: usize, spec: SortSpec) -> Option<SortKey> {
        let (text, descending) = match &spec {
            SortSpec::Short(text) => match text.strip_prefix('-') {
                Some(rest) => (rest, true),
                None => (text.as_str(), false),
            },
            SortSpec::Full(key) => (key.field.as_str(), key.descending),
        };
        let field = self.field(format!("sort[{i}]"), text)?;
        Some(SortKey { field, descending })
    }

    fn done(self) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Refusal::violations(self.0))
    }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
