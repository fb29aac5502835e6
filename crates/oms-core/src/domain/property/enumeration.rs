//! The property type `enum`.

use hashbrown::HashSet;
use serde_json::Value;

use super::check::{Path, Report, Shown};
use super::compile::{Constraints, MAX_LIST};
use super::decimal::{Decimal, Limit};

/// Values listed in a message at most.
const SHOWN_VALUES: usize = 10;

/// The values of an `enum`: strings, numbers and booleans, in any mixture.
#[derive(Debug, Clone, Default)]
pub struct EnumType {
    strings: HashSet<Box<str>>,
    /// Sorted, for binary search.
    numbers: Vec<Limit>,
    booleans: Vec<bool>,
    shown: String,
}

impl EnumType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        let mut this = Self::default();
        let Some((_, given)) = c.take("values") else {
            c.fault(
                "values",
                "required",
                format_args!("an enum lists its values"),
            );
            return this;
        };
        let values = given.as_array().map(Vec::as_slice).unwrap_or_default();
        if !(1..=MAX_LIST).contains(&values.len()) {
            let message = format_args!("must be a list of 1 to {MAX_LIST} values");
            c.fault("values", "type", message);
            return this;
        }
        for value in values {
            match this.add(value) {
                Ok(true) => {}
                Ok(false) => {
                    let shown = value.to_string();
                    let message = format_args!("`{}` is listed twice", Shown(&shown));
                    c.fault("values", "duplicate", message);
                }
                Err(what) => c.fault("values", "type", format_args!("{what}")),
            }
        }
        let mut shown: Vec<String> = values
            .iter()
            .take(SHOWN_VALUES)
            .map(|v| Shown(&v.to_string()).to_string())
            .collect();
        if values.len() > SHOWN_VALUES {
            shown.push("…".to_owned());
        }
        this.shown = shown.join(", ");
        this
    }

    /// Adds a value; `false` if it is there already.
    fn add(&mut self, value: &Value) -> Result<bool, &'static str> {
        if self.contains(value) {
            return Ok(false);
        }
        match value {
            Value::String(text) if text.contains('\0') => {
                return Err("a value must not contain the character U+0000");
            }
            Value::String(text) => {
                self.strings.insert(text.as_str().into());
            }
            Value::Number(number) => {
                let number = Limit::parse(number.as_str()).ok_or("a number is out of range")?;
                let place = self.place_of(number.get()).unwrap_or_else(|place| place);
                self.numbers.insert(place, number);
            }
            Value::Bool(value) => self.booleans.push(*value),
            _ => return Err("values must be strings, numbers or booleans"),
        }
        Ok(true)
    }

    fn place_of(&self, number: Decimal<'_>) -> Result<usize, usize> {
        self.numbers.binary_search_by(|n| n.get().cmp(&number))
    }

    fn contains(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.strings.contains(text.as_str()),
            Value::Number(number) => {
                Decimal::parse(number.as_str()).is_some_and(|number| self.place_of(number).is_ok())
            }
            Value::Bool(value) => self.booleans.contains(value),
            _ => false,
        }
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        if !self.contains(value) {
            let message = format_args!("must be one of {}", self.shown);
            report.add(at, "values", message);
        }
    }
}
