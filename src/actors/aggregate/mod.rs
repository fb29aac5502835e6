//! One actor per live entity: commands on one entity run one after the other, each decided on the
//! state that the one before it left. The work is in [`entity`]; this is the actix shell around it,
//! and [`registry`] is how callers get at it.

pub mod entity;
pub mod fold;
pub mod registry;
mod spans;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod weight_tests;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use self::entity::{Entity, Execute, Executed};
use super::claim::Claim;
use super::error::CallError;
use super::supervision::guard::note_wait;
use crate::domain::aggregate::Aggregate;
use crate::domain::ids::{StreamName, Version};
use crate::metrics;
use crate::store::traces::{self, Kind, Span};

pub struct AggregateActor<A: Aggregate> {
    make: Arc<dyn Fn() -> Entity<A> + Send + Sync>,
    /// Taken out while a command runs; the command's future gives it back.
    entity: Option<Entity<A>>,
}

impl<A: Aggregate> AggregateActor<A> {
    /// `make` builds the entity at each start, so that a restart begins without state.
    pub fn new(make: Arc<dyn Fn() -> Entity<A> + Send + Sync>) -> Self {
        let entity = Some(make());
        Self { make, entity }
    }
}

impl<A: Aggregate + Unpin> Actor for AggregateActor<A> {
    type Context = Context<Self>;
}

impl<A: Aggregate + Unpin> Supervised for AggregateActor<A> {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Self::new(self.make.clone());
    }
}

pub struct ExecuteMessage<A: Aggregate> {
    pub execute: Execute<A>,
    /// When it was sent.
    pub sent: Instant,
    /// Whether the sender may still withdraw it.
    pub claim: Claim,
}

impl<A: Aggregate> Message for ExecuteMessage<A> {
    type Result = Result<Executed<A>, CallError>;
}

/// Asks an entity for its state.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Whether to read what other processes have written first.
    pub catch_up: bool,
}

#[derive(Debug, Clone)]
pub struct Seen<A> {
    pub state: Arc<A>,
    pub version: Version,
}

pub struct ReadMessage<A> {
    pub wanted: Read,
    /// The kind of entity.
    pub kind: std::marker::PhantomData<A>,
}

impl<A: Aggregate> Message for ReadMessage<A> {
    type Result = Result<Seen<A>, CallError>;
}

impl<A: Aggregate + Unpin> Handler<ExecuteMessage<A>> for AggregateActor<A> {
    type Result = AtomicResponse<Self, Result<Executed<A>, CallError>>;

    fn handle(&mut self, message: ExecuteMessage<A>, _: &mut Self::Context) -> Self::Result {
        let waited = message.sent.elapsed();
        metrics::mailbox_wait(waited);
        note_wait(waited);
        // Withdrawn while it waited for its turn: nothing may be done.
        if !message.claim.begin() {
            let refused: Result<Executed<A>, _> = Err(CallError::DeadlineExceeded);
            let refused = actix::fut::ready(refused);
            return AtomicResponse::new(Box::pin(refused));
        }
        let entity = self.entity.take();
        let work = async move {
            // Only an incarnation that was killed loses its entity, and it handles no message.
            let Some(mut entity) = entity else {
                return (None, Err(CallError::Internal("entity in use".into())));
            };
            let mut execute = message.execute;
            let mut span = Span::child(execute.trace, Kind::Internal, "command");
            span.began_before(waited);
            // From here on the command stands for the request: its events name it, and it is what
            // their delivery is part of.
            execute.trace = span.context();
            let outcome = traces::within(execute.trace, entity.execute(execute)).await;
            describe(span, entity.stream(), waited, &outcome);
            (Some(entity), outcome)
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(
            |(entity, outcome), actor, _| {
                actor.entity = entity;
                outcome
            },
        )))
    }
}

/// Says of a command's span what came of it, and ends it. A refusal is an answer, not a failure.
fn describe<A>(
    mut span: Span,
    stream: &StreamName,
    waited: Duration,
    outcome: &Result<Executed<A>, CallError>,
) {
    if !span.is_recorded() {
        return;
    }
    let aggregate = metrics::aggregate_label(stream.stream_type());
    span.rename(|| format!("command {aggregate}"));
    span.set("oms.aggregate", aggregate);
    span.set("oms.wait_us", waited.as_micros() as u64);
    match outcome {
        Ok(executed) => {
            span.set("oms.version", executed.version.0);
            span.set("oms.replayed", executed.replayed);
        }
        Err(CallError::Refused(_)) => span.set("oms.refused", true),
        Err(error) => span.fail(error.label()),
    }
}

impl<A: Aggregate + Unpin> Handler<ReadMessage<A>> for AggregateActor<A> {
    type Result = AtomicResponse<Self, Result<Seen<A>, CallError>>;

    fn handle(&mut self, message: ReadMessage<A>, _: &mut Self::Context) -> Self::Result {
        let entity = self.entity.take();
        let work = async move {
            let Some(mut entity) = entity else {
                return (None, Err(CallError::Internal("entity in use".into())));
            };
            let outcome = entity.read(&message.wanted).await;
            (Some(entity), outcome)
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(
            |(entity, outcome), actor, _| {
                actor.entity = entity;
                outcome
            },
        )))
    }
}
