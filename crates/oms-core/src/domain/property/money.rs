//! The property type `money`: `"123.45 USD"` or `{"amount": 123.45, "currency": "USD"}`.

use hashbrown::HashSet;
use serde_json::{Map, Value};

use super::check::{Path, Report, Shown};
use super::compile::Constraints;
use super::decimal::{Decimal, Limit};

/// Decimal places of an amount unless the class says otherwise: those of most currencies.
const DEFAULT_DECIMAL_PLACES: u64 = 2;

const MONEY: &str = r#"money ("123.45 USD" or {"amount": 123.45, "currency": "USD"})"#;

/// Constraints of `money`.
#[derive(Debug, Clone)]
pub struct MoneyType {
    min_amount: Option<Limit>,
    max_amount: Option<Limit>,
    allowed_currencies: Option<HashSet<Box<str>>>,
    decimal_places: u64,
}

impl MoneyType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        let currency = |v: &Value| v.as_str().filter(|s| is_currency(s)).map(Box::from);
        let this = Self {
            min_amount: c.number("min_amount"),
            max_amount: c.number("max_amount"),
            allowed_currencies: c
                .list("allowed_currencies", "a code such as USD", currency)
                .map(|list| list.into_iter().collect()),
            decimal_places: c.count("decimal_places").unwrap_or(DEFAULT_DECIMAL_PLACES),
        };
        let (min, max) = (this.min_amount.as_ref(), this.max_amount.as_ref());
        c.in_order(("min_amount", min), ("max_amount", max));
        this
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        match value {
            Value::String(text) => match text.split_once(' ') {
                Some((amount, currency)) => {
                    self.check_amount(amount, at, report);
                    self.check_currency(currency, at, report);
                }
                None => {
                    let message = format_args!("`{}` is not {MONEY}", Shown(text));
                    report.add(at, "type", message);
                }
            },
            Value::Object(object) => self.check_object(object, at, report),
            _ => report.wrong_type(at, MONEY, value),
        }
    }

    fn check_object(&self, object: &Map<String, Value>, at: &Path<'_>, report: &mut Report) {
        for (key, value) in object {
            let at = at.key(key);
            match (key.as_str(), value) {
                ("amount", Value::Number(number)) => {
                    self.check_amount(number.as_str(), &at, report);
                }
                ("amount", Value::String(text)) => self.check_amount(text, &at, report),
                ("amount", _) => report.wrong_type(&at, "a number or a string", value),
                ("currency", Value::String(code)) => self.check_currency(code, &at, report),
                ("currency", _) => report.wrong_type(&at, "a code such as USD", value),
                _ => report.add(
                    &at,
                    "unknown_property",
                    format_args!("money has `amount` and `currency`"),
                ),
            }
        }
        for part in ["amount", "currency"] {
            if !object.contains_key(part) {
                report.add(&at.key(part), "required", format_args!("is required"));
            }
        }
    }

    fn check_amount(&self, text: &str, at: &Path<'_>, report: &mut Report) {
        let Some(amount) = Decimal::parse(text) else {
            let message = format_args!("`{}` is not an amount", Shown(text));
            return report.add(at, "type", message);
        };
        if let Some(min) = &self.min_amount
            && amount < min.get()
        {
            report.add(at, "min_amount", format_args!("must be at least {min}"));
        }
        if let Some(max) = &self.max_amount
            && amount > max.get()
        {
            report.add(at, "max_amount", format_args!("must be at most {max}"));
        }
        if amount.decimal_places() as u64 > self.decimal_places {
            let message = format_args!("must have at most {} decimal places", self.decimal_places);
            report.add(at, "decimal_places", message);
        }
    }

    fn check_currency(&self, code: &str, at: &Path<'_>, report: &mut Report) {
        if !is_currency(code) {
            let message = format_args!("`{}` is not a currency code such as USD", Shown(code));
            return report.add(at, "type", message);
        }
        if let Some(allowed) = &self.allowed_currencies
            && !allowed.contains(code)
        {
            let message = format_args!("`{code}` is not among the allowed currencies");
            report.add(at, "allowed_currencies", message);
        }
    }
}

/// Whether this has the form of an ISO 4217 code. The codes themselves change with countries; a
/// class that wants certain ones lists them in `allowed_currencies`.
fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())
}
