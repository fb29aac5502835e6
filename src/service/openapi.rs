//! Schemas for OpenAPI of what is serialised by hand or of several types; everything else derives
//! its own.

use std::borrow::Cow;

use utoipa::openapi::schema::{
    AllOfBuilder, ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::view::{EventView, Page};
use crate::domain::event::{Envelope, SOURCE};
use crate::domain::ids::Position;

type Schemas = Vec<(String, RefOr<Schema>)>;

/// Adds a schema and those it refers to.
fn add<T: ToSchema>(schemas: &mut Schemas) {
    schemas.push((T::name().into(), T::schema()));
    T::schemas(schemas);
}

/// By hand, because the items of a derived one are a copy of their schema instead of its name.
impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        let items = ArrayBuilder::new()
            .items(Ref::from_schema_name(T::name()))
            .description(Some("What is on the page."));
        let total = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(0))
            .description(Some("How many there are in all, where that is known."));
        let next_cursor = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some(
                "Ask with this for what follows; null at the end, which the feed of everything \
                 never has.",
            ));
        ObjectBuilder::new()
            .description(Some("A page."))
            .property("items", items)
            .property("total", total)
            .property("next_cursor", next_cursor)
            .required("items")
            .required("next_cursor")
            .into()
    }
}

impl<T: ToSchema> ToSchema for Page<T> {
    fn name() -> Cow<'static, str> {
        format!("{}Page", T::name()).into()
    }

    fn schemas(schemas: &mut Schemas) {
        add::<T>(schemas);
    }
}

/// As it is serialised: the envelope, with what [`Envelope`] need not read, and `position`.
impl PartialSchema for EventView {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let constant = |value: &str| text().enum_values(Some([value]));
        let rest = ObjectBuilder::new()
            .property("specversion", constant("1.0"))
            .property("source", constant(SOURCE))
            .property(
                "subject",
                text().description(Some("The stream: `type/id`.")),
            )
            .property("datacontenttype", constant("application/json"))
            .property("position", Ref::from_schema_name(Position::name()))
            .required("specversion")
            .required("source")
            .required("subject")
            .required("datacontenttype")
            .required("position");
        AllOfBuilder::new()
            .item(Ref::from_schema_name(Envelope::name()))
            .item(rest)
            .description(Some(
                "An event: its CloudEvents envelope as stored, plus `position`.",
            ))
            .into()
    }
}

impl ToSchema for EventView {
    fn name() -> Cow<'static, str> {
        "Event".into()
    }

    fn schemas(schemas: &mut Schemas) {
        add::<Envelope>(schemas);
        add::<Position>(schemas);
    }
}
