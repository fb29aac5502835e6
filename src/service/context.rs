//! The principal, idempotency key and deadline of a request.

use tokio::time::Instant;

use crate::clock::new_uuid;
use crate::domain::event::Idempotency;
use crate::domain::ids::{CommandId, Version};
use crate::domain::trace::TraceContext;
use crate::domain::versions::VersionSet;
use crate::flaws::{Flaw, flawed};

#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The authenticated principal, or `anonymous`.
    pub principal: String,
    /// Correlates the events that one client action caused: the client's trace id, else the request
    /// id.
    pub correlation_id: String,
    /// The request in its trace, where traces are recorded.
    pub trace: Option<TraceContext>,
    /// The idempotency key, with the hash of the request it stands for.
    pub idempotency: Option<Idempotency>,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

impl RequestContext {
    /// The command id of this request: derived from the idempotency key where there is one, so
    /// that a retry through any process is recognised, else fresh.
    pub fn command_id(&self) -> CommandId {
        match &self.idempotency {
            Some(idempotency) if !flawed(Flaw::ForgetKeys) => {
                CommandId::from_idempotency_key(&self.principal, &idempotency.key)
            }
            _ => CommandId(new_uuid()),
        }
    }

    /// The command id of the item at `place` of this request, which is a batch: derived from the
    /// idempotency key and the place where there is a key, else fresh.
    pub fn item_command_id(&self, place: usize) -> CommandId {
        match &self.idempotency {
            Some(idempotency) => CommandId::for_item(&self.principal, &idempotency.key, place),
            None => CommandId(new_uuid()),
        }
    }
}

/// Which version the caller expects the aggregate to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Any version.
    Any,
    /// Exactly this one, from `If-Match` or `if_version`.
    Exactly(Version),
    /// Any of these, from an `If-Match` that lists several or none that can match.
    OneOf(VersionSet),
}
