//! Schemas for OpenAPI of what is read by hand; everything else derives them.

use std::borrow::Cow;

use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::field::Op;
use super::query::{SortKeySpec, SortSpec};

/// Every operator of a filter.
pub(super) fn operators() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("How to compare."))
        .enum_values(Some(Op::ALL.map(|(name, _)| name)))
        .examples(["gte"])
}

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

impl ToSchema for SortSpec {
    fn name() -> Cow<'static, str> {
        "SortSpec".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((SortKeySpec::name().into(), SortKeySpec::schema()));
        SortKeySpec::schemas(schemas);
    }
}
