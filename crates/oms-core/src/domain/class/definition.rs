//! A class as its author defines it. Parsing checks the form only; [`ClassDefinition::validate`]
//! checks the content.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::ids::ClassId;

/// A class as its author defines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ClassDefinition {
    /// Its id: `[A-Za-z][A-Za-z0-9_:-]{0,99}`.
    pub id: ClassId,
    /// Its name for people.
    #[cfg_attr(feature = "openapi", schema(max_length = 200))]
    pub label: String,
    /// What it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 10_000))]
    pub description: Option<String>,
    /// The class whose properties and relationships it inherits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_class: Option<ClassId>,
    /// Whether it exists only to be inherited from: it can then have no instances.
    #[serde(rename = "abstract", default, skip_serializing_if = "is_false")]
    pub is_abstract: bool,
    /// What its instances are described by, at most 200.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_items = 200))]
    pub properties: Vec<PropertyDefinition>,
    /// How its instances refer to others, at most 100.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_items = 100))]
    pub relationships: Vec<RelationshipDefinition>,
    /// The author's metadata, which have no meaning to the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub metadata: Option<Map<String, Value>>,
}

/// A property of a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PropertyDefinition {
    /// Its name in the data: `[A-Za-z_][A-Za-z0-9_]{0,99}`.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^[A-Za-z_][A-Za-z0-9_]{0,99}$", example = "name")
    )]
    pub name: String,
    /// Its type: `string`, `integer`, `number`, `boolean`, `date`, `datetime`, `uuid`, `url`,
    /// `email`, `ip`, `money`, `coordinate`, `enum`, `array`, `object`, `file`, `image` or `link`.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(example = "string"))]
    pub kind: String,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 200))]
    pub label: Option<String>,
    /// Whether every instance has it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub required: bool,
    /// The value it gets where an instance is created without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub default: Option<Value>,
    /// Limits to its values; which there are depends on the type. For example `min_length`,
    /// `pattern`, `min`, `max`, `values`, `items`, `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub constraints: Option<Map<String, Value>>,
}

/// A way in which instances of a class refer to instances of another. An instance gives the
/// target's id, or a list of ids, in its data under the predicate's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RelationshipDefinition {
    /// Its name in the data, of the form of a property's name.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^[A-Za-z_][A-Za-z0-9_]{0,99}$", example = "employer")
    )]
    pub predicate: String,
    /// The class that it leads to.
    pub target: ClassId,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 200))]
    pub label: Option<String>,
    /// How many lead from one instance to how many.
    pub cardinality: Cardinality,
    /// The predicate's name when read from the target's side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse: Option<String>,
}

/// How many instances a relationship leads from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Cardinality {
    /// One to one.
    #[serde(rename = "1:1")]
    OneToOne,
    /// One to many.
    #[serde(rename = "1:n")]
    OneToMany,
    /// Many to one.
    #[serde(rename = "n:1")]
    ManyToOne,
    /// Many to many.
    #[serde(rename = "n:m")]
    ManyToMany,
}

impl Cardinality {
    /// Whether one instance may refer to several.
    pub fn allows_list(self) -> bool {
        matches!(self, Self::OneToMany | Self::ManyToMany)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
