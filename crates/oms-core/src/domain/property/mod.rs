//! The types of properties: one validator for each, all behind [`PropertyType`]. Constraints are
//! compiled once, when a class is resolved; after that a check neither compiles nor allocates
//! unless something is wrong.
//!
//! Validators only validate: data is stored as given, never trimmed, rounded or reordered. The
//! code of a violation is the key of the constraint that is broken, or what holds for every value
//! of the type: `type`, `required`, `unknown_property`, `duplicate`, `range`, `depth`,
//! `characters`, `reserved_key`. Everything takes time linear in the data.
//!
//! | type | constraints |
//! |---|---|
//! | `string` | `min_length max_length pattern format case trim whitelist blacklist` |
//! | `integer` | `min max exclusive_min exclusive_max multiple_of` |
//! | `number` | the same and `precision` |
//! | `boolean` | |
//! | `date`, `datetime` | `min max` |
//! | `uuid` | `version variant allow_nil` |
//! | `url` | `schemes require_https allowed_domains blocked_domains max_length` |
//! | `email` | `allowed_domains blocked_domains` |
//! | `ip` | `version require_private require_public allowed_ranges blocked_ranges` |
//! | `money` | `min_amount max_amount allowed_currencies decimal_places` |
//! | `coordinate` | `bounding_box precision` |
//! | `enum` | `values` (must be given) |
//! | `array` | `items` (or `item_type item_constraints`) `min_items max_items unique` |
//! | `object` | `schema required additional_properties min_properties max_properties` |
//! | `file` | `require_https allowed_domains blocked_domains allowed_extensions allowed_types min_size max_size` |
//! | `image` | the same and `min_width max_width min_height max_height` |
//! | `link` | `target` |
//!
//! Keys may be given in camelCase as well, and some under JSON Schema's name (`minimum`,
//! `uniqueItems`, `enum`, `properties`, …).

pub mod address;
pub mod check;
pub mod compile;
pub mod composite;
pub mod decimal;
pub mod enumeration;
pub mod free;
pub mod geo;
pub mod identity;
pub mod money;
pub mod network;
pub mod number;
pub mod pattern;
pub mod resource;
pub mod text;
pub mod time;

use serde_json::{Map, Value};

use self::check::{Path, Report, Shown};
use self::compile::{Compiler, Constraints};
use super::ids::ClassId;

/// Names of the types, as definitions give them.
pub const KINDS: [&str; 18] = [
    "string",
    "integer",
    "number",
    "boolean",
    "date",
    "datetime",
    "uuid",
    "url",
    "email",
    "ip",
    "money",
    "coordinate",
    "enum",
    "array",
    "object",
    "file",
    "image",
    "link",
];

/// Receives a reference to an instance: its path, the class that the instance must have, and the
/// given id.
pub(crate) type LinkSink<'s> = dyn FnMut(&Path<'_>, &ClassId, &str) + 's;

/// A type with its constraints, compiled to check values.
#[derive(Debug, Clone)]
pub enum PropertyType {
    /// `string`
    String(text::TextType),
    /// `integer` or `number`
    Number(number::NumberType),
    /// `boolean`
    Boolean,
    /// `date`
    Date(time::DateType),
    /// `datetime`
    DateTime(time::DateTimeType),
    /// `uuid`
    Uuid(identity::UuidType),
    /// `url`
    Url(network::UrlType),
    /// `email`
    Email(network::EmailType),
    /// `ip`
    Ip(address::IpType),
    /// `money`
    Money(money::MoneyType),
    /// `coordinate`
    Coordinate(geo::CoordinateType),
    /// `enum`
    Enum(enumeration::EnumType),
    /// `array`
    Array(composite::ArrayType),
    /// `object`
    Object(composite::ObjectType),
    /// `file` or `image`
    File(resource::FileType),
    /// `link`
    Link(identity::LinkType),
}

impl PropertyType {
    /// Compiles a property's `type` and `constraints`; `at` is the path of the property. `None` if
    /// anything is wrong, which is then in the compiler's report.
    pub fn compile(
        kind: &str,
        constraints: Option<&Map<String, Value>>,
        at: &Path<'_>,
        compiler: &mut Compiler,
    ) -> Option<Self> {
        let (kind_at, constraints_at) = (at.key("type"), at.key("constraints"));
        Self::compile_at(kind, &kind_at, constraints, &constraints_at, compiler)
    }

    fn compile_at(
        kind: &str,
        kind_at: &Path<'_>,
        constraints: Option<&Map<String, Value>>,
        at: &Path<'_>,
        compiler: &mut Compiler,
    ) -> Option<Self> {
        if !compiler.enter(kind_at) {
            return None;
        }
        let before = compiler.report.len();
        let mut c = Constraints::new(constraints, at, compiler);
        let compiled = match kind {
            "string" => Self::String(text::TextType::compile(&mut c)),
            "integer" => Self::Number(number::NumberType::compile(&mut c, true)),
            "number" => Self::Number(number::NumberType::compile(&mut c, false)),
            "boolean" => Self::Boolean,
            "date" => Self::Date(time::DateType::compile(&mut c)),
            "datetime" => Self::DateTime(time::DateTimeType::compile(&mut c)),
            "uuid" => Self::Uuid(identity::UuidType::compile(&mut c)),
            "url" => Self::Url(network::UrlType::compile(&mut c)),
            "email" => Self::Email(network::EmailType::compile(&mut c)),
            "ip" => Self::Ip(address::IpType::compile(&mut c)),
            "money" => Self::Money(money::MoneyType::compile(&mut c)),
            "coordinate" => Self::Coordinate(geo::CoordinateType::compile(&mut c)),
            "enum" => Self::Enum(enumeration::EnumType::compile(&mut c)),
            "array" => Self::Array(composite::ArrayType::compile(&mut c)),
            "object" => Self::Object(composite::ObjectType::compile(&mut c)),
            "file" => Self::File(resource::FileType::compile(&mut c, false)),
            "image" => Self::File(resource::FileType::compile(&mut c, true)),
            "link" => Self::Link(identity::LinkType::compile(&mut c)),
            unknown => {
                let (unknown, known) = (Shown(unknown), KINDS.join(", "));
                let message = format_args!("`{unknown}` is not a type; the types are {known}");
                compiler.report.add(kind_at, "type", message);
                compiler.leave();
                return None;
            }
        };
        c.finish(kind);
        compiler.leave();
        (compiler.report.len() == before).then_some(compiled)
    }

    /// Adds everything that is wrong with `value` to the report.
    pub fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        if value.is_null() {
            let message = format_args!("null is no value; leave the property out instead");
            return report.add(at, "type", message);
        }
        match self {
            Self::String(t) => t.check(value, at, report),
            Self::Number(t) => t.check(value, at, report),
            Self::Boolean if value.is_boolean() => {}
            Self::Boolean => report.wrong_type(at, "true or false", value),
            Self::Date(t) => t.check(value, at, report),
            Self::DateTime(t) => t.check(value, at, report),
            Self::Uuid(t) => t.check(value, at, report),
            Self::Url(t) => t.check(value, at, report),
            Self::Email(t) => t.check(value, at, report),
            Self::Ip(t) => t.check(value, at, report),
            Self::Money(t) => t.check(value, at, report),
            Self::Coordinate(t) => t.check(value, at, report),
            Self::Enum(t) => t.check(value, at, report),
            Self::Array(t) => t.check(value, at, report),
            Self::Object(t) => t.check(value, at, report),
            Self::File(t) => t.check(value, at, report),
            Self::Link(t) => t.check(value, at, report),
        }
    }

    /// Whether values of this type can refer to instances of a given class.
    pub fn has_links(&self) -> bool {
        match self {
            Self::Link(t) => t.target.is_some(),
            Self::Array(t) => t.has_links(),
            Self::Object(t) => t.has_links(),
            _ => false,
        }
    }

    /// Calls `sink` for each instance that `value` refers to. Skips values of the wrong form:
    /// [`PropertyType::check`] reports them.
    pub(crate) fn each_link(&self, value: &Value, at: &Path<'_>, sink: &mut LinkSink<'_>) {
        match self {
            Self::Link(t) => t.each_link(value, at, sink),
            Self::Array(t) => t.each_link(value, at, sink),
            Self::Object(t) => t.each_link(value, at, sink),
            _ => {}
        }
    }
}
