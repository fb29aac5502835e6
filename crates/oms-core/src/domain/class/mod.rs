//! Ontology classes: their definitions, the rules for instances that follow from them, and the
//! aggregate.
//!
//! * [`definition`]: a class as its author defines it
//! * [`validate`]: checks of a definition
//! * [`effective`]: a class with everything it inherits, prepared to check instances
//! * [`lineage`]: refusals along the chain of parents
//! * [`aggregate`]: the aggregate

pub mod aggregate;
pub mod definition;
pub mod effective;
pub mod lineage;
pub mod validate;

pub use self::aggregate::{Class, ClassCommand, ClassEvent, LiveClass};
pub use self::definition::{
    Cardinality, ClassDefinition, PropertyDefinition, RelationshipDefinition,
};
pub use self::effective::{EffectiveClass, LinkTarget};

#[cfg(test)]
mod tests;
