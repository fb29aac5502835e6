//! A statement under construction. Callers' values always become parameters; the only names
//! inserted into the text are those of a generation's tables.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};

use crate::ports::read_model::Generation;

/// A parameter of a statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Param {
    Text(String),
    Texts(Vec<String>),
    Int(i64),
    Json(Value),
    Jsons(Vec<Value>),
    Time(SystemTime),
}

impl Param {
    pub fn as_sql(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(v) => (v, Type::TEXT),
            Self::Texts(v) => (v, Type::TEXT_ARRAY),
            Self::Int(v) => (v, Type::INT8),
            Self::Json(v) => (v, Type::JSONB),
            Self::Jsons(v) => (v, Type::JSONB_ARRAY),
            Self::Time(v) => (v, Type::TIMESTAMPTZ),
        }
    }
}

/// The text and parameters so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Sql {
    pub text: String,
    pub params: Vec<Param>,
}

impl Sql {
    /// Appends text, which must not come from a caller.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds a parameter; returns its placeholder, which may be used more than once.
    pub fn param(&mut self, value: Param) -> String {
        self.params.push(value);
        format!("${}", self.params.len())
    }

    /// Adds a string parameter; returns its placeholder.
    pub fn text(&mut self, value: &str) -> String {
        self.param(Param::Text(value.to_owned()))
    }
}

/// The name of a generation's table.
pub(super) fn table(generation: Generation, name: &'static str) -> String {
    format!("rm_{}_{name}", generation.0)
}

/// A time in the driver's type, with the microseconds that PostgreSQL stores.
pub(super) fn system_time(time: Timestamp) -> SystemTime {
    let micros = time.as_microsecond();
    let distance = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 {
        SystemTime::UNIX_EPOCH - distance
    } else {
        SystemTime::UNIX_EPOCH + distance
    }
}
