//! Fields and conditions of a query; see [`super::query`] for their meaning.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// Steps of a property path at most: ontologies nest a few levels.
const MAX_PATH_PARTS: usize = 8;
/// Bytes of a field's text at most.
const MAX_FIELD_BYTES: usize = 500;
/// Digits of a number to compare with at most, and places by which its exponent may move the point:
/// more than any floating-point number has, far fewer than PostgreSQL's limit.
const MAX_NUMBER_DIGITS: usize = 1000;

/// Values of one `in` at most: each may cost an index probe.
pub const MAX_IN: usize = 100;

/// What a condition or a sort key refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Field {
    /// The instance's id.
    Id,
    /// Its version.
    Version,
    /// When it was created.
    CreatedAt,
    /// When it was last changed.
    UpdatedAt,
    /// A property, by path.
    Path(Vec<String>),
}

impl Field {
    /// Parses a field; the error is for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "id" => return Ok(Self::Id),
            "version" => return Ok(Self::Version),
            "created_at" => return Ok(Self::CreatedAt),
            "updated_at" => return Ok(Self::UpdatedAt),
            _ => {}
        }
        let parts: Vec<String> = text.split('.').map(str::to_owned).collect();
        if text.len() > MAX_FIELD_BYTES || parts.len() > MAX_PATH_PARTS {
            return Err(format!(
                "must have at most {MAX_FIELD_BYTES} bytes and {MAX_PATH_PARTS} parts"
            ));
        }
        if parts.iter().any(String::is_empty) || text.chars().any(char::is_control) {
            return Err("must be a property's path such as address.city".into());
        }
        Ok(Self::Path(parts))
    }
}

/// The operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Equal.
    Eq,
    /// Not equal, or the field is missing.
    Ne,
    /// Ordered comparison.
    Order(Comparison),
    /// Equal to one of several.
    In,
    /// Substring or member.
    Contains,
    /// Prefix.
    StartsWith,
    /// Whether the field exists.
    Exists,
}

/// The kinds of ordered comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Comparison {
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
}

impl Comparison {
    /// The SQL operator.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Gt => ">",
            Self::Gte => ">=",
            Self::Lt => "<",
            Self::Lte => "<=",
        }
    }
}

impl Op {
    /// Every operator with its name.
    pub const ALL: [(&'static str, Op); 10] = [
        ("eq", Op::Eq),
        ("ne", Op::Ne),
        ("gt", Op::Order(Comparison::Gt)),
        ("gte", Op::Order(Comparison::Gte)),
        ("lt", Op::Order(Comparison::Lt)),
        ("lte", Op::Order(Comparison::Lte)),
        ("in", Op::In),
        ("contains", Op::Contains),
        ("starts_with", Op::StartsWith),
        ("exists", Op::Exists),
    ];

    /// The operator with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, op)| *op)
    }
}

/// A condition on a field; its operand fits the field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Test {
    /// Equal to this value.
    Eq(Value),
    /// Not equal to this value, or the field is missing.
    Ne(Value),
    /// Ordered against this number or string.
    Order(Comparison, Value),
    /// Equal to one of these values.
    In(Vec<Value>),
    /// Contains this value as a substring or member.
    Contains(Value),
    /// Begins with this.
    StartsWith(String),
    /// Whether the field exists.
    Exists(bool),
}

impl Test {
    /// Parses an operator's operand; the error is for a person.
    pub fn parse(field: &Field, op: Op, value: Value) -> Result<Self, String> {
        if op == Op::Exists {
            return match value {
                Value::Null => Ok(Self::Exists(true)),
                Value::Bool(there) => Ok(Self::Exists(there)),
                _ => Err("must be true or false".into()),
            };
        }
        check_storable(&value)?;
        match op {
            Op::In => match value {
                Value::Array(values) if values.len() <= MAX_IN => {
                    values.iter().try_for_each(|v| check_fits(field, v))?;
                    Ok(Self::In(values))
                }
                _ => Err(format!("must be an array of at most {MAX_IN} values")),
            },
            Op::StartsWith | Op::Contains if !matches!(field, Field::Id | Field::Path(_)) => {
                Err("this field is no string and no array".into())
            }
            Op::StartsWith => match value {
                Value::String(prefix) => Ok(Self::StartsWith(prefix)),
                _ => Err("must be a string".into()),
            },
            Op::Eq | Op::Ne | Op::Contains | Op::Order(_) => {
                check_fits(field, &value)?;
                match op {
                    Op::Eq => Ok(Self::Eq(value)),
                    Op::Ne => Ok(Self::Ne(value)),
                    Op::Contains => Ok(Self::Contains(value)),
                    Op::Order(order) if value.is_number() || value.is_string() => {
                        Ok(Self::Order(order, value))
                    }
                    _ => Err("must be a number or a string".into()),
                }
            }
            Op::Exists => Err("must be true or false".into()),
        }
    }
}

/// The instance's own fields have one type each; a property may have any.
fn check_fits(field: &Field, value: &Value) -> Result<(), String> {
    match (field, value) {
        (Field::Id, Value::String(_)) | (Field::Path(_), _) => Ok(()),
        (Field::Id, _) => Err("an id is a string".into()),
        (Field::Version, Value::Number(n)) if n.as_i64().is_some() => Ok(()),
        (Field::Version, _) => Err("a version is an integer".into()),
        (Field::CreatedAt | Field::UpdatedAt, Value::String(text))
            if text.parse::<Timestamp>().is_ok() =>
        {
            Ok(())
        }
        (Field::CreatedAt | Field::UpdatedAt, _) => {
            Err("must be an RFC 3339 time such as 2026-01-31T12:00:00Z".into())
        }
    }
}

/// Refuses values that PostgreSQL cannot store, U+0000 and unbounded numbers: nothing stored can
/// match them.
fn check_storable(value: &Value) -> Result<(), String> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::String(text) => check_text(text),
        Value::Number(number) => {
            let text = number.to_string();
            let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
            let places = exponent.trim_start_matches('+').parse::<i64>();
            let fits = places.is_ok_and(|p| p.unsigned_abs() <= MAX_NUMBER_DIGITS as u64);
            if digits.len() > MAX_NUMBER_DIGITS || !fits {
                return Err(format!("numbers have at most {MAX_NUMBER_DIGITS} digits"));
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(check_storable),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            check_text(name)?;
            check_storable(value)
        }),
    }
}

fn check_text(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("must not contain U+0000".into());
    }
    Ok(())
}

/// Every operator of a filter, for the description of the API: they are read by hand.
#[cfg(feature = "openapi")]
pub(super) fn operators() -> utoipa::openapi::schema::ObjectBuilder {
    utoipa::openapi::schema::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .description(Some("How to compare."))
        .enum_values(Some(Op::ALL.map(|(name, _)| name)))
        .examples(["gte"])
}
