//! The property type `string`.

use std::fmt;

use hashbrown::HashSet;
use serde_json::Value;

use super::check::{Path, Report, Shown};
use super::compile::Constraints;
use super::pattern::Pattern;
use super::{address, identity, network, time};

/// Constraints of a `string`.
#[derive(Debug, Clone, Default)]
pub struct TextType {
    min_length: Option<u64>,
    max_length: Option<u64>,
    pattern: Option<Pattern>,
    format: Option<Format>,
    case: Option<Case>,
    trim: bool,
    whitelist: Option<HashSet<Box<str>>>,
    blacklist: Option<HashSet<Box<str>>>,
}

#[derive(Debug, Clone, Copy)]
enum Case {
    Lower,
    Upper,
}

impl TextType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        let this = Self {
            min_length: c.count("min_length"),
            max_length: c.count("max_length"),
            pattern: Pattern::compile(c),
            format: c.parsed("format", &Format::choice(), |v| Format::named(v.as_str()?)),
            case: c.parsed("case", "`lower` or `upper`", |v| match v.as_str()? {
                "lower" => Some(Case::Lower),
                "upper" => Some(Case::Upper),
                _ => None,
            }),
            trim: c.flag("trim"),
            whitelist: strings(c, "whitelist"),
            blacklist: strings(c, "blacklist"),
        };
        let (min, max) = (this.min_length.as_ref(), this.max_length.as_ref());
        c.in_order(("min_length", min), ("max_length", max));
        this
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        let Some(text) = value.as_str() else {
            return report.wrong_type(at, "a string", value);
        };
        check_storable(text, at, report);
        if self.min_length.is_some() || self.max_length.is_some() {
            self.check_length(text, at, report);
        }
        if let Some(pattern) = &self.pattern {
            pattern.check(text, at, report);
        }
        if let Some(format) = self.format
            && !format.accepts(text)
        {
            report.add(at, "format", format_args!("must be {format}"));
        }
        match self.case {
            Some(Case::Lower) if text.chars().any(char::is_uppercase) => {
                report.add(at, "case", format_args!("must be in lower case"));
            }
            Some(Case::Upper) if text.chars().any(char::is_lowercase) => {
                report.add(at, "case", format_args!("must be in upper case"));
            }
            _ => {}
        }
        if self.trim && text.trim().len() != text.len() {
            let message = format_args!("must not begin or end with white space");
            report.add(at, "trim", message);
        }
        if self.whitelist.as_ref().is_some_and(|w| !w.contains(text)) {
            let message = format_args!("`{}` is not among the allowed values", Shown(text));
            report.add(at, "whitelist", message);
        }
        if self.blacklist.as_ref().is_some_and(|b| b.contains(text)) {
            let message = format_args!("`{}` is not allowed", Shown(text));
            report.add(at, "blacklist", message);
        }
    }

    fn check_length(&self, text: &str, at: &Path<'_>, report: &mut Report) {
        let length = text.chars().count() as u64;
        if let Some(min) = self.min_length
            && length < min
        {
            let message = format_args!("must have at least {min} characters (it has {length})");
            report.add(at, "min_length", message);
        }
        if let Some(max) = self.max_length
            && length > max
        {
            let message = format_args!("must have at most {max} characters (it has {length})");
            report.add(at, "max_length", message);
        }
    }
}

/// Refuses text that the read model's JSONB cannot store.
pub(super) fn check_storable(text: &str, at: &Path<'_>, report: &mut Report) {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        let message = format_args!("must not contain the character U+0000");
        report.add(at, "characters", message);
    }
}

fn strings(c: &mut Constraints<'_>, key: &str) -> Option<HashSet<Box<str>>> {
    let list = c.strings(key)?;
    Some(list.into_iter().map(Box::from).collect())
}

/// A named format of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Date,
    DateTime,
    Uuid,
    Email,
    Url,
    Ip,
    Ipv4,
    Ipv6,
    Hostname,
    Slug,
    Alpha,
    Alphanumeric,
    Digits,
}

impl Format {
    /// Every format: its name, its alias if it has one, its description.
    const ALL: [(Format, &str, &str, &str); 13] = [
        (Format::Date, "date", "", "a date (YYYY-MM-DD)"),
        (
            Format::DateTime,
            "datetime",
            "date-time",
            "an RFC 3339 time with its offset",
        ),
        (Format::Uuid, "uuid", "", "a hyphenated UUID"),
        (Format::Email, "email", "", "an email address"),
        (Format::Url, "url", "uri", "an absolute URL"),
        (Format::Ip, "ip", "", "an IP address"),
        (Format::Ipv4, "ipv4", "", "an IPv4 address"),
        (Format::Ipv6, "ipv6", "", "an IPv6 address"),
        (Format::Hostname, "hostname", "", "a host name"),
        (
            Format::Slug,
            "slug",
            "",
            "lower-case letters, digits and single hyphens",
        ),
        (Format::Alpha, "alpha", "", "letters only"),
        (
            Format::Alphanumeric,
            "alphanumeric",
            "",
            "letters and digits only",
        ),
        (Format::Digits, "digits", "numeric", "digits only"),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, n, other, _)| *n == name || (!other.is_empty() && *other == name))
            .map(|(format, ..)| *format)
    }

    fn choice() -> String {
        let names: Vec<&str> = Self::ALL.iter().map(|(_, name, ..)| *name).collect();
        format!("one of {}", names.join(", "))
    }

    fn accepts(self, text: &str) -> bool {
        let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
        match self {
            Format::Date => time::parse_date(text).is_some(),
            Format::DateTime => time::parse_datetime(text).is_some(),
            Format::Uuid => identity::parse_uuid(text).is_some(),
            Format::Email => network::parse_email(text).is_ok(),
            Format::Url => network::parse_url(text).is_ok(),
            Format::Ip => address::parse_ip(text).is_some(),
            Format::Ipv4 => address::parse_ip(text).is_some_and(|ip| ip.is_ipv4()),
            Format::Ipv6 => address::parse_ip(text).is_some_and(|ip| ip.is_ipv6()),
            Format::Hostname => network::is_hostname(text),
            Format::Slug => is_slug(text),
            Format::Alpha => all(char::is_alphabetic),
            Format::Alphanumeric => all(char::is_alphanumeric),
            Format::Digits => all(|c| c.is_ascii_digit()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::ALL.iter().find(|(format, ..)| format == self);
        f.write_str(known.map_or("of its format", |(.., meaning)| meaning))
    }
}

fn is_slug(text: &str) -> bool {
    text.split('-').all(|word| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}
