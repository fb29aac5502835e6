//! Refusals for code that follows a class's parents to build the chain that
//! [`EffectiveClass::resolve`](super::EffectiveClass::resolve) takes.

use crate::domain::ids::ClassId;
use crate::domain::refusal::{Refusal, RefusalKind, Violation};

/// Classes in a chain of inheritance at most, including the class itself. Each is one more stream
/// to read before an instance can be checked; deep ontologies in use have about a dozen levels.
pub const MAX_CHAIN: usize = 32;

/// 422: `class` names a parent that its database does not have.
pub fn parent_not_found(class: &ClassId, parent: &ClassId) -> Refusal {
    about_parent(
        "parent_class_not_found",
        format!("class `{class}` has the parent `{parent}`, which does not exist"),
    )
}

/// 422: following the parents of the first class of `chain` leads back to a class of the chain.
pub fn cycle(chain: &[&ClassId]) -> Refusal {
    let names: Vec<&str> = chain.iter().map(|class| class.as_str()).collect();
    about_parent(
        "parent_class_cycle",
        format!("the parents form a cycle: {}", names.join(" → ")),
    )
}

/// 422: the chain of parents is longer than [`MAX_CHAIN`].
pub fn too_long(class: &ClassId) -> Refusal {
    about_parent(
        "inheritance_too_deep",
        format!("the chain of parents of `{class}` is longer than {MAX_CHAIN} classes"),
    )
}

/// 404: the class does not exist.
pub fn class_not_found(class: &ClassId) -> Refusal {
    Refusal::not_found("class_not_found", format!("there is no class `{class}`"))
}

fn about_parent(code: &'static str, message: String) -> Refusal {
    Refusal {
        kind: RefusalKind::Invalid,
        code,
        message: message.clone(),
        violations: vec![Violation {
            field: "parent_class".to_owned(),
            code,
            message,
        }],
    }
}
