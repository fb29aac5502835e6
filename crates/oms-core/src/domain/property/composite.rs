//! The property types `array` and `object`.

use hashbrown::{HashMap, HashSet};
use serde_json::{Map, Value};

use super::check::{Path, Report, Shown};
use super::compile::{Constraints, MAX_LIST};
use super::free::{check_free, check_key};
use super::{LinkSink, PropertyType};

/// Constraints of an `array`.
#[derive(Debug, Clone, Default)]
pub struct ArrayType {
    items: Option<Box<PropertyType>>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    unique: bool,
}

impl ArrayType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        let this = Self {
            items: compile_items(c).map(Box::new),
            min_items: c.count("min_items"),
            max_items: c.count("max_items"),
            unique: c.flag("unique"),
        };
        let (min, max) = (this.min_items.as_ref(), this.max_items.as_ref());
        c.in_order(("min_items", min), ("max_items", max));
        this
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        let Some(items) = value.as_array() else {
            return report.wrong_type(at, "an array", value);
        };
        let count = items.len() as u64;
        if let Some(min) = self.min_items
            && count < min
        {
            let message = format_args!("must have at least {min} items (it has {count})");
            report.add(at, "min_items", message);
        }
        if let Some(max) = self.max_items
            && count > max
        {
            let message = format_args!("must have at most {max} items (it has {count})");
            return report.add(at, "max_items", message);
        }
        for (index, item) in items.iter().enumerate() {
            match &self.items {
                Some(items) => items.check(item, &at.index(index), report),
                None => check_free(item, &at.index(index), report),
            }
        }
        if self.unique {
            check_unique(items, at, report);
        }
    }

    pub(super) fn has_links(&self) -> bool {
        self.items.as_ref().is_some_and(|items| items.has_links())
    }

    pub(super) fn each_link(&self, value: &Value, at: &Path<'_>, sink: &mut LinkSink<'_>) {
        if let (Some(items), Some(values)) = (&self.items, value.as_array()) {
            for (index, value) in values.iter().enumerate() {
                items.each_link(value, &at.index(index), sink);
            }
        }
    }
}

/// Reports duplicate items. Items are compared as text: `1` and `1.0` differ.
pub(crate) fn check_unique(items: &[Value], at: &Path<'_>, report: &mut Report) {
    let mut seen = HashSet::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        if !seen.insert(item) {
            let message = format_args!("is there already");
            report.add(&at.index(index), "unique", message);
        }
    }
}

/// The items' type, from `items: {type, constraints}`, or `item_type` and `item_constraints`.
fn compile_items(c: &mut Constraints<'_>) -> Option<PropertyType> {
    if let Some((key, given)) = c.take("items") {
        for other in ["item_type", "item_constraints"] {
            if c.take(other).is_some() {
                c.fault(other, "duplicate", format_args!("is given by `items` too"));
            }
        }
        let at = c.path();
        let at = at.key(key);
        return compile_spec(given, &at, &[], c);
    }
    let kind = c.parsed("item_type", "the name of a type", Value::as_str);
    let constraints = c.parsed("item_constraints", "an object", Value::as_object);
    let Some(kind) = kind else {
        if constraints.is_some() {
            let message = format_args!("`item_constraints` needs an `item_type`");
            c.fault("item_constraints", "required", message);
        }
        return None;
    };
    let at = c.path();
    PropertyType::compile_at(
        kind,
        &at.key("item_type"),
        constraints,
        &at.key("item_constraints"),
        c.compiler,
    )
}

/// Compiles a nested `{type, constraints}`; `others` are further keys that it may have.
fn compile_spec(
    given: &Value,
    at: &Path<'_>,
    others: &[&str],
    c: &mut Constraints<'_>,
) -> Option<PropertyType> {
    let report = &mut c.compiler.report;
    let Some(spec) = given.as_object() else {
        report.wrong_type(at, "an object with `type` and `constraints`", given);
        return None;
    };
    for key in spec.keys() {
        let known = matches!(key.as_str(), "type" | "constraints") || others.contains(&&**key);
        if !known {
            let message = format_args!("`{}` is not known here", Shown(key));
            report.add(&at.key(key), "unknown_property", message);
        }
    }
    let Some(kind) = spec.get("type").and_then(Value::as_str) else {
        let message = format_args!("must be the name of a type");
        report.add(&at.key("type"), "required", message);
        return None;
    };
    let constraints = match spec.get("constraints") {
        Some(Value::Object(constraints)) => Some(constraints),
        Some(Value::Null) | None => None,
        Some(other) => {
            report.wrong_type(&at.key("constraints"), "an object", other);
            return None;
        }
    };
    PropertyType::compile_at(
        kind,
        &at.key("type"),
        constraints,
        &at.key("constraints"),
        c.compiler,
    )
}

/// Constraints of an `object`.
#[derive(Debug, Clone, Default)]
pub struct ObjectType {
    members: HashMap<Box<str>, PropertyType>,
    required: Vec<Box<str>>,
    additional: bool,
    min_properties: Option<u64>,
    max_properties: Option<u64>,
}

impl ObjectType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        let mut this = Self::default();
        let schema = c.parsed("schema", "an object of names and types", |v| {
            v.as_object().filter(|o| o.len() <= MAX_LIST)
        });
        for (name, spec) in schema.into_iter().flatten() {
            this.compile_member(name, spec, c);
        }
        for name in c.strings("required").unwrap_or_default() {
            this.require(name);
        }
        // An object whose members are described is closed, as a class is; without a description it
        // is open.
        this.additional = c
            .parsed("additional_properties", "true or false", Value::as_bool)
            .unwrap_or(schema.is_none());
        this.min_properties = c.count("min_properties");
        this.max_properties = c.count("max_properties");
        let (min, max) = (this.min_properties.as_ref(), this.max_properties.as_ref());
        c.in_order(("min_properties", min), ("max_properties", max));
        let mut required = this.required.iter();
        if !this.additional
            && let Some(name) = required.find(|name| !this.members.contains_key(*name))
        {
            let message = format_args!("`{}` is required but not allowed", Shown(name));
            c.fault("required", "unknown_property", message);
        }
        this
    }

    fn compile_member(&mut self, name: &str, spec: &Value, c: &mut Constraints<'_>) {
        let at = c.path();
        let at = at.key("schema");
        let at = at.key(name);
        check_key(name, &at, &mut c.compiler.report);
        match spec.get("required") {
            None | Some(Value::Bool(false)) => {}
            Some(Value::Bool(true)) => self.require(name),
            Some(other) => {
                let report = &mut c.compiler.report;
                report.wrong_type(&at.key("required"), "true or false", other);
            }
        }
        if let Some(kind) = compile_spec(spec, &at, &["required", "label"], c) {
            self.members.insert(name.into(), kind);
        }
    }

    fn require(&mut self, name: &str) {
        if !self.required.iter().any(|r| **r == *name) {
            self.required.push(name.into());
        }
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        let Some(object) = value.as_object() else {
            return report.wrong_type(at, "an object", value);
        };
        self.check_count(object, at, report);
        for (key, member) in object {
            let at = at.key(key);
            match self.members.get(key.as_str()) {
                Some(kind) => kind.check(member, &at, report),
                None if self.additional => {
                    check_key(key, &at, report);
                    check_free(member, &at, report);
                }
                None => {
                    let message = format_args!("`{}` is not a known member", Shown(key));
                    report.add(&at, "unknown_property", message);
                }
            }
        }
        for name in &self.required {
            if !object.contains_key(&**name) {
                report.add(&at.key(name), "required", format_args!("is required"));
            }
        }
    }

    fn check_count(&self, object: &Map<String, Value>, at: &Path<'_>, report: &mut Report) {
        let count = object.len() as u64;
        if let Some(min) = self.min_properties
            && count < min
        {
            let message = format_args!("must have at least {min} members (it has {count})");
            report.add(at, "min_properties", message);
        }
        if let Some(max) = self.max_properties
            && count > max
        {
            let message = format_args!("must have at most {max} members (it has {count})");
            report.add(at, "max_properties", message);
        }
    }

    pub(super) fn has_links(&self) -> bool {
        self.members.values().any(PropertyType::has_links)
    }

    pub(super) fn each_link(&self, value: &Value, at: &Path<'_>, sink: &mut LinkSink<'_>) {
        for (key, member) in value.as_object().into_iter().flatten() {
            if let Some(kind) = self.members.get(key.as_str()) {
                kind.each_link(member, &at.key(key), sink);
            }
        }
    }
}
