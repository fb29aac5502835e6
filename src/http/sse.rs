//! A live stream of events to one client. It holds one page at a time: the next is read only when
//! the connection has taken the last, so a slow client costs one page of memory, not a queue.
//!
//! A stream whose filter matches little reads many events that it does not send. Up to
//! [`AS_IT_COMES`] is read at once; streams with more to read take turns, and each turn is
//! followed by a pause as long as itself, so that all of them together use half a core at most.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::auth::Identity;
use super::extract::Caller;
use super::limits::{HttpLimits, Permit};
use super::problem::Problem;
use crate::clock;
use crate::service::Service;
use crate::service::error::ServiceError;
use crate::service::feed::{FeedBounds, FeedPage};
use crate::service::view::{EventView, Page};

/// Pause between heartbeats: half of the 30 s after which the strictest usual proxies close a
/// silent connection.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events sent at once at most, whatever the client asks for: bounds what a slow client holds.
const MAX_AT_ONCE: usize = 100;
/// Bytes sent at once at most; a larger event is sent alone.
const MAX_BYTES_AT_ONCE: usize = 256 << 10;
/// Read without waiting for a turn: what arrives in a moment.
const AS_IT_COMES: Portion = Portion {
    events: 256,
    bytes: 1 << 20,
};
/// Read in one turn: a few thousand events, or some of the largest commits.
const ONE_TURN: Portion = Portion {
    events: 4_096,
    bytes: 16 << 20,
};
/// Longest time of one read: with the longest wait for a turn before it, less than proxies wait for a
/// sign of life.
const ONE_READ: Duration = Duration::from_secs(5);
/// Pause after an empty page that needed no waiting: events of other types arrive all the time, and
/// a stream that wants none of them must not spin.
const IDLE_PAUSE: Duration = Duration::from_millis(20);
/// Pause before a failed read is repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A live stream.
pub struct Live {
    service: Arc<Service>,
    closing: watch::Receiver<bool>,
    limits: Arc<HttpLimits>,
    /// Whose token opened it; when that ends or is taken out, the stream does too.
    identity: Identity,
    turns: Arc<Semaphore>,
    _places: (Permit, Option<Permit>),
    cursor: Option<String>,
    limit: usize,
    types: Vec<String>,
    pending: Option<Page<EventView>>,
    /// There was more to read than arrives in a moment.
    behind: bool,
    last_sent: Instant,
    ended: bool,
}

/// How much is read at once, sent or not.
#[derive(Clone, Copy)]
struct Portion {
    events: usize,
    /// Bytes of the events.
    bytes: usize,
}

enum Step {
    Send(String),
    Again,
}

impl Live {
    /// A stream of the events committed after `cursor`.
    pub fn new(
        service: Arc<Service>,
        caller: &Caller,
        places: (Permit, Option<Permit>),
        cursor: Option<String>,
        limit: usize,
        types: Vec<String>,
    ) -> Self {
        Self {
            service,
            closing: caller.limits.closing(),
            limits: caller.limits.clone(),
            identity: caller.identity().clone(),
            turns: caller.limits.turns.clone(),
            _places: places,
            cursor,
            limit: limit.min(MAX_AT_ONCE),
            types,
            pending: None,
            behind: false,
            last_sent: Instant::now(),
            ended: false,
        }
    }

    /// Reads the first page, so that an error at the start can still be answered as a problem.
    pub async fn open(mut self, caller: &Caller) -> Result<Self, Problem> {
        let read = self.read(AS_IT_COMES);
        let first = caller.within(read).await?;
        self.pending = Some(self.taken(first));
        Ok(self)
    }

    async fn read(&self, portion: Portion) -> Result<FeedPage, ServiceError> {
        let bounds = FeedBounds {
            events: self.limit,
            bytes: MAX_BYTES_AT_ONCE,
            scanned: portion.events,
            scanned_bytes: portion.bytes,
            time: ONE_READ,
        };
        let after = self.cursor.as_deref();
        self.service.feed(after, bounds, &self.types).await
    }

    /// The events of what was read. Without a filter everything that is read is sent, so that the
    /// client's pace is pace enough.
    fn taken(&mut self, read: FeedPage) -> Page<EventView> {
        self.behind = read.cut_short && !self.types.is_empty();
        read.page
    }

    /// The next page; `None` when a heartbeat is due before its turn comes.
    async fn next_page(&mut self) -> Option<Result<Page<EventView>, ServiceError>> {
        if let Some(page) = self.pending.take() {
            return Some(Ok(page));
        }
        if !self.behind {
            let read = self.read(AS_IT_COMES).await;
            return Some(read.map(|read| self.taken(read)));
        }
        let patience = HEARTBEAT.saturating_sub(self.last_sent.elapsed());
        let turn = timeout(patience, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return None;
        };
        let began = Instant::now();
        let read = self.read(ONE_TURN).await;
        // Also when this stream is dropped meanwhile.
        let pause = began.elapsed();
        actix_rt::spawn(async move {
            sleep(pause).await;
            drop(turn);
        });
        Some(read.map(|read| self.taken(read)))
    }

    /// The bytes of the answer's body, until shutdown or until the client disconnects.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, Problem>> {
        unfold(self, |mut live| async {
            let text = live.next().await?;
            Some((Ok(Bytes::from(text)), live))
        })
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            if self.ended {
                return None;
            }
            if *self.closing.borrow() {
                self.ended = true;
                return Some(": the service is closing\nretry: 1000\n\n".to_owned());
            }
            if !self.limits.auth.still_knows(&self.identity) {
                self.ended = true;
                return Some(": the token has ended\n\n".to_owned());
            }
            let left = self.identity.expires.map_or(Duration::MAX, left_until);
            let mut closing = self.closing.clone();
            let step = tokio::select! {
                step = self.step() => step,
                () = sleep(left) => Step::Again,
                told = closing.wait_for(|closing| *closing) => {
                    // An error means that the sender is gone, and the service with it.
                    self.ended = told.is_err();
                    Step::Again
                }
            };
            if let Step::Send(text) = step {
                self.last_sent = Instant::now();
                return Some(text);
            }
        }
    }

    async fn step(&mut self) -> Step {
        let Some(page) = self.next_page().await else {
            return Step::Send(self.heartbeat("heartbeat"));
        };
        let failure = match page {
            Ok(page) if page.items.is_empty() => {
                if page.next_cursor.is_some() {
                    self.cursor = page.next_cursor;
                }
                if self.behind && self.last_sent.elapsed() < HEARTBEAT {
                    return Step::Again;
                }
                match self.wait().await {
                    Ok(step) => return step,
                    Err(error) => error,
                }
            }
            Ok(page) => match self.render(page) {
                Ok(text) => return Step::Send(text),
                Err(error) => error,
            },
            Err(error) => error,
        };
        self.failed(failure).await
    }

    /// Waits for new commits, or until a heartbeat is due.
    async fn wait(&self) -> Result<Step, ServiceError> {
        let began = Instant::now();
        let patience = HEARTBEAT.saturating_sub(self.last_sent.elapsed());
        if !patience.is_zero() {
            let after = self.cursor.as_deref();
            self.service.wait_for_feed(after, patience).await?;
            if began.elapsed() < IDLE_PAUSE {
                sleep(IDLE_PAUSE).await;
            }
        }
        Ok(if self.last_sent.elapsed() >= HEARTBEAT {
            Step::Send(self.heartbeat("heartbeat"))
        } else {
            Step::Again
        })
    }

    /// An SSE comment; its `id` is the cursor, so that a client that resumes does not read events
    /// again that did not match.
    fn heartbeat(&self, comment: &str) -> String {
        match &self.cursor {
            Some(cursor) => format!(": {comment}\nid: {cursor}\n\n"),
            None => format!(": {comment}\n\n"),
        }
    }

    /// Waits after a temporary failure, with the connection kept; a permanent one ends the stream,
    /// with the problem as its last event.
    async fn failed(&mut self, error: ServiceError) -> Step {
        match error {
            ServiceError::Unavailable { .. }
            | ServiceError::NoRoom { .. }
            | ServiceError::Overloaded { .. }
            | ServiceError::DeadlineExceeded => {
                sleep(RETRY_PAUSE).await;
                if self.last_sent.elapsed() >= HEARTBEAT {
                    Step::Send(self.heartbeat("the log cannot be read now"))
                } else {
                    Step::Again
                }
            }
            error => {
                self.ended = true;
                let problem = Problem::from(error);
                if let Some(cause) = problem.cause() {
                    tracing::error!(cause, "a live stream failed: {cause}");
                }
                let body = serde_json::to_string(problem.body()).unwrap_or_default();
                Step::Send(format!("event: error\ndata: {body}\n\n"))
            }
        }
    }

    fn render(&mut self, page: Page<EventView>) -> Result<String, ServiceError> {
        let size: usize = page.items.iter().map(|e| e.envelope.len() + 200).sum();
        let mut out = String::with_capacity(size);
        for event in &page.items {
            // Each cursor follows from the one before it, so every partition's progress counts.
            let id = self
                .service
                .cursor_after(self.cursor.as_deref(), event.position)?;
            write_event(&mut out, &id, event)?;
            self.cursor = Some(id);
        }
        if page.next_cursor.is_some() {
            self.cursor = page.next_cursor;
        }
        Ok(out)
    }
}

/// How long it is until then; nothing if it has passed.
fn left_until(moment: Timestamp) -> Duration {
    Duration::try_from(moment.duration_since(clock::now())).unwrap_or_default()
}

#[derive(Deserialize)]
struct TypeOnly<'a> {
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
}

/// Writes one event. An event is one line of JSON, so its data needs no splitting.
fn write_event(out: &mut String, id: &str, event: &EventView) -> Result<(), ServiceError> {
    let internal = |e: serde_json::Error| ServiceError::Internal(e.to_string());
    let head: TypeOnly<'_> = serde_json::from_slice(&event.envelope).map_err(internal)?;
    let data = serde_json::to_string(event).map_err(internal)?;
    // Cannot fail: it writes to a String.
    let _ = write!(
        out,
        "id: {id}\nevent: {}\ndata: {data}\n\n",
        head.event_type
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_three_fields_and_an_empty_line() {
        let event = EventView {
            position: "1/2/3".parse().unwrap(),
            envelope: Bytes::from_static(br#"{"id":"x","type":"A","data":{"s":"a\nb"}}"#),
        };
        let mut out = String::new();
        write_event(&mut out, "c7", &event).unwrap();
        assert_eq!(
            out,
            "id: c7\nevent: A\ndata: {\"id\":\"x\",\"type\":\"A\",\"data\":{\"s\":\"a\\nb\"},\"position\":\"1/2/3\"}\n\n"
        );
        assert_eq!(out.lines().count(), 4);
    }
}
