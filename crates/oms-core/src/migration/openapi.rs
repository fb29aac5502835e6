//! The schema of a figure for OpenAPI. By hand: derived, a whole number would be two of its
//! variants at once, of which only one may fit.

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use super::gate::Figure;

impl PartialSchema for Figure {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::Boolean, Type::Number]))
            .description(Some(
                "A figure, in the unit the gate's name says: `_s` seconds, `_share` 0 to 1, \
                 otherwise a count, or yes or no.",
            ))
            .into()
    }
}

impl ToSchema for Figure {
    fn name() -> Cow<'static, str> {
        "Figure".into()
    }
}
