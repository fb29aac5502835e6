//! The port to the read model.

use serde::Serialize;

/// What to look for among the instances of a class.
#[derive(Debug, Clone, Default)]
pub struct InstanceQuery {}

/// A projection as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectionStatus {}
