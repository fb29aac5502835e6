//! Which parts of the service a process runs. Every process answers HTTP and takes writes.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{SeqAccess, Visitor, value::StrDeserializer};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::problems::Problems;

/// A part of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// HTTP, aggregates and the writers of the log: what every process runs. Alone it means that
    /// others deliver and keep the read model.
    Api,
    /// From the log through the outbox to Kafka.
    Relay,
    /// From the log into the read model.
    Projection,
}

/// The parts this process runs; all of them by default. In the environment and in flags a list
/// separated by commas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Roles(BTreeSet<Role>);

impl Default for Roles {
    fn default() -> Self {
        Self([Role::Api, Role::Relay, Role::Projection].into())
    }
}

impl Roles {
    /// Whether this process runs `role`.
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        problems.require(
            !self.0.is_empty(),
            "roles",
            "must name at least one of api, relay, projection",
        );
    }
}

impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RolesVisitor)
    }
}

struct RolesVisitor;

impl<'de> Visitor<'de> for RolesVisitor {
    type Value = Roles;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of api, relay, projection")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Roles, E> {
        text.split(',')
            .map(str::trim)
            .filter(|role| !role.is_empty())
            .map(|role| Role::deserialize(StrDeserializer::new(role)))
            .collect::<Result<_, E>>()
            .map(Roles)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Roles, A::Error> {
        let mut roles = BTreeSet::new();
        while let Some(role) = seq.next_element()? {
            roles.insert(role);
        }
        Ok(Roles(roles))
    }
}
