//! A class with everything it inherits, prepared to check instances.

use std::mem::size_of;
use std::sync::Arc;

use hashbrown::HashMap;
use serde_json::{Map, Value};

use super::definition::{ClassDefinition, PropertyDefinition, RelationshipDefinition};
use crate::domain::ids::{ClassId, InstanceId};
use crate::domain::property::check::{Path, Report, Shown};
use crate::domain::property::compile::MAX_CHAIN_COST;
use crate::domain::property::compile::{Compiler, MAX_CHAIN_BYTES, Spent};
use crate::domain::property::composite::check_unique;
use crate::domain::property::identity::check_instance_id;
use crate::domain::property::{LinkSink, PropertyType};
use crate::domain::refusal::{Refusal, RefusalKind, Violation};
use crate::domain::weight::{map_bytes, value_bytes};

/// Links of one instance at most. Each target is looked up before a write, and an instance is
/// rewritten whole with each change: more links belong into instances of a class of their own.
pub const MAX_LINKS: usize = 1_000;

/// An instance that data refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTarget {
    /// Path of the reference, for example `data.author` or `data.tags[3]`.
    pub field: String,
    /// The class that the instance must be of.
    pub class: ClassId,
    /// The instance.
    pub id: InstanceId,
}

/// The rules for instances of a class. Built once for each version of the class and its ancestors,
/// then shared.
#[derive(Debug)]
pub struct EffectiveClass {
    id: ClassId,
    is_abstract: bool,
    fields: Vec<Field>,
    by_name: HashMap<Box<str>, usize>,
    spent: Spent,
}

#[derive(Debug)]
struct Field {
    name: Box<str>,
    kind: FieldKind,
    required: bool,
    default: Option<Value>,
    links: bool,
}

#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "most fields are properties, which a box would put one hop away from each check"
)]
enum FieldKind {
    Property(PropertyType),
    Relationship { target: ClassId, many: bool },
}

/// Which defaults to fill in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defaults {
    /// All: for a new instance.
    All,
    /// Those of required properties: the class may have got them after the instance, which could
    /// not be changed without them.
    Required,
}

impl EffectiveClass {
    /// Merges a class with its ancestors: `chain` is the class itself, its parent, the parent's
    /// parent and so on. A definition overrides those of ancestors with the same name.
    ///
    /// Refused with 422 `class_definition_invalid` if a definition is not valid, for example
    /// because it was stored under older rules, and with 422 `class_chain_too_large` if all of them
    /// together exceed the limits of a chain.
    pub fn resolve(chain: &[&ClassDefinition]) -> Result<Self, Refusal> {
        let Some(own) = chain.first() else {
            return Err(Refusal::invalid(
                "class_definition_invalid",
                "a class needs a definition",
            ));
        };
        let mut this = Self {
            id: own.id.clone(),
            is_abstract: own.is_abstract,
            fields: Vec::with_capacity(own.properties.len() + own.relationships.len()),
            by_name: HashMap::new(),
            spent: Spent::default(),
        };
        for definition in chain {
            this.inherit(definition)?;
        }
        Ok(this)
    }

    /// Approximate bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.spent.bytes
    }

    fn inherit(&mut self, definition: &ClassDefinition) -> Result<(), Refusal> {
        let mut compiler = Compiler::going_on(self.spent);
        for (index, property) in definition.properties.iter().enumerate() {
            if !self.by_name.contains_key(property.name.as_str()) {
                let root = Path::root("properties");
                compiler.spent.bytes += Field::bytes_of(property);
                let field = Field::property(property, &root.index(index), &mut compiler);
                self.fields.extend(field);
            }
            if compiler.spent.is_too_much() {
                return Err(chain_too_large(&self.id, &definition.id, compiler.spent));
            }
        }
        for relationship in &definition.relationships {
            if !self.by_name.contains_key(relationship.predicate.as_str()) {
                compiler.spent.bytes += 2 * size_of::<Field>() + relationship.predicate.len();
                self.fields.push(Field::relationship(relationship));
            }
        }
        self.spent = compiler.spent;
        // Added only now, so that two properties of one name in one definition are found.
        for (index, field) in self.fields.iter().enumerate().skip(self.by_name.len()) {
            if self.by_name.insert(field.name.clone(), index).is_some() {
                let message = format_args!("is defined twice");
                let at = Path::root(&field.name);
                compiler.report.add(&at, "duplicate", message);
                break;
            }
        }
        if compiler.report.is_empty() {
            return Ok(());
        }
        Err(Refusal {
            kind: RefusalKind::Invalid,
            code: "class_definition_invalid",
            message: format!("the definition of class `{}` is invalid", definition.id),
            violations: compiler.report.into_violations(),
        })
    }

    /// Whether instances of it can have links.
    pub fn has_links(&self) -> bool {
        self.fields.iter().any(|field| field.links)
    }

    /// The class.
    pub fn id(&self) -> &ClassId {
        &self.id
    }

    /// Whether it can have no instances.
    pub fn is_abstract(&self) -> bool {
        self.is_abstract
    }

    /// The names that data may have, own ones first.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| &*field.name)
    }

    /// Checks an instance's data. Refused with 422 and a violation for each error.
    pub fn validate(&self, data: &Map<String, Value>) -> Result<(), Refusal> {
        let mut report = Report::default();
        let root = Path::root("data");
        for (name, value) in data {
            let at = root.key(name);
            match self.field(name) {
                Some(field) => field.check(value, &at, &mut report),
                None => {
                    let (class, name) = (&self.id, Shown(name));
                    let message = format_args!("class `{class}` has no property `{name}`");
                    report.add(&at, "unknown_property", message);
                }
            }
        }
        for field in self.fields.iter().filter(|field| field.required) {
            if !data.contains_key(&*field.name) {
                let message = format_args!("is required");
                report.add(&root.key(&field.name), "required", message);
            }
        }
        let mut links = 0;
        self.each_link(data, &mut |_, _, _| links += 1);
        if links > MAX_LINKS {
            let message = format_args!("may refer to {MAX_LINKS} instances (these are {links})");
            report.add(&root, "max_links", message);
        }
        report.into_result()
    }

    /// The data with the defaults of missing properties; unchanged if nothing is to be added.
    pub fn complete(
        &self,
        data: &Arc<Map<String, Value>>,
        which: Defaults,
    ) -> Arc<Map<String, Value>> {
        let mut completed = Arc::clone(data);
        for field in &self.fields {
            let Some(default) = &field.default else {
                continue;
            };
            let wanted = field.required || which == Defaults::All;
            if wanted && !data.contains_key(&*field.name) {
                Arc::make_mut(&mut completed).insert(field.name.to_string(), default.clone());
            }
        }
        completed
    }

    /// The instances that `data` refer to, by relationships and by `link` properties with a
    /// `target`, however nested. Skips values of the wrong form, so that it can be used on a merge
    /// patch, and before [`EffectiveClass::validate`]. Stops after [`MAX_LINKS`], which `validate`
    /// refuses.
    pub fn link_targets(&self, data: &Map<String, Value>) -> Vec<LinkTarget> {
        let mut targets = Vec::new();
        self.each_link(data, &mut |at, class, id| {
            if targets.len() < MAX_LINKS
                && let Ok(id) = InstanceId::new(id)
            {
                targets.push(LinkTarget {
                    field: at.to_string(),
                    class: class.clone(),
                    id,
                });
            }
        });
        targets
    }

    fn each_link(&self, data: &Map<String, Value>, sink: &mut LinkSink<'_>) {
        let root = Path::root("data");
        for (name, value) in data {
            if let Some(field) = self.field(name).filter(|field| field.links) {
                field.each_link(value, &root.key(name), sink);
            }
        }
    }

    fn field(&self, name: &str) -> Option<&Field> {
        self.by_name.get(name).map(|index| &self.fields[*index])
    }
}

/// 422: the definitions of a chain together are too large.
fn chain_too_large(class: &ClassId, at: &ClassId, spent: Spent) -> Refusal {
    let code = "class_chain_too_large";
    let Spent { bytes, cost } = spent;
    let message = format!(
        "class `{class}` and its ancestors may take {MAX_CHAIN_BYTES} bytes of compiled patterns, \
         defaults and lists, and patterns that cost {MAX_CHAIN_COST}; up to class `{at}` they take \
         {bytes} bytes and cost {cost}"
    );
    Refusal {
        kind: RefusalKind::Invalid,
        code,
        message: message.clone(),
        violations: vec![Violation {
            field: "properties".to_owned(),
            code,
            message,
        }],
    }
}

impl Field {
    /// Approximate bytes of memory of a property, without its patterns: the lists in its
    /// constraints are stored a second time in the form in which they are looked up.
    fn bytes_of(definition: &PropertyDefinition) -> usize {
        let default = definition.default.as_ref().map_or(0, value_bytes);
        let lists = definition.constraints.as_ref().map_or(0, map_bytes);
        2 * size_of::<Self>() + 2 * definition.name.len() + default + lists
    }

    fn property(
        definition: &PropertyDefinition,
        at: &Path<'_>,
        compiler: &mut Compiler,
    ) -> Option<Self> {
        let constraints = definition.constraints.as_ref();
        let kind = PropertyType::compile(&definition.kind, constraints, at, compiler)?;
        Some(Self {
            name: definition.name.as_str().into(),
            required: definition.required,
            default: definition.default.clone(),
            links: kind.has_links(),
            kind: FieldKind::Property(kind),
        })
    }

    fn relationship(definition: &RelationshipDefinition) -> Self {
        Self {
            name: definition.predicate.as_str().into(),
            kind: FieldKind::Relationship {
                target: definition.target.clone(),
                many: definition.cardinality.allows_list(),
            },
            required: false,
            default: None,
            links: true,
        }
    }

    fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        match (&self.kind, value) {
            (FieldKind::Property(kind), _) => kind.check(value, at, report),
            (FieldKind::Relationship { many: true, .. }, Value::Array(ids)) => {
                check_links(ids, at, report);
            }
            (FieldKind::Relationship { many: false, .. }, Value::Array(_)) => {
                let message = format_args!("leads to one instance, not to a list of them");
                report.add(at, "cardinality", message);
            }
            (FieldKind::Relationship { .. }, _) => check_instance_id(value, at, report),
        }
    }

    fn each_link(&self, value: &Value, at: &Path<'_>, sink: &mut LinkSink<'_>) {
        match (&self.kind, value) {
            (FieldKind::Property(kind), _) => kind.each_link(value, at, sink),
            (FieldKind::Relationship { target, .. }, Value::Array(ids)) => {
                for (index, id) in ids.iter().enumerate() {
                    if let Some(id) = id.as_str() {
                        sink(&at.index(index), target, id);
                    }
                }
            }
            (FieldKind::Relationship { target, .. }, Value::String(id)) => sink(at, target, id),
            (FieldKind::Relationship { .. }, _) => {}
        }
    }
}

fn check_links(ids: &[Value], at: &Path<'_>, report: &mut Report) {
    for (index, id) in ids.iter().enumerate() {
        check_instance_id(id, &at.index(index), report);
    }
    check_unique(ids, at, report);
}

#[cfg(test)]
#[path = "effective_tests.rs"]
mod tests;
