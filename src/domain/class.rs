//! An ontology class.

use serde::{Deserialize, Serialize};

/// A class as its author defines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassDefinition {
    /// Its id.
    pub id: super::ids::ClassId,
}
