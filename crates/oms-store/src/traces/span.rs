//! One span, and the spans of work that is done for several traces at once.

use std::borrow::Cow;
use std::time::Duration;

use oms_core::domain::trace::TraceContext;
use tokio::time::Instant;

use super::{Recorder, child_of, recorder};

/// Links of a span at most, as OpenTelemetry has it; what is beyond is counted.
const MAX_LINKS: usize = 128;

/// The part that a span plays, in OpenTelemetry's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work within the service.
    Internal,
    /// A request to the service.
    Server,
    /// A call to a store.
    Client,
    /// A message that is sent.
    Producer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        (number as u64).into()
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// A span that has ended.
#[derive(Debug, Clone)]
pub struct FinishedSpan {
    /// Its trace and itself.
    pub context: TraceContext,
    /// The span that it is part of; `None` for the first of a trace.
    pub parent: Option<u64>,
    /// Its name: one of few.
    pub name: Cow<'static, str>,
    /// Its part.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// What is known of it. Names of principals, bodies and keys MUST NOT be among them.
    pub attributes: Vec<(&'static str, Value)>,
    /// Other spans that it belongs to.
    pub links: Vec<TraceContext>,
    /// Links beyond the limit.
    pub dropped_links: u32,
    /// Whether it failed.
    pub failed: bool,
}

/// A span; recorded when it is dropped, if its trace is recorded.
#[derive(Debug, Default)]
pub struct Span {
    context: Option<TraceContext>,
    open: Option<Box<Open>>,
}

#[derive(Debug)]
struct Open {
    recorder: &'static Recorder,
    begun: Instant,
    span: FinishedSpan,
}

impl Span {
    /// The span of a request; `caller` is the one of its `traceparent`.
    pub fn request(caller: Option<TraceContext>) -> Self {
        let Some(recorder) = recorder() else {
            return Self::default();
        };
        let parent = caller.map(|caller| caller.span);
        let context = recorder.request(caller);
        Self::begin(recorder, context, parent, Kind::Server, "request")
    }

    /// A span within another one. Nothing without a parent.
    pub fn child(parent: Option<TraceContext>, kind: Kind, name: &'static str) -> Self {
        let (Some(recorder), Some(parent)) = (recorder(), parent) else {
            return Self::default();
        };
        if !parent.sampled {
            return Self {
                context: Some(parent),
                open: None,
            };
        }
        Self::begin(recorder, child_of(parent), Some(parent.span), kind, name)
    }

    pub(super) fn begin(
        recorder: &'static Recorder,
        context: TraceContext,
        parent: Option<u64>,
        kind: Kind,
        name: &'static str,
    ) -> Self {
        let open = || {
            let start = u64::try_from((recorder.now)().as_nanosecond()).unwrap_or(0);
            Box::new(Open {
                recorder,
                begun: Instant::now(),
                span: FinishedSpan {
                    context,
                    parent,
                    name: name.into(),
                    kind,
                    start,
                    end: start,
                    attributes: Vec::new(),
                    links: Vec::new(),
                    dropped_links: 0,
                    failed: false,
                },
            })
        };
        Self {
            context: Some(context),
            open: context.sampled.then(open),
        }
    }

    /// What its parts are children of; there too when the trace is not recorded, as long as spans
    /// are recorded at all.
    pub fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// Whether it will be recorded.
    pub fn is_recorded(&self) -> bool {
        self.open.is_some()
    }

    /// Gives it a name that is not known to the compiler; made if it is recorded.
    pub fn rename(&mut self, name: impl FnOnce() -> String) {
        if let Some(open) = &mut self.open {
            open.span.name = name().into();
        }
    }

    /// Says something of it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.open {
            open.span.attributes.push((name, value.into()));
        }
    }

    /// It failed, for one of few reasons.
    pub fn fail(&mut self, reason: &'static str) {
        self.set("error.type", reason);
        if let Some(open) = &mut self.open {
            open.span.failed = true;
        }
    }

    /// It had begun so long before it was made.
    pub fn began_before(&mut self, elapsed: Duration) {
        if let Some(open) = &mut self.open {
            let nanos = nanos(elapsed);
            open.span.start = open.span.start.saturating_sub(nanos);
            open.begun = open.begun.checked_sub(elapsed).unwrap_or(open.begun);
        }
    }

    fn link(&mut self, to: TraceContext) {
        if let Some(open) = &mut self.open {
            if open.span.links.len() < MAX_LINKS {
                open.span.links.push(to);
            } else {
                open.span.dropped_links += 1;
            }
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            let mut span = open.span;
            span.end = span.start.saturating_add(nanos(open.begun.elapsed()));
            open.recorder.record(span);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One piece of work that is done for several traces at once, such as the put of a batch. It is
/// recorded in each of them, so that each trace is complete by itself; links say that it was the same
/// work, and whose else it was.
#[derive(Debug, Default)]
pub struct SharedSpan(Vec<Span>);

impl SharedSpan {
    /// The spans of work for these `parents`: one for each trace, within the first of its parents
    /// and linked to the others, and all of them linked to the first.
    pub fn begin(
        parents: impl IntoIterator<Item = TraceContext>,
        kind: Kind,
        name: &'static str,
    ) -> Self {
        match recorder() {
            Some(recorder) => Self::begin_in(recorder, parents, kind, name),
            None => Self::default(),
        }
    }

    pub(super) fn begin_in(
        recorder: &'static Recorder,
        parents: impl IntoIterator<Item = TraceContext>,
        kind: Kind,
        name: &'static str,
    ) -> Self {
        let mut parents: Vec<TraceContext> = parents.into_iter().filter(|p| p.sampled).collect();
        // Those of one trace are neighbours then; the order within a trace is as given.
        parents.sort_by_key(|p| p.trace);
        let mut spans: Vec<Span> = Vec::new();
        for traced in parents.chunk_by(|a, b| a.trace == b.trace) {
            let parent = traced[0];
            let context = child_of(parent);
            let mut span = Span::begin(recorder, context, Some(parent.span), kind, name);
            let mut last = parent;
            for other in &traced[1..] {
                // Events of one command follow each other.
                if *other != last {
                    span.link(*other);
                }
                last = *other;
            }
            if let Some(first) = spans.first().and_then(Span::context) {
                span.link(first);
            }
            spans.push(span);
        }
        Self(spans)
    }

    /// The spans of a part of this work.
    pub fn part(&self, kind: Kind, name: &'static str) -> Self {
        Self::begin(self.0.iter().filter_map(Span::context), kind, name)
    }

    /// Says something of the work.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let [first, others @ ..] = &mut self.0[..] {
            let value = value.into();
            for span in others {
                span.set(name, value.clone());
            }
            first.set(name, value);
        }
    }

    /// The work failed.
    pub fn fail(&mut self, reason: &'static str) {
        self.0.iter_mut().for_each(|span| span.fail(reason));
    }

    /// It had begun so long before.
    pub fn began_before(&mut self, elapsed: Duration) {
        let spans = self.0.iter_mut();
        spans.for_each(|span| span.began_before(elapsed));
    }
}
