//! The body of an answer being sent. It is sent in pieces, so that no buffer grows with it; it
//! holds the request's permit and the count of its bytes until they are written; and it must be
//! received in time: each piece within the write timeout, and all of it at [`SLOWEST_READER`].

use std::error::Error;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use tokio::time::Instant;

use super::connection::{Call, Held};
use super::limits::HeldBytes;
use crate::metrics;

/// Largest piece: what actix buffers before it writes.
const PIECE: usize = 32 << 10;

/// Bytes per second that a client must receive of a long answer on average.
const SLOWEST_READER: u64 = 32 << 10;

pub struct Outgoing {
    body: BoxBody,
    rest: Bytes,
    held: Held,
    /// For answers of unknown length: counts the bytes of the current piece.
    stream: Option<HeldBytes>,
    call: Option<Call>,
    number: u64,
    began: Instant,
    handed_over: u64,
}

impl Outgoing {
    /// Sends `body`; `held` is released once it is written.
    pub fn wrap(
        body: BoxBody,
        held: Held,
        stream: Option<HeldBytes>,
        call: Option<Call>,
    ) -> BoxBody {
        let number = call.as_ref().map_or(0, |c| c.connection().answer_number());
        BoxBody::new(Self {
            body,
            rest: Bytes::new(),
            held,
            stream,
            call,
            number,
            began: Instant::now(),
            handed_over: 0,
        })
    }

    fn hand_over(&mut self) -> Bytes {
        let piece = self.rest.split_to(PIECE.min(self.rest.len()));
        self.handed_over += piece.len() as u64;
        if let Some(call) = &self.call {
            let connection = call.connection();
            let soon = Instant::now() + connection.write_patience();
            let on_the_whole = Duration::from_secs(self.handed_over / SLOWEST_READER);
            let last = self.began + connection.write_patience() + on_the_whole;
            connection.expect_progress(self.number, soon.min(last));
        }
        piece
    }
}

impl MessageBody for Outgoing {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        if let Some(call) = &this.call {
            call.connection().progressed(this.number);
        }
        loop {
            if !this.rest.is_empty() {
                return Poll::Ready(Some(Ok(this.hand_over())));
            }
            // The previous piece is being written: only now may the next be made.
            if let Some(held) = &mut this.stream {
                held.release();
            }
            match Pin::new(&mut this.body).poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => {
                    if let Some(held) = &mut this.stream {
                        if !held.grow(bytes.len()) {
                            // The client of a live stream resumes where it was disconnected.
                            metrics::admission_rejected("response_bytes_in_flight");
                            return Poll::Ready(None);
                        }
                        // Time in which there was nothing to send does not count against the
                        // client.
                        (this.began, this.handed_over) = (Instant::now(), 0);
                    }
                    this.rest = bytes;
                }
                other => return other,
            }
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            let connection = call.connection();
            connection.progressed(self.number);
            connection.hold_until_written(mem::take(&mut self.held));
        }
    }
}

/// The answer to HEAD: has the size of a GET's body, but not its bytes.
pub struct Bodyless(pub BodySize);

impl MessageBody for Bodyless {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}
