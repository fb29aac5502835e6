//! What is known of one connection: the requests in work on it, when it must have done its next
//! step, and what is held until its bytes are written. [`super::wire`] reads and writes by it, the
//! middleware tells it of requests. It lives and dies on its worker's thread.

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

/// Largest head of a request in bytes: far beyond what any client of ours sends.
pub const MAX_HEAD_BYTES: usize = 32 << 10;

/// Requests at once on one HTTP/2 connection, as announced to its client.
pub const MAX_CONCURRENT_STREAMS: u32 = 128;

/// Beyond this many times [`MAX_CONCURRENT_STREAMS`] requests in work a client has not listened, and
/// the connection is cut. In between they are refused: it may not have heard of the limit yet.
/// Requests whose streams were reset are still in work, so resets are bounded too.
const STREAMS_TOLERANCE: usize = 2;

/// Bodies up to this size are taken in whether anybody reads them or not, so that a small body that
/// nobody wants does not cost the connection.
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
    /// To take what is written to it.
    pub write: Duration,
}

/// Which of a client's duties is overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// The rest of a head.
    Head,
    /// Any request.
    Idle,
    /// Taking an answer.
    Write,
}

/// What may be handed on of the bytes that come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A head, and nothing behind it.
    Head,
    /// So many bytes of a body.
    Body(u64),
    /// A body of unknown length: up to whatever may be its end.
    Chunks,
    /// Nothing before the request in work is done.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length { left: u64, small: bool },
    Chunked,
}

/// What is held for an answer until it is written.
#[derive(Debug, Default)]
pub struct Held {
    /// The place among the requests in work.
    pub place: Option<Permit>,
    /// The bytes of the answer.
    pub bytes: Option<HeldBytes>,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    version: Version,
    patience: Patience,
    /// Requests whose answers have not been handed over in full.
    calls: Cell<usize>,
    /// Handlers that wait for the body of their request.
    readers: Cell<usize>,
    framing: Cell<Framing>,
    idle_since: Cell<Instant>,
    head_since: Cell<Option<Instant>>,
    blocked_since: Cell<Option<Instant>>,
    /// When each answer in progress must have been asked for its next bytes.
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
    /// A connection that has just been opened.
    pub fn new(version: Version, patience: Patience) -> Rc<Self> {
        Rc::new(Self {
            version,
            patience,
            calls: Cell::new(0),
            readers: Cell::new(0),
            framing: Cell::new(Framing::None),
            idle_since: Cell::new(Instant::now()),
            // Who opens a connection has something to say.
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

    /// HTTP's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// A request has come in: it is in work until what is returned is dropped.
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

    /// Whether more requests are in work than the client was told it may have.
    pub fn is_crowded(&self) -> bool {
        self.version == Version::Two && self.calls.get() > MAX_CONCURRENT_STREAMS as usize
    }

    /// Whether the connection is to be cut for what its client did.
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Somebody reads the body of the request in work, until what is returned is dropped.
    pub fn read_body(self: &Rc<Self>) -> BodyReader {
        self.readers.set(self.readers.get() + 1);
        self.wake();
        BodyReader(self.clone())
    }

    /// What may be handed on of the bytes that come in.
    pub fn next(&self) -> Next {
        let in_work = self.calls.get() > 0;
        match self.framing.get() {
            Framing::Length { left, small } if left > 0 => {
                // Without a request in work the rest of a body that nobody wanted goes by.
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

    /// So many bytes were handed on.
    pub fn handed_on(&self, bytes: usize) {
        if let Framing::Length { left, small } = self.framing.get() {
            let left = left.saturating_sub(bytes as u64);
            self.framing.set(Framing::Length { left, small });
        }
        if self.calls.get() == 0 && self.head_since.get().is_none() {
            self.head_since.set(Some(Instant::now()));
        }
    }

    /// The body of the request in work was read to its end.
    pub fn body_ended(&self) {
        self.framing.set(Framing::None);
    }

    /// The client does not take what is written to it.
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

    /// Everything handed over so far is written: what was held for it is free.
    pub fn written(&self) {
        self.blocked_since.set(None);
        if self.calls.get() == 0 && self.last.get() && !self.settled.replace(true) {
            self.wake();
        }
        if !self.unwritten.borrow().is_empty() {
            drop(self.unwritten.take());
        }
    }

    /// Keeps `held` until what has been handed over is written.
    pub fn hold_until_written(&self, held: Held) {
        if !self.gone.get() {
            self.unwritten.borrow_mut().push(held);
        }
    }

    /// The connection is closed.
    pub fn closed(&self) {
        self.gone.set(true);
        drop(self.unwritten.take());
        drop(self.waker.take());
    }

    /// A number for an answer in progress.
    pub fn answer_number(&self) -> u64 {
        let number = self.next_stall.get();
        self.next_stall.set(number + 1);
        number
    }

    /// The answer of this number must be asked for its next bytes by `due`.
    pub fn expect_progress(&self, number: u64, due: Instant) {
        let mut stalls = self.stalls.borrow_mut();
        let sooner = stalls.values().min().is_none_or(|first| due < *first);
        stalls.insert(number, due);
        drop(stalls);
        // Over HTTP/2 answers are written by tasks of their own; the connection's must set its
        // alarm.
        if sooner && self.version == Version::Two {
            self.wake();
        }
    }

    /// The answer of this number has been asked for more, or has ended.
    pub fn progressed(&self, number: u64) {
        self.stalls.borrow_mut().remove(&number);
    }

    /// How long the client may take to take what is written to it.
    pub fn write_patience(&self) -> Duration {
        self.patience.write
    }

    /// The next moment at which the client will have been too slow, and at what. `hurry` says that
    /// connections are short: then an idle one is kept no longer than a head may take.
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

    /// How long to wait before looking again whether connections have become short.
    pub fn look_again(&self) -> Duration {
        self.patience.head
    }

    /// Whom to wake when more may be read, or an alarm must be set.
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

/// A request in work.
#[derive(Debug)]
pub struct Call(Rc<Connection>);

impl Call {
    /// Where it came from.
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

/// Somebody who reads a body.
#[derive(Debug)]
pub struct BodyReader(Rc<Connection>);

impl BodyReader {
    /// There is no more of it.
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
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(5),
        idle: Duration::from_secs(75),
        write: Duration::from_secs(30),
    };

    fn begin(connection: &Rc<Connection>, headers: &[(&str, &str)]) -> Call {
        let mut request = TestRequest::default();
        for header in headers {
            request = request.append_header(*header);
        }
        connection.begin(request.to_http_request().head())
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_every_request_has_a_deadline_for_its_head() {
        let connection = Connection::new(Version::One, PATIENCE);
        let start = Instant::now();
        let idle = |from| Some((from + PATIENCE.idle, Overdue::Idle));
        let first = Some((start + PATIENCE.head, Overdue::Head));
        assert_eq!(connection.due(false), first);
        drop(begin(&connection, &[]));
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            connection.handed_on(1);
            let head = Some((Instant::now() + PATIENCE.head, Overdue::Head));
            tokio::time::advance(Duration::from_secs(1)).await;
            connection.handed_on(1);
            assert_eq!(connection.due(false), head, "later bytes gain no time");
            let call = begin(&connection, &[]);
            assert_eq!(connection.due(false), None);
            drop(call);
            assert_eq!(connection.due(false), idle(Instant::now()));
        }
        let hurried = (Instant::now() + PATIENCE.head, Overdue::Idle);
        assert_eq!(connection.due(true), Some(hurried));
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_one_request_at_a_time_is_handed_on() {
        let connection = Connection::new(Version::One, PATIENCE);
        assert_eq!(connection.next(), Next::Head);
        let call = begin(&connection, &[]);
        assert_eq!(connection.next(), Next::Nothing);
        drop(call);
        let call = begin(&connection, &[("content-length", "20")]);
        assert_eq!(connection.next(), Next::Body(20));
        connection.handed_on(20);
        assert_eq!(connection.next(), Next::Nothing);
        drop(call);
        assert_eq!(connection.next(), Next::Head);
        let call = begin(&connection, &[("content-length", "1000000")]);
        assert_eq!(connection.next(), Next::Nothing, "nobody reads it");
        let reader = connection.read_body();
        assert_eq!(connection.next(), Next::Body(1_000_000));
        drop(reader);
        drop(call);
        assert_eq!(connection.next(), Next::Body(1_000_000), "it goes by");
        let call = begin(&connection, &[("transfer-encoding", "chunked")]);
        assert_eq!(connection.next(), Next::Nothing);
        let reader = connection.read_body();
        assert_eq!(connection.next(), Next::Chunks);
        reader.ended();
        assert_eq!(connection.next(), Next::Nothing);
        drop(call);
        assert_eq!(connection.next(), Next::Head);
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_who_does_not_read_is_overdue() {
        let connection = Connection::new(Version::One, PATIENCE);
        let call = begin(&connection, &[]);
        connection.blocked();
        let due = Some((Instant::now() + PATIENCE.write, Overdue::Write));
        tokio::time::advance(Duration::from_secs(1)).await;
        connection.blocked();
        assert_eq!(connection.due(false), due);
        drop(call);
        assert_eq!(connection.due(false), due, "the last bytes count as well");
        connection.written();
        assert_ne!(connection.due(false), due);
        let sooner = Instant::now() + Duration::from_secs(3);
        connection.expect_progress(7, sooner);
        assert_eq!(connection.due(false), Some((sooner, Overdue::Write)));
        connection.progressed(7);
        assert_ne!(connection.due(false), Some((sooner, Overdue::Write)));
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_an_idle_connection_is_no_less_overdue_over_http2() {
        let connection = Connection::new(Version::Two, PATIENCE);
        let first = Some((Instant::now() + PATIENCE.head, Overdue::Head));
        assert_eq!(connection.due(false), first, "who connects asks");
        let (one, other) = (begin(&connection, &[]), begin(&connection, &[]));
        drop(one);
        assert_eq!(connection.due(true), None, "one is in work");
        tokio::time::advance(Duration::from_secs(9)).await;
        drop(other);
        let idle = Some((Instant::now() + PATIENCE.idle, Overdue::Idle));
        // Neither pings nor half a head gain time.
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(connection.due(false), idle);
        let hurried = connection.due(true).map(|due| due.0);
        assert!(hurried < idle.map(|due| due.0), "others wait for its place");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_over_once_its_last_body_came_and_its_answer_is_written() {
        let close = ("connection", "close");
        let connection = Connection::new(Version::One, PATIENCE);
        let call = begin(&connection, &[close, ("content-length", "20")]);
        connection.written();
        drop(call);
        assert!(!connection.is_over(), "nothing of the answer is written");
        connection.written();
        assert!(!connection.is_over(), "the body is on its way");
        connection.handed_on(20);
        assert!(connection.is_over());
        drop(begin(&connection, &[]));
        connection.written();
        assert!(!connection.is_over(), "there may be another request");
        drop(begin(
            &connection,
            &[close, ("transfer-encoding", "chunked")],
        ));
        connection.written();
        assert!(!connection.is_over(), "who knows where its body ends");
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_http2_streams_are_bounded() {
        let connection = Connection::new(Version::Two, PATIENCE);
        let mut calls = Vec::new();
        for _ in 0..MAX_CONCURRENT_STREAMS {
            calls.push(begin(&connection, &[]));
        }
        assert!(!connection.is_crowded());
        calls.push(begin(&connection, &[]));
        assert!(connection.is_crowded() && !connection.is_cut());
        for _ in 0..MAX_CONCURRENT_STREAMS {
            calls.push(begin(&connection, &[]));
        }
        assert!(connection.is_cut());
    }
}
