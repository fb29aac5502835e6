//! Ontology classes: what their authors write, what follows from it for instances, and the
//! aggregate that records its changes.
//!
//! * [`definition`]: a class as its author defines it
//! * [`validate`]: what makes a definition a sound one
//! * [`effective`]: a class with all it inherits, ready to check instances
//! * [`lineage`]: refusals for whoever follows parents
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
