//! The spans of messages on their way to the broker.

use std::collections::BTreeMap;

use super::message::TRACEPARENT;
use crate::domain::trace::TraceContext;
use crate::store::ports::transport::{Message, Outcome};
use crate::store::traces::{self, Kind, Span};

/// The span of a message's way to the broker, if its event names a trace and traces are recorded; the
/// message then says so to its consumers.
pub fn publish_span(message: &mut Message) -> Option<Span> {
    if !traces::is_on() {
        return None;
    }
    let mut headers = message.headers.iter_mut();
    let (_, header) = headers.find(|(name, _)| *name == TRACEPARENT)?;
    let parent = TraceContext::parse(header)?;
    let mut span = Span::child(Some(parent), Kind::Producer, "send");
    *header = span.context()?.to_string();
    span.rename(|| format!("send {}", message.topic));
    span.set("messaging.system", "kafka");
    span.set("messaging.operation.type", "send");
    span.set("messaging.operation.name", "send");
    span.set("messaging.destination.name", message.topic.clone());
    Some(span)
}

pub fn end_spans(spans: BTreeMap<usize, Span>, outcomes: &[Outcome]) {
    for (i, mut span) in spans {
        match outcomes.get(i) {
            Some(Outcome::Delivered) => {}
            Some(Outcome::Rejected(_)) => span.fail("rejected"),
            Some(Outcome::Failed(error)) => span.fail(error.kind.as_str()),
            None => span.fail("not_sent"),
        }
    }
}
