//! The state of one connection: its requests in progress, the deadlines of its client, and what is
//! held until its bytes are written. [`super::wire`] reads and writes according to it, and the
//! middleware reports requests to it. Lives on its worker's thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use actix_web::dev::RequestHead;
use actix_web::http::ConnectionType;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use tokio::time::Instant;

use super::limits::{HeldBytes, Permit};

/// Largest head of a request in bytes: far beyond what any of our clients sends.
pub const MAX_HEAD_BYTES: usize = 32 << 10;

/// Concurrent requests on one HTTP/2 connection, as announced to the client.
pub const MAX_CONCURRENT_STREAMS: u32 = 128;

/// With more than this many times [`MAX_CONCURRENT_STREAMS`] requests in progress the client
/// ignores the limit and is disconnected. Up to there surplus requests are refused, because the
/// client may not have received the limit yet. Requests whose streams were reset still count, so
/// that resets are bounded too.
const STREAMS_TOLERANCE: usize = 2;

/// Bodies up to this size are read even without a reader, so that a small unread body does not cost
/// the connection.
const SMALL_BODY: u64 = 8 << 10;

/// HTTP's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0 and HTTP/1.1: one request at a time.
    One,
    /// HTTP/2.
    Two,
}

/// How long a client may take for its part.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To send the head of a request, from its first byte on.
    pub head: Duration,
    /// Between an answer and the next request.
    pub idle: Duration,
    /// To receive what is written to it.
    pub write: Duration,
}

/// What a client is late with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// The rest of a head.
    Head,
    /// Any request.
    Idle,
    /// Receiving an answer.
    Write,
}

/// What may be passed on of the incoming bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A head, and nothing behind it.
    Head,
    /// Up to so many bytes of a body.
    Body(u64),
    /// A body of unknown length, up to its possible end.
    Chunks,
    /// Nothing until the request in progress is done.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length { left: u64, small: bool },
    Chunked,
}

/// Resources held for an answer until it is written.
#[derive(Debug, Default)]
pub struct Held {
    /// The permit of the request in progress.
    pub place: Option<Permit>,
    /// The permit for the bytes of the answer.
    pub bytes: Option<HeldBytes>,
}

#[derive(Debug)]
pub struct Connection {
    version: Version,
    patience: Patience,
    /// Requests whose answers have not been passed on in full.
    calls: Cell<usize>,
    /// Handlers that wait for the body of their request.
    readers: Cell<usize>,
    framing: Cell<Framing>,
    idle_since: Cell<Instant>,
    head_since: Cell<Option<Instant>>,
    blocked_since: Cell<Option<Instant>>,
    /// By when each answer in progress must have been polled for its next bytes.
    stalls: RefCell<BTreeMap<u64, Instant>>,
    next_stall: Cell<u64>,
    unwritten: RefCell<Vec<Held>>,
    waker: RefCell<Option<Waker>>,
    /// The client said that it sends no other request.
    last: Cell<bool>,
    /// Everything that was answered is written.
    settled: Cell<bool>,
    cut: Cell<bool>,
    gone: Cell<bool>,
}

impl Connection {
    /// A connection that was just opened.
    pub fn new(version: Version, patience: Patience) -> Rc<Self> {
        Rc::new(Self {
            version,
            patience,
            calls: Cell::new(0),
            readers: Cell::new(0),
            framing: Cell::new(Framing::None),
            idle_since: Cell::new(Instant::now()),
            // A client that connects is expected to send a head.
            head_since: Cell::new(Some(Instant::now())),
            blocked_since: Cell::new(None),
            stalls: RefCell::default(),
            next_stall: Cell::new(0),
            unwritten: RefCell::default(),
            waker: RefCell::default(),
            last: Cell::new(false),
            settled: Cell::new(false),
            cut: Cell::new(false),
            gone: Cell::new(false),
        })
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// A request has arrived: it is in progress until the returned value is dropped.
    pub fn begin(self: &Rc<Self>, head: &RequestHead) -> Call {
        self.calls.set(self.calls.get() + 1);
        self.head_since.set(None);
        if self.version == Version::One {
            self.framing.set(framing(head.headers()));
            self.last
                .set(head.connection_type() == ConnectionType::Close);
            self.settled.set(false);
        } else if self.calls.get() > STREAMS_TOLERANCE * MAX_CONCURRENT_STREAMS as usize {
            self.cut.set(true);
            self.wake();
        }
        Call(self.clone())
    }

    /// Whether the client has more requests in progress than it was told.
    pub fn is_crowded(&self) -> bool {
        self.version == Version::Two && self.calls.get() > MAX_CONCURRENT_STREAMS as usize
    }

    /// Whether the connection has to be closed because of the client's behaviour.
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// A handler reads the body of the request in progress until the returned value is dropped.
    pub fn read_body(self: &Rc<Self>) -> BodyReader {
        self.readers.set(self.readers.get() + 1);
        self.wake();
        BodyReader(self.clone())
    }

    /// What may be passed on of the incoming bytes.
    pub fn next(&self) -> Next {
        let in_work = self.calls.get() > 0;
        match self.framing.get() {
            Framing::Length { left, small } if left > 0 => {
                // Without a request in progress the rest of an unread body is skipped.
                if small || !in_work || self.readers.get() > 0 {
                    Next::Body(left)
                } else {
                    Next::Nothing
                }
            }
            Framing::Chunked if self.readers.get() > 0 || !in_work => Next::Chunks,
            _ if in_work => Next::Nothing,
            _ => Next::Head,
        }
    }

    /// Records that so many bytes were passed on.
    pub fn handed_on(&self, bytes: usize) {
        if let Framing::Length { left, small } = self.framing.get() {
            let left = left.saturating_sub(bytes as u64);
            self.framing.set(Framing::Length { left, small });
        }
        if self.calls.get() == 0 && self.head_since.get().is_none() {
            self.head_since.set(Some(Instant::now()));
        }
    }

    /// Records that the body of the request in progress was read to its end.
    pub fn body_ended(&self) {
        self.framing.set(Framing::None);
    }

    /// Records that the client does not receive what is written to it.
    pub fn blocked(&self) {
        if self.blocked_since.get().is_none() {
            self.blocked_since.set(Some(Instant::now()));
        }
    }

    /// Whether nothing more will come of this connection, and nothing is left to be written. actix keeps
    /// one whose last body it did not read open for seconds, lest what is still on its way be answered
    /// with a reset; once all of that body has come there is nothing to wait for.
    pub fn is_over(&self) -> bool {
        let body_came = match self.framing.get() {
            Framing::None => true,
            Framing::Length { left, .. } => left == 0,
            Framing::Chunked => false,
        };
        self.last.get() && self.settled.get() && self.calls.get() == 0 && body_came
    }

    /// Records that everything passed on so far is written, which frees what was held for it.
    pub fn written(&self) {
        self.blocked_since.set(None);
        if self.calls.get() == 0 && self.last.get() && !self.settled.replace(true) {
            self.wake();
        }
        if !self.unwritten.borrow().is_empty() {
            drop(self.unwritten.take());
        }
    }

    /// Keeps `held` until what was passed on so far is written.
    pub fn hold_until_written(&self, held: Held) {
        if !self.gone.get() {
            self.unwritten.borrow_mut().push(held);
        }
    }

    /// Records that the connection is closed.
    pub fn closed(&self) {
        self.gone.set(true);
        drop(self.unwritten.take());
        drop(self.waker.take());
    }

    /// A new number for an answer in progress.
    pub fn answer_number(&self) -> u64 {
        let number = self.next_stall.get();
        self.next_stall.set(number + 1);
        number
    }

    /// The answer with this number must be polled for its next bytes by `due`.
    pub fn expect_progress(&self, number: u64, due: Instant) {
        let mut stalls = self.stalls.borrow_mut();
        let sooner = stalls.values().min().is_none_or(|first| due < *first);
        stalls.insert(number, due);
        drop(stalls);
        // HTTP/2 answers are written by tasks of their own, so the connection's task has to be
        // woken to set its timer.
        if sooner && self.version == Version::Two {
            self.wake();
        }
    }

    /// The answer with this number was polled, or has ended.
    pub fn progressed(&self, number: u64) {
        self.stalls.borrow_mut().remove(&number);
    }

    /// How long the client may take to receive what is written to it.
    pub fn write_patience(&self) -> Duration {
        self.patience.write
    }

    /// The next deadline of the client, and what it would be late with. `hurry`: connections are
    /// scarce, and an idle one is kept no longer than a head may take.
    pub fn due(&self, hurry: bool) -> Option<(Instant, Overdue)> {
        let blocked = self.blocked_since.get().map(|t| t + self.patience.write);
        let stalled = self.stalls.borrow().values().min().copied();
        let write = blocked.into_iter().chain(stalled).min();
        let write = write.map(|at| (at, Overdue::Write));
        if self.calls.get() > 0 || blocked.is_some() {
            return write;
        }
        let idle = if hurry {
            self.patience.idle.min(self.patience.head)
        } else {
            self.patience.idle
        };
        let idle = (self.idle_since.get() + idle, Overdue::Idle);
        let head = self.head_since.get();
        let head = head.map(|t| (t + self.patience.head, Overdue::Head));
        [Some(idle), head, write]
            .into_iter()
            .flatten()
            .min_by_key(|d| d.0)
    }

    /// How long to wait before checking again whether connections are scarce.
    pub fn recheck_after(&self) -> Duration {
        self.patience.head
    }

    /// The task to wake when more may be read or a timer must be set.
    pub fn register(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|k| k.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// A request in progress; ends when dropped.
#[derive(Debug)]
pub struct Call(Rc<Connection>);

impl Call {
    /// The request's connection.
    pub fn connection(&self) -> &Rc<Connection> {
        &self.0
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let calls = self.0.calls.get() - 1;
        self.0.calls.set(calls);
        if calls == 0 {
            self.0.idle_since.set(Instant::now());
            self.0.wake();
        }
    }
}

/// A handler that reads a body; ends when dropped.
#[derive(Debug)]
pub struct BodyReader(Rc<Connection>);

impl BodyReader {
    /// The body is read to its end.
    pub fn ended(self) {
        self.0.body_ended();
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        self.0.readers.set(self.0.readers.get() - 1);
    }
}

fn framing(headers: &HeaderMap) -> Framing {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Framing::Chunked;
    }
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|v| v.to_str().ok()?.trim().parse().ok());
    length.map_or(Framing::None, |left| Framing::Length {
        left,
        small: left <= SMALL_BODY,
    })
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
