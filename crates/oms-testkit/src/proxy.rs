//! A TCP proxy that breaks on command: between a service and one of its dependencies, so that the
//! dependency itself stays whole and the test can look at it.
//!
//! ```text
//!   node ──▶ Proxy ──▶ S3 | PostgreSQL | Kafka
//!             │ Link::{Pass, Slow, Throttled, Cut, HalfOpen, Reset}
//! ```
//!
//! Every connection follows the link as it is at that moment: a change reaches those that are open
//! as well as new ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Bytes carried at a time; small enough that a throttled link is smooth.
const CHUNK: usize = 16 << 10;

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Carries everything at once.
    Pass,
    /// Carries everything, each piece this much later.
    Slow(Duration),
    /// Carries this many bytes a second, each way of each connection.
    Throttled(u64),
    /// Refuses new connections and closes those that are open, in order.
    Cut,
    /// Takes connections and bytes, and gives nothing on, in either direction: what the other side
    /// looks like when its machine is gone and nobody has noticed. A connection that lost bytes
    /// stays silent, and is reset by the first byte after the link has recovered: nobody knows it
    /// any more.
    HalfOpen,
    /// Gives requests on and swallows every answer: what was asked for happens and nobody is told.
    /// The same is true of connections that lost bytes.
    Mute,
    /// Breaks every connection with RST, also new ones.
    Reset,
}

/// A pattern that the bytes from the dependency are changed by, of equal length: Kafka's brokers
/// say themselves where they are.
#[derive(Clone)]
struct Rewrite {
    from: Vec<u8>,
    to: Vec<u8>,
}

/// A running proxy on loopback; it ends with this value.
pub struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    carried: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts one in front of `target`.
    pub async fn start(target: SocketAddr) -> Self {
        Self::start_with(target, |_| None).await
    }

    /// Starts one in front of a Kafka broker on loopback, and makes it say that it is here.
    pub async fn start_for_kafka(target: SocketAddr) -> Self {
        Self::start_with(target, |own| {
            let at = |address: SocketAddr| {
                let mut bytes = address.ip().to_string().into_bytes();
                bytes.extend(u32::from(address.port()).to_be_bytes());
                bytes
            };
            let (from, to) = (at(target), at(own));
            assert_eq!(from.len(), to.len(), "both are on 127.0.0.1");
            Some(Rewrite { from, to })
        })
        .await
    }

    async fn start_with(
        target: SocketAddr,
        rewrite: impl FnOnce(SocketAddr) -> Option<Rewrite>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let rewrite = rewrite(address);
        let (link, seen) = watch::channel(Link::Pass);
        let carried = Arc::new(AtomicU64::new(0));
        let count = carried.clone();
        let accepting = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { continue };
                        open.spawn(connection(
                            client, target, seen.clone(), rewrite.clone(), count.clone()));
                    }
                    Some(_) = open.join_next() => {}
                }
            }
        });
        Self {
            address,
            link,
            carried,
            accepting,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its link does from now on.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// What its link does.
    pub fn link(&self) -> Link {
        *self.link.borrow()
    }

    /// Bytes carried so far, both ways.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(
    client: TcpStream,
    target: SocketAddr,
    link: watch::Receiver<Link>,
    rewrite: Option<Rewrite>,
    carried: Arc<AtomicU64>,
) {
    // Its own state, not only changes, counts: it may be born into a broken link.
    if broken(*link.borrow()) {
        end(client, *link.borrow());
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let (client, server) = (keep(client), keep(server));
    let (mut client_in, mut client_out) = client.into_split();
    let (mut server_in, mut server_out) = server.into_split();
    let lost = Lost::default();
    let half = |way, rewrite| Half {
        link: link.clone(),
        way,
        rewrite,
        lost: &lost,
        carried: &carried,
    };
    let up = half(Way::ToServer, None).carry(&mut client_in, &mut server_out);
    let down = half(Way::ToClient, rewrite).carry(&mut server_in, &mut client_out);
    let mut watched = link.clone();
    let how = tokio::select! {
        // One side has ended in order: what is under way to the other was written already.
        () = async { tokio::join!(up, down); } => Link::Cut,
        how = until_broken(&mut watched) => how,
        () = lost.noticed.notified() => Link::Reset,
    };
    if how == Link::Reset {
        // Closed with a linger of nothing, a socket is reset and not shut.
        for half in [client_in.reunite(client_out), server_in.reunite(server_out)] {
            end(half.expect("two halves of one"), how);
        }
    }
}

fn keep(stream: TcpStream) -> TcpStream {
    // Without it every small request waits for the delayed acknowledgement.
    stream.set_nodelay(true).ok();
    stream
}

fn broken(link: Link) -> bool {
    matches!(link, Link::Cut | Link::Reset)
}

async fn until_broken(link: &mut watch::Receiver<Link>) -> Link {
    match link.wait_for(|l| broken(*l)).await {
        Ok(how) => *how,
        Err(_) => Link::Cut,
    }
}

fn end(stream: TcpStream, how: Link) {
    if how == Link::Reset {
        // The kernel refuses this only for a socket that is gone.
        stream.set_zero_linger().ok();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

/// What both halves of a connection know.
#[derive(Default)]
struct Lost {
    bytes: AtomicBool,
    noticed: Notify,
}

/// One direction of a connection.
struct Half<'a> {
    link: watch::Receiver<Link>,
    way: Way,
    rewrite: Option<Rewrite>,
    lost: &'a Lost,
    carried: &'a AtomicU64,
}

impl Half<'_> {
    async fn carry(self, from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
        let mut chunk = vec![0; CHUNK];
        let mut held = Vec::new();
        loop {
            let n = match from.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(n) => n,
            };
            let now = *self.link.borrow();
            let silent = now == Link::HalfOpen || (now == Link::Mute && self.way == Way::ToClient);
            if silent {
                self.lost.bytes.store(true, Ordering::Relaxed);
                continue;
            }
            if self.lost.bytes.load(Ordering::Relaxed) && now != Link::Mute {
                // To carry on would make later bytes look like the lost ones: TCP never does.
                self.lost.noticed.notify_one();
                return std::future::pending().await;
            }
            match now {
                Link::Slow(by) => tokio::time::sleep(by).await,
                Link::Throttled(rate) => {
                    let pause = Duration::from_secs_f64(n as f64 / rate.max(1) as f64);
                    tokio::time::sleep(pause).await;
                }
                _ => {}
            }
            held.extend_from_slice(&chunk[..n]);
            let ready = match &self.rewrite {
                None => held.len(),
                Some(rewrite) => apply(rewrite, &mut held),
            };
            self.carried.fetch_add(ready as u64, Ordering::Relaxed);
            if to.write_all(&held[..ready]).await.is_err() {
                break;
            }
            held.drain(..ready);
        }
        // The other side learns that there is no more; it may still have something to say. It may
        // also be gone, and then nobody is left to be told.
        to.write_all(&held).await.ok();
        to.shutdown().await.ok();
    }
}

/// Changes what is whole and says how much of `held` may go on: a beginning of the pattern at its
/// end waits for the rest.
fn apply(rewrite: &Rewrite, held: &mut [u8]) -> usize {
    let width = rewrite.from.len();
    let mut at = 0;
    while at + width <= held.len() {
        if held[at..at + width] == rewrite.from[..] {
            held[at..at + width].copy_from_slice(&rewrite.to);
            at += width;
        } else {
            at += 1;
        }
    }
    let tail = held.len().saturating_sub(width - 1).max(at.min(held.len()));
    (tail..held.len())
        .find(|&start| rewrite.from.starts_with(&held[start..]))
        .unwrap_or(held.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await.ok();
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
        let mut answer = [0; 4];
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    /// However long it takes on a busy machine.
    async fn answers(stream: &mut TcpStream) -> bool {
        matches!(ask(stream).await, Ok(a) if &a == b"ping")
    }

    /// As long as anybody would wait.
    async fn is_silent(stream: &mut TcpStream) -> bool {
        let patience = Duration::from_millis(300);
        tokio::time::timeout(patience, ask(stream)).await.is_err()
    }

    #[tokio::test]
    async fn a_link_passes_slows_swallows_and_recovers() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.expect("open");
        assert!(answers(&mut stream).await);
        proxy.set(Link::Slow(Duration::from_millis(40)));
        let begun = tokio::time::Instant::now();
        assert!(answers(&mut stream).await);
        assert!(
            begun.elapsed() >= Duration::from_millis(80),
            "once each way"
        );
        let mut silenced = TcpStream::connect(proxy.address()).await.expect("open");
        for silent in [Link::Mute, Link::HalfOpen] {
            proxy.set(silent);
            assert!(is_silent(&mut silenced).await, "{silent:?}");
        }
        proxy.set(Link::Pass);
        assert!(answers(&mut stream).await, "the old connection is whole");
        assert!(
            ask(&mut silenced).await.is_err(),
            "one that lost bytes is gone"
        );
    }

    #[tokio::test]
    async fn a_cut_ends_in_order_and_a_reset_does_not() {
        let proxy = Proxy::start(echo().await).await;
        for (link, kind) in [
            (Link::Cut, None),
            (Link::Reset, Some(std::io::ErrorKind::ConnectionReset)),
        ] {
            proxy.set(Link::Pass);
            let mut stream = TcpStream::connect(proxy.address()).await.expect("open");
            assert!(answers(&mut stream).await);
            proxy.set(link);
            let ended = stream.read(&mut [0; 1]).await;
            assert_eq!(ended.as_ref().err().map(std::io::Error::kind), kind);
            assert!(kind.is_some() || matches!(ended, Ok(0)));
        }
        proxy.set(Link::Pass);
        let mut stream = TcpStream::connect(proxy.address()).await.expect("open");
        assert!(answers(&mut stream).await);
    }

    #[test]
    fn an_address_is_changed_wherever_the_stream_is_split() {
        let rewrite = Rewrite {
            from: b"abcX".to_vec(),
            to: b"abcY".to_vec(),
        };
        let whole = b"..abcX.ababcXab";
        for split in 0..=whole.len() {
            let (mut held, mut out) = (Vec::new(), Vec::new());
            for part in [&whole[..split], &whole[split..]] {
                held.extend_from_slice(part);
                let ready = apply(&rewrite, &mut held);
                out.extend(held.drain(..ready));
            }
            out.extend(held);
            assert_eq!(out, b"..abcY.ababcYab", "split at {split}");
        }
    }
}
