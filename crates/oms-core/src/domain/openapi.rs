//! The schema of a position for OpenAPI: it is written by hand, everything else derives its own.

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::ids::Position;

impl PartialSchema for Position {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Where an event lies: `partition/offset/index`."))
            .pattern(Some("^[0-9]+/[0-9]+/[0-9]+$"))
            .examples(["3/1045/2"])
            .into()
    }
}

impl ToSchema for Position {
    fn name() -> Cow<'static, str> {
        "Position".into()
    }
}
