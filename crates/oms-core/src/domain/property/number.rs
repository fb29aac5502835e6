//! The property types `integer` and `number`.

use serde_json::Value;

use super::check::{Path, Report, Shown};
use super::compile::Constraints;
use super::decimal::{Decimal, Divisor, Limit, MAX_DIGITS};

/// Constraints of an `integer` or a `number`.
#[derive(Debug, Clone)]
pub struct NumberType {
    integer: bool,
    min: Option<Limit>,
    max: Option<Limit>,
    exclusive_min: Option<Limit>,
    exclusive_max: Option<Limit>,
    multiple_of: Option<Divisor>,
    precision: Option<u64>,
}

impl NumberType {
    pub(super) fn compile(c: &mut Constraints<'_>, integer: bool) -> Self {
        let this = Self {
            integer,
            min: c.number("min"),
            max: c.number("max"),
            exclusive_min: c.number("exclusive_min"),
            exclusive_max: c.number("exclusive_max"),
            multiple_of: c.parsed(
                "multiple_of",
                "a number above 0 of at most 18 digits",
                |v| match v {
                    Value::Number(number) => Divisor::parse(number.as_str()),
                    _ => None,
                },
            ),
            precision: if integer { None } else { c.count("precision") },
        };
        let (min, max) = (this.min.as_ref(), this.max.as_ref());
        let exclusive = (this.exclusive_min.as_ref(), this.exclusive_max.as_ref());
        c.in_order(("min", min), ("max", max));
        c.in_order(
            ("exclusive_min", exclusive.0),
            ("exclusive_max", exclusive.1),
        );
        c.in_order(("min", min), ("exclusive_max", exclusive.1));
        c.in_order(("exclusive_min", exclusive.0), ("max", max));
        this
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        let Value::Number(number) = value else {
            let expected = if self.integer {
                "an integer"
            } else {
                "a number"
            };
            return report.wrong_type(at, expected, value);
        };
        let text = number.as_str();
        if self.integer && text.contains(['.', 'e', 'E']) {
            // Typed readers refuse `1.0` and `1e3` as integers, and numbers are stored as given.
            let message = format_args!("must be an integer, without fraction or exponent");
            return report.add(at, "type", message);
        }
        let Some(number) = parse_in_range(text, at, report) else {
            return;
        };
        if let Some(min) = &self.min
            && number < min.get()
        {
            report.add(at, "min", format_args!("must be at least {min}"));
        }
        if let Some(max) = &self.max
            && number > max.get()
        {
            report.add(at, "max", format_args!("must be at most {max}"));
        }
        if let Some(min) = &self.exclusive_min
            && number <= min.get()
        {
            report.add(at, "exclusive_min", format_args!("must be above {min}"));
        }
        if let Some(max) = &self.exclusive_max
            && number >= max.get()
        {
            report.add(at, "exclusive_max", format_args!("must be below {max}"));
        }
        if let Some(divisor) = &self.multiple_of
            && !divisor.divides(number)
        {
            let message = format_args!("must be a multiple of {divisor}");
            report.add(at, "multiple_of", message);
        }
        if let Some(places) = self.precision
            && number.decimal_places() as u64 > places
        {
            let message = format_args!("must have at most {places} decimal places");
            report.add(at, "precision", message);
        }
    }
}

/// Parses a JSON number; reports one that is out of range.
pub(super) fn parse_in_range<'a>(
    text: &'a str,
    at: &Path<'_>,
    report: &mut Report,
) -> Option<Decimal<'a>> {
    let number = Decimal::parse(text);
    if number.is_none() {
        let shown = Shown(text);
        let message = format_args!("{shown} is out of range: at most {MAX_DIGITS} digits");
        report.add(at, "range", message);
    }
    number
}
