//! The property types `date` and `datetime`.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use super::check::{Path, Report, Shown};
use super::compile::Constraints;

/// Longest text of a date or a time: with nine digits of a second and an offset.
const MAX_TIME_BYTES: usize = 35;

/// Constraints of a `date`.
#[derive(Debug, Clone)]
pub struct DateType(Span<Date>);

/// Constraints of a `datetime`.
#[derive(Debug, Clone)]
pub struct DateTimeType(Span<Timestamp>);

const DATE: &str = "a date (YYYY-MM-DD)";
const DATETIME: &str = "an RFC 3339 time with its offset, such as 2026-01-31T08:00:00Z";

impl DateType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        Self(Span::compile(c, DATE, parse_date))
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        self.0.check(value, DATE, parse_date, at, report);
    }
}

impl DateTimeType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        Self(Span::compile(c, DATETIME, parse_datetime))
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        self.0.check(value, DATETIME, parse_datetime, at, report);
    }
}

/// The allowed range, both ends included.
#[derive(Debug, Clone)]
struct Span<T> {
    min: Option<T>,
    max: Option<T>,
}

impl<T: Ord + fmt::Display> Span<T> {
    fn compile(c: &mut Constraints<'_>, what: &str, parse: fn(&str) -> Option<T>) -> Self {
        let this = Self {
            min: c.parsed("min", what, |v| parse(v.as_str()?)),
            max: c.parsed("max", what, |v| parse(v.as_str()?)),
        };
        c.in_order(("min", this.min.as_ref()), ("max", this.max.as_ref()));
        this
    }

    fn check(
        &self,
        value: &Value,
        what: &str,
        parse: fn(&str) -> Option<T>,
        at: &Path<'_>,
        report: &mut Report,
    ) {
        let Some(text) = value.as_str() else {
            return report.wrong_type(at, what, value);
        };
        let Some(time) = parse(text) else {
            let message = format_args!("`{}` is not {what}", Shown(text));
            return report.add(at, "type", message);
        };
        if let Some(min) = &self.min
            && time < *min
        {
            report.add(at, "min", format_args!("must not be before {min}"));
        }
        if let Some(max) = &self.max
            && time > *max
        {
            report.add(at, "max", format_args!("must not be after {max}"));
        }
    }
}

/// Parses `YYYY-MM-DD`; refuses days that the calendar does not have.
pub(super) fn parse_date(text: &str) -> Option<Date> {
    if !has_shape(text.as_bytes(), b"dddd-dd-dd") {
        return None;
    }
    text.parse().ok()
}

/// Parses RFC 3339 with its offset. The general parser accepts more forms, so the shape is checked
/// first.
pub(super) fn parse_datetime(text: &str) -> Option<Timestamp> {
    if text.len() > MAX_TIME_BYTES || !text.is_ascii() {
        return None;
    }
    let (main, rest) = text.as_bytes().split_at_checked(19)?;
    if !has_shape(&main[..10], b"dddd-dd-dd")
        || !matches!(main[10], b'T' | b't')
        || !has_shape(&main[11..], b"dd:dd:dd")
    {
        return None;
    }
    let offset = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            &fraction[digits..]
        }
        None => rest,
    };
    let zulu = matches!(offset, b"Z" | b"z");
    let numeric = has_shape(offset, b"+dd:dd") || has_shape(offset, b"-dd:dd");
    let within_a_day = || &offset[1..3] < b"24".as_slice();
    if !(zulu || numeric && within_a_day()) {
        return None;
    }
    text.parse().ok()
}

/// Whether `text` has the form `shape`, where `d` is any digit.
fn has_shape(text: &[u8], shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape).all(|(byte, wanted)| match wanted {
            b'd' => byte.is_ascii_digit(),
            _ => byte == wanted,
        })
}
