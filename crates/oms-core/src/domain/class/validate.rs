//! Checks of a class definition.

use std::io;
use std::mem::size_of;

use hashbrown::HashSet;
use serde_json::{Map, Value};

use super::definition::{ClassDefinition, PropertyDefinition, RelationshipDefinition};
use crate::domain::property::PropertyType;
use crate::domain::property::check::{Path, Report, Shown};
use crate::domain::property::compile::Compiler;
use crate::domain::property::free::check_free_object;
use crate::domain::refusal::Refusal;
use crate::domain::weight::{map_bytes, too_large, value_bytes};

/// Properties of one class at most, without inherited ones.
pub const MAX_PROPERTIES: usize = 200;
/// Relationships of one class at most, without inherited ones.
pub const MAX_RELATIONSHIPS: usize = 100;
/// Longest label, in characters: a line.
pub const MAX_LABEL_CHARS: usize = 200;
/// Longest description, in characters: a few pages.
pub const MAX_DESCRIPTION_CHARS: usize = 10_000;
/// Longest name of a property or predicate, in bytes.
pub const MAX_NAME_BYTES: usize = 100;
/// Largest definition as JSON, in bytes. Every event of a class carries the whole definition, and
/// each live class keeps it in memory.
pub const MAX_DEFINITION_BYTES: usize = 256 * 1024;

impl ClassDefinition {
    /// Checks everything about the definition that does not depend on other classes. Refused with
    /// 422 and a violation for each error.
    pub fn validate(&self) -> Result<(), Refusal> {
        let size = self.stored_bytes();
        if size > MAX_DEFINITION_BYTES {
            let (code, field) = ("class_too_large", "class".to_owned());
            let most = MAX_DEFINITION_BYTES;
            return Err(too_large(code, field, "a class", size, most));
        }
        let mut compiler = Compiler::default();
        if self.check_counts(&mut compiler.report) {
            self.check_texts(&mut compiler.report);
            self.check_names(&mut compiler.report);
            for (index, property) in self.properties.iter().enumerate() {
                let root = Path::root("properties");
                check_property(property, &root.index(index), &mut compiler);
            }
            for (index, relationship) in self.relationships.iter().enumerate() {
                let root = Path::root("relationships");
                check_relationship(relationship, &root.index(index), &mut compiler.report);
            }
        }
        compiler.report.into_result()
    }

    /// Bytes of the definition as JSON.
    pub fn stored_bytes(&self) -> usize {
        let mut size = ByteCount(0);
        // Cannot fail: plain data written to a counter.
        match serde_json::to_writer(&mut size, self) {
            Ok(()) => size.0,
            Err(_) => usize::MAX,
        }
    }

    /// Approximate bytes of memory that the definition takes.
    pub fn memory_bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let map = |map: &Option<Map<String, Value>>| map.as_ref().map_or(0, map_bytes);
        let properties = self.properties.iter().map(|p| {
            let texts = p.name.len() + p.kind.len() + text(&p.label);
            let default = p.default.as_ref().map_or(0, value_bytes);
            size_of::<PropertyDefinition>() + texts + default + map(&p.constraints)
        });
        let relationships = self.relationships.iter().map(|r| {
            let texts = r.predicate.len() + text(&r.label) + text(&r.inverse);
            size_of::<RelationshipDefinition>() + r.target.as_str().len() + texts
        });
        let texts = self.label.len() + text(&self.description) + map(&self.metadata);
        size_of::<Self>() + texts + properties.sum::<usize>() + relationships.sum::<usize>()
    }

    /// Checks the counts that bound the work of all other checks.
    fn check_counts(&self, report: &mut Report) -> bool {
        for (field, count, most) in [
            ("properties", self.properties.len(), MAX_PROPERTIES),
            ("relationships", self.relationships.len(), MAX_RELATIONSHIPS),
        ] {
            if count > most {
                let message = format_args!("a class may have {most} {field} (it has {count})");
                report.add(&Path::root(field), "max_items", message);
            }
        }
        report.is_empty()
    }

    fn check_texts(&self, report: &mut Report) {
        let label = Path::root("label");
        if self.label.trim().is_empty() {
            report.add(&label, "required", format_args!("must not be empty"));
        }
        check_text(&self.label, MAX_LABEL_CHARS, &label, report);
        if let Some(description) = &self.description {
            let at = Path::root("description");
            check_text(description, MAX_DESCRIPTION_CHARS, &at, report);
        }
        if self.parent_class.as_ref() == Some(&self.id) {
            let message = format_args!("a class cannot be its own parent");
            let at = Path::root("parent_class");
            report.add(&at, "parent_class_cycle", message);
        }
        if let Some(metadata) = &self.metadata {
            check_free_object(metadata, &Path::root("metadata"), report);
        }
    }

    /// Properties and relationships share one name space, because both are members of an instance's
    /// data.
    fn check_names(&self, report: &mut Report) {
        let mut seen = HashSet::new();
        let mut check = |root, index, field, name| {
            let root = Path::root(root);
            let at = root.index(index);
            let at = at.key(field);
            check_name(name, &at, report);
            if !seen.insert(name) {
                let message = format_args!("`{}` is there already", Shown(name));
                report.add(&at, "duplicate", message);
            }
        };
        for (index, property) in self.properties.iter().enumerate() {
            check("properties", index, "name", property.name.as_str());
        }
        for (index, relationship) in self.relationships.iter().enumerate() {
            let predicate = relationship.predicate.as_str();
            check("relationships", index, "predicate", predicate);
        }
    }
}

fn check_property(property: &PropertyDefinition, at: &Path<'_>, compiler: &mut Compiler) {
    if let Some(label) = &property.label {
        let at = at.key("label");
        check_text(label, MAX_LABEL_CHARS, &at, &mut compiler.report);
    }
    let constraints = property.constraints.as_ref();
    if let Some(constraints) = constraints {
        let at = at.key("constraints");
        check_free_object(constraints, &at, &mut compiler.report);
    }
    let kind = PropertyType::compile(&property.kind, constraints, at, compiler);
    let (Some(kind), Some(default)) = (kind, &property.default) else {
        return;
    };
    let at = at.key("default");
    if kind.has_links() {
        // The target may not exist whenever the default is used.
        let message = format_args!("a link to a certain class has no default");
        compiler.report.add(&at, "default", message);
    } else {
        kind.check(default, &at, &mut compiler.report);
    }
}

fn check_relationship(relationship: &RelationshipDefinition, at: &Path<'_>, report: &mut Report) {
    if let Some(label) = &relationship.label {
        check_text(label, MAX_LABEL_CHARS, &at.key("label"), report);
    }
    if let Some(inverse) = &relationship.inverse {
        check_name(inverse, &at.key("inverse"), report);
    }
}

fn check_name(name: &str, at: &Path<'_>, report: &mut Report) {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let valid = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b.is_ascii_digit());
    if !valid {
        let message = format_args!("must match [A-Za-z_][A-Za-z0-9_]{{0,99}}");
        report.add(at, "name", message);
    }
}

/// Checks a descriptive text.
pub(crate) fn check_text(text: &str, most: usize, at: &Path<'_>, report: &mut Report) {
    if text.chars().nth(most).is_some() {
        let message = format_args!("must have at most {most} characters");
        report.add(at, "max_length", message);
    }
    if text.contains('\0') {
        let message = format_args!("must not contain the character U+0000");
        report.add(at, "characters", message);
    }
}

/// Counts what is written to it.
struct ByteCount(usize);

impl io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
