//! Sort keys, as callers send them and as a query keeps them.

#[cfg(feature = "openapi")]
use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
#[cfg(feature = "openapi")]
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
#[cfg(feature = "openapi")]
use utoipa::openapi::{Ref, RefOr};
#[cfg(feature = "openapi")]
use utoipa::{PartialSchema, ToSchema};

use super::field::Field;

/// A sort key as callers send it: `"-year"`, or `{"field": "year", "descending": true}`.
#[derive(Debug, Clone)]
pub enum SortSpec {
    /// The field, with `-` before it for descending order.
    Short(String),
    /// In full.
    Full(SortKeySpec),
}

/// A sort key in full.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SortKeySpec {
    /// The field.
    pub field: String,
    /// Whether the largest comes first.
    #[serde(default)]
    pub descending: bool,
}

/// Written by hand: serde's derived untagged enum would accept unknown members.
impl<'de> Deserialize<'de> for SortSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = SortSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field, or an object of `field` and `descending`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SortSpec, E> {
                Ok(SortSpec::Short(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SortSpec, A::Error> {
                SortKeySpec::deserialize(MapAccessDeserializer::new(map)).map(SortSpec::Full)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A sort key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SortKey {
    /// The field.
    pub field: Field,
    /// Whether the largest comes first.
    pub descending: bool,
}

#[cfg(feature = "openapi")]
impl PartialSchema for SortSpec {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some("The field, with `-` before it for descending.")),
            )
            .item(Ref::from_schema_name(SortKeySpec::name()))
            .description(Some("A sort key."))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl ToSchema for SortSpec {
    fn name() -> Cow<'static, str> {
        "SortSpec".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((SortKeySpec::name().into(), SortKeySpec::schema()));
        SortKeySpec::schemas(schemas);
    }
}
