//! The bytes of a connection, between the socket and actix. actix has no deadline for the head of a
//! second request and none for writing, queues all pipelined requests, and announces no limit of
//! HTTP/2 streams. All of that is handled here, on the level of bytes: one request at a time is
//! passed on, a timer disconnects clients that miss a deadline, and the limit is inserted into the
//! first SETTINGS frame.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;

use super::connection::{
    Connection, MAX_CONCURRENT_STREAMS, MAX_HEAD_BYTES, Next, Overdue, Version,
};
use super::limits::{HttpLimits, Permit};

pub enum Socket {
    Plain(TcpStream),
    /// Boxed, because it is much larger.
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! either {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Plain($io) => {
                let $io = Pin::new($io);
                $call
            }
            Socket::Tls($io) => {
                let $io = Pin::new(&mut **$io);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, data))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
    }
}

/// Progress of the first SETTINGS frame.
enum Settings {
    /// Not written yet.
    Due,
    /// Being written in its new form; the number is the length of the original.
    Writing(Bytes, usize),
    /// Written, or the connection is HTTP/1.
    Done,
}

pub struct Wire<T = Socket> {
    io: T,
    connection: Rc<Connection>,
    limits: Arc<HttpLimits>,
    alarm: Option<Pin<Box<Sleep>>>,
    /// Read, but not passed on yet.
    ahead: BytesMut,
    head: HeadEnd,
    head_bytes: usize,
    /// The end of a head was passed on: nothing more is until it is known what the request asks
    /// for.
    pause: bool,
    ended: bool,
    write_blocked: bool,
    read_refused: bool,
    settings: Settings,
    _open: Permit,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    /// The bytes of a new connection; `open` counts it among the open ones.
    pub fn new(io: T, connection: Rc<Connection>, limits: Arc<HttpLimits>, open: Permit) -> Self {
        let settings = match connection.version() {
            Version::One => Settings::Done,
            Version::Two => Settings::Due,
        };
        Self {
            io,
            connection,
            limits,
            alarm: None,
            ahead: BytesMut::new(),
            head: HeadEnd::default(),
            head_bytes: 0,
            pause: false,
            ended: false,
            write_blocked: false,
            read_refused: false,
            settings,
            _open: open,
        }
    }

    /// The connection's state.
    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// Sets the timer, or fails if a deadline has passed. The timer is only set earlier, never
    /// later: one that fires early costs one check, moving it at every request would cost more.
    fn watch(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.connection.register(cx.waker());
        loop {
            if self.connection.is_cut() {
                return Err(cut("the client sends more requests at once than it may"));
            }
            let Some((due, what)) = self.connection.due(self.limits.is_short_of_connections())
            else {
                return Ok(());
            };
            let now = Instant::now();
            if due <= now {
                return Err(self.overdue(cx, what));
            }
            let due = if what == Overdue::Idle {
                due.min(now + self.connection.recheck_after())
            } else {
                due
            };
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if alarm.is_elapsed() || alarm.deadline() > due {
                alarm.as_mut().reset(due);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
        }
    }

    fn overdue(&mut self, cx: &mut Context<'_>, what: Overdue) -> io::Error {
        match what {
            Overdue::Head => {
                crate::metrics::connection_cut("head");
                self.say(cx, b"408 Request Timeout");
                cut("the head of a request did not arrive in time")
            }
            Overdue::Idle => cut("no request arrived in time"),
            Overdue::Write => {
                crate::metrics::connection_cut("write");
                cut("the client does not read its answer")
            }
        }
    }

    /// Tells a client why it is disconnected, if the socket accepts it without waiting. Over HTTP/2 the
    /// end of the connection has to do.
    fn say(&mut self, cx: &mut Context<'_>, status: &[u8]) {
        if self.connection.version() == Version::Two {
            return;
        }
        let text = [
            b"HTTP/1.1 ",
            status,
            b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ]
        .concat();
        let _ = Pin::new(&mut self.io).poll_write(cx, &text);
    }

    /// Passes on as much of `data` as allowed; the rest stays in `ahead`.
    fn allowed(&mut self, data: &[u8]) -> usize {
        match self.connection.next() {
            Next::Nothing => 0,
            Next::Body(left) => usize::try_from(left).map_or(data.len(), |l| l.min(data.len())),
            Next::Head | Next::Chunks => match self.head.find(data) {
                Some(end) => {
                    self.pause = true;
                    end
                }
                None => data.len(),
            },
        }
    }

    fn handed_on(&mut self, bytes: usize, next: Next) -> bool {
        self.connection.handed_on(bytes);
        if next == Next::Head && !self.pause {
            self.head_bytes += bytes;
        } else {
            self.head_bytes = 0;
        }
        self.head_bytes <= MAX_HEAD_BYTES
    }

    /// Reads into `ahead` through `buf`, which is left as it was.
    fn read_ahead(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if read.is_empty() {
            self.ended = true;
        }
        self.ahead.extend_from_slice(read);
        buf.set_filled(before);
        Poll::Ready(Ok(()))
    }

    fn read_one(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.write_blocked {
            // Nothing is read from a client that does not receive its answers.
            self.read_refused = true;
            return Poll::Pending;
        }
        if self.pause {
            self.pause = false;
            if self.ahead.is_empty() && !self.ended {
                ready!(self.read_ahead(cx, buf))?;
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.connection.is_over() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        let next = self.connection.next();
        if next == Next::Nothing {
            if self.ahead.is_empty() && !self.ended {
                ready!(self.read_ahead(cx, buf))?;
            }
            // The end is reported at once: the client may be gone for the request in progress.
            return if self.ahead.is_empty() && self.ended {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        }
        if self.ahead.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            let read = buf.filled().len() - before;
            self.ended = read == 0;
            let given = {
                let data = &buf.filled()[before..];
                let given = self.allowed(data);
                self.ahead.extend_from_slice(&data[given..]);
                given
            };
            buf.set_filled(before + given);
            return self.given(cx, given, next);
        }
        let ahead = std::mem::take(&mut self.ahead);
        let window = ahead.len().min(buf.remaining());
        let given = self.allowed(&ahead[..window]);
        buf.put_slice(&ahead[..given]);
        self.ahead = ahead;
        self.ahead.advance(given);
        if self.ahead.is_empty() {
            // Most clients do not pipeline, and need no memory for it.
            self.ahead = BytesMut::new();
        }
        self.given(cx, given, next)
    }

    fn given(&mut self, cx: &mut Context<'_>, given: usize, next: Next) -> Poll<io::Result<()>> {
        if given > 0 && !self.handed_on(given, next) {
            self.say(cx, b"431 Request Header Fields Too Large");
            return Poll::Ready(Err(cut("the head of a request is too large")));
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the first SETTINGS frame with the limit of streams in it.
    fn write_settings(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if matches!(self.settings, Settings::Due) {
            let (frame, old) =
                limited_settings(data).ok_or_else(|| cut("HTTP/2 does not begin with SETTINGS"))?;
            self.settings = Settings::Writing(frame, old);
        }
        while let Settings::Writing(frame, old) = &mut self.settings {
            if frame.is_empty() {
                let old = *old;
                self.settings = Settings::Done;
                return Poll::Ready(Ok(old));
            }
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, frame))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            frame.advance(written);
        }
        Poll::Ready(Ok(0))
    }
}

impl<T> Drop for Wire<T> {
    fn drop(&mut self) {
        self.connection.closed();
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.watch(cx)?;
        if this.connection.version() == Version::Two {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let read = this.read_one(cx, buf);
        // What was passed on may have brought a deadline nearer.
        if read.is_pending() {
            this.watch(cx)?;
        }
        read
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = match this.settings {
            Settings::Done => Pin::new(&mut this.io).poll_write(cx, data),
            Settings::Due | Settings::Writing(..) => this.write_settings(cx, data),
        };
        this.note(cx, wrote.is_pending())?;
        wrote
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        if flushed.is_ready() {
            this.connection.written();
        }
        this.note(cx, flushed.is_pending())?;
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    fn note(&mut self, cx: &mut Context<'_>, blocked: bool) -> io::Result<()> {
        self.write_blocked = blocked;
        if blocked {
            self.connection.blocked();
            return self.watch(cx);
        }
        if std::mem::take(&mut self.read_refused) {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }
}

fn cut(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// The first frame of an HTTP/2 server with the limit of streams added, and its original length.
fn limited_settings(data: &[u8]) -> Option<(Bytes, usize)> {
    const HEADER: usize = 9;
    const SETTINGS: u8 = 4;
    const MAX_CONCURRENT: u16 = 3;
    let header = data.get(..HEADER)?;
    let length =
        usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
    if header[3] != SETTINGS || header[4] != 0 {
        return None;
    }
    let body = data.get(HEADER..HEADER + length)?;
    let new = u32::try_from(length + 6).ok()?.to_be_bytes();
    let mut frame = Vec::with_capacity(HEADER + length + 6);
    frame.extend_from_slice(&new[1..]);
    frame.extend_from_slice(&header[3..]);
    frame.extend_from_slice(body);
    frame.extend_from_slice(&MAX_CONCURRENT.to_be_bytes());
    frame.extend_from_slice(&MAX_CONCURRENT_STREAMS.to_be_bytes());
    Some((frame.into(), HEADER + length))
}

/// Finds the end of a head: an empty line; lines end with or without a carriage return.
#[derive(Debug, Default)]
struct HeadEnd {
    /// Whether the last byte, apart from carriage returns, ended a line.
    line_ended: bool,
}

impl HeadEnd {
    fn find(&mut self, data: &[u8]) -> Option<usize> {
        for (i, byte) in data.iter().enumerate() {
            match byte {
                b'\n' if self.line_ended => {
                    self.line_ended = false;
                    return Some(i + 1);
                }
                b'\n' => self.line_ended = true,
                b'\r' => {}
                _ => self.line_ended = false,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
