//! A proxy in front of a Kafka broker that reads the protocol and lets single produce requests
//! fail, so that it can be seen what a real broker and the client make of what comes behind them.
//!
//! librdkafka's in-process broker takes batches of an idempotent producer in any order, which no real
//! one does: in front of it the proxy checks their numbers, by the rules of Apache Kafka.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const PRODUCE: i16 = 0;

/// How long a request that will fail is held, so that whatever the client sends without waiting for
/// its answer is under way when it fails.
const HOLD: Duration = Duration::from_millis(60);

/// What becomes of a produce request.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It is answered with this error, by its number in the protocol; the broker never sees it.
    Refuse(i16),
    /// The broker gets it; its answer and the connection are lost.
    LoseAnswer,
    /// It is lost with its connection.
    LoseRequest,
    /// Its connection is lost, and the network keeps it until [`KafkaProxy::deliver_late`].
    Late,
}

/// For each produce request from now on: what becomes of it. Those beyond pass.
type Plan = Arc<Mutex<VecDeque<Option<Fault>>>>;

/// Requests that the network keeps.
type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

/// What the broker should know of the producers of each partition.
type Producers = Arc<Mutex<HashMap<(Vec<u8>, i32, i64), Numbers>>>;

/// The epoch of a producer, and the number that its next batch has to bear.
#[derive(Clone, Copy)]
struct Numbers {
    epoch: i16,
    next: i32,
}

const NO_ERROR: i16 = 0;
const OUT_OF_ORDER: i16 = 45;

/// A running proxy on loopback; it ends with this value.
pub struct KafkaProxy {
    address: SocketAddr,
    broker: SocketAddr,
    plan: Plan,
    kept: Kept,
    accepting: JoinHandle<()>,
}

impl KafkaProxy {
    /// Starts one in front of a real broker on loopback.
    pub async fn start(broker: SocketAddr) -> Self {
        Self::start_with(broker, None).await
    }

    /// Starts one in front of a broker on loopback that does not check the numbers of batches.
    pub async fn start_checking(broker: SocketAddr) -> Self {
        Self::start_with(broker, Some(Producers::default())).await
    }

    async fn start_with(broker: SocketAddr, producers: Option<Producers>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let plan = Plan::default();
        let planned = plan.clone();
        let kept = Kept::default();
        let keep = kept.clone();
        let accepting = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(broker).await;
                let (plan, producers) = (planned.clone(), producers.clone());
                let kept = keep.clone();
                open.spawn(async move {
                    if let Ok(server) = server {
                        let ends = (broker, address);
                        connection(client, server, ends, (plan, kept), producers).await;
                    }
                });
            }
        });
        Self {
            address,
            broker,
            plan,
            kept,
            accepting,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// After `passing` produce requests these fail.
    pub fn fail(&self, passing: usize, faults: &[Fault]) {
        let passing = std::iter::repeat_n(None, passing);
        let plan = passing.chain(faults.iter().copied().map(Some));
        *self.plan.lock().expect("a plan") = plan.collect();
    }

    /// How many requests the network keeps.
    pub fn kept(&self) -> usize {
        self.kept.lock().expect("what is kept").len()
    }

    /// What the network kept reaches the broker. Returns when it has been answered, to nobody.
    pub async fn deliver_late(&self) {
        let kept = std::mem::take(&mut *self.kept.lock().expect("what is kept"));
        let mut server = TcpStream::connect(self.broker).await.expect("a broker");
        for request in kept {
            write_frame(&mut server, &request).await.expect("sent");
            read_frame(&mut server).await.expect("answered");
        }
    }

    /// Whether the failure that was asked for last has happened.
    pub fn has_failed(&self) -> bool {
        self.plan.lock().expect("a plan").is_empty()
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(
    client: TcpStream,
    server: TcpStream,
    (broker, own): (SocketAddr, SocketAddr),
    (plan, kept): (Plan, Kept),
    producers: Option<Producers>,
) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("no delay");
    }
    let (mut client_in, client_out) = client.into_split();
    let (mut server_in, mut server_out) = server.into_split();
    let client_out = Arc::new(tokio::sync::Mutex::new(client_out));
    // Requests given on, answers that came, and whether these are lost. A connection ends only when
    // the broker has done what it was asked for, so that it is known what it did.
    let (mut asked, mute) = (0_u64, AtomicBool::new(false));
    let (came, mut came_so_far) = tokio::sync::watch::channel(0_u64);
    let requests = async {
        while let Some(frame) = read_frame(&mut client_in).await {
            let produces = api_key(&frame) == PRODUCE;
            let fault = if produces {
                plan.lock().expect("a plan").pop_front().flatten()
            } else {
                None
            };
            // Checked when it would reach the broker.
            let verdict = match (&producers, fault) {
                (Some(producers), None | Some(Fault::LoseAnswer)) if produces => {
                    check(&frame, &mut producers.lock().expect("producers"))
                }
                _ => None,
            };
            match fault {
                None if verdict.is_some() => {
                    let answer = answer(&frame, verdict.expect("a verdict"));
                    write_frame(&mut *client_out.lock().await, &answer).await?;
                }
                None => {
                    write_frame(&mut server_out, &frame).await?;
                    asked += 1;
                }
                Some(Fault::Refuse(code)) => {
                    tokio::time::sleep(HOLD).await;
                    let answer = answer(&frame, code);
                    write_frame(&mut *client_out.lock().await, &answer).await?;
                }
                Some(Fault::LoseRequest) => {
                    came_so_far.wait_for(|came| *came == asked).await.ok()?;
                    return None;
                }
                Some(Fault::Late) => {
                    kept.lock().expect("what is kept").push(frame);
                    return None;
                }
                Some(Fault::LoseAnswer) => {
                    mute.store(true, Ordering::SeqCst);
                    write_frame(&mut server_out, &frame).await?;
                    asked += 1;
                    came_so_far.wait_for(|came| *came == asked).await.ok()?;
                    return None;
                }
            }
        }
        Some(())
    };
    let answers = async {
        while let Some(mut frame) = read_frame(&mut server_in).await {
            rewrite(&mut frame, broker, own);
            if !mute.load(Ordering::SeqCst) {
                write_frame(&mut *client_out.lock().await, &frame).await?;
            }
            came.send_modify(|came| *came += 1);
        }
        Some(())
    };
    tokio::select! {
        _ = requests => {}
        _ = answers => {}
    }
}

async fn read_frame(from: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let len = from.read_u32().await.ok()?;
    let mut frame = vec![0; len as usize];
    from.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn write_frame(to: &mut (impl AsyncWriteExt + Unpin), frame: &[u8]) -> Option<()> {
    to.write_u32(frame.len() as u32).await.ok()?;
    to.write_all(frame).await.ok()
}

/// The broker says where it is; the client shall come here.
fn rewrite(frame: &mut [u8], broker: SocketAddr, own: SocketAddr) {
    let text = |address: SocketAddr| {
        let mut bytes = address.ip().to_string().into_bytes();
        bytes.extend(u32::from(address.port()).to_be_bytes());
        bytes
    };
    let (from, to) = (text(broker), text(own));
    assert_eq!(from.len(), to.len(), "both are on 127.0.0.1");
    for at in 0..=frame.len().saturating_sub(from.len()) {
        if frame[at..].starts_with(&from) {
            frame[at..at + to.len()].copy_from_slice(&to);
        }
    }
}

fn api_key(request: &[u8]) -> i16 {
    i16::from_be_bytes([request[0], request[1]])
}

/// What a broker that checks would say at once: that it has the batch already, or that one is missing
/// before it. librdkafka sends one batch in a request.
fn check(request: &[u8], producers: &mut HashMap<(Vec<u8>, i32, i64), Numbers>) -> Option<i16> {
    let mut r = Reader(request);
    r.take(2 + 2 + 4);
    r.head();
    assert_eq!(r.varint(), 2, "one topic");
    let name = r.varint();
    let topic = r.take(name - 1).to_vec();
    assert_eq!(r.varint(), 2, "one partition");
    let partition = r.i32();
    let records = r.varint();
    let mut batch = Reader(r.take(records - 1));
    batch.take(43);
    let producer = i64::from_be_bytes(batch.take(8).try_into().expect("8 bytes"));
    let epoch = i16::from_be_bytes(batch.take(2).try_into().expect("2 bytes"));
    let (first, count) = (batch.i32(), batch.i32());
    let next = first + count;
    let known = producers.entry((topic, partition, producer));
    match known {
        // Of a producer that it does not know it takes whatever comes.
        std::collections::hash_map::Entry::Vacant(entry) => {
            entry.insert(Numbers { epoch, next });
            None
        }
        std::collections::hash_map::Entry::Occupied(mut entry) => {
            let numbers = *entry.get();
            let expected = if epoch == numbers.epoch {
                numbers.next
            } else {
                0
            };
            if first < expected {
                return Some(NO_ERROR);
            }
            if first > expected {
                return Some(OUT_OF_ORDER);
            }
            entry.insert(Numbers { epoch, next });
            None
        }
    }
}

/// The answer to a produce request (versions 9 and 10) that says the same of every batch in it.
fn answer(request: &[u8], code: i16) -> Vec<u8> {
    let mut r = Reader(request);
    r.take(2);
    let version = i16::from_be_bytes(r.take(2).try_into().expect("2 bytes"));
    assert!((9..=10).contains(&version), "produce version {version}");
    let mut answer = r.take(4).to_vec();
    answer.push(0);
    r.head();
    let topics = r.varint();
    answer.push(topics as u8);
    for _ in 1..topics {
        let name = r.varint();
        answer.push(name as u8);
        answer.extend(r.take(name - 1));
        let partitions = r.varint();
        answer.push(partitions as u8);
        for _ in 1..partitions {
            answer.extend(r.take(4));
            answer.extend(code.to_be_bytes());
            // Offset, time of the append, start of the log: none; no errors of records, no message.
            answer.extend([0xff; 24]);
            answer.extend([1, 0, 0]);
            let records = r.varint();
            r.take(records.saturating_sub(1));
            r.tags();
        }
        answer.push(0);
        r.tags();
    }
    answer.extend([0; 4]);
    answer.push(0);
    answer
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("4 bytes"))
    }

    /// What is between the request's number and its topics.
    fn head(&mut self) {
        let client_id = i16::from_be_bytes(self.take(2).try_into().expect("2 bytes"));
        self.take(client_id.max(0) as usize);
        self.tags();
        let transactional_id = self.varint();
        self.take(transactional_id.saturating_sub(1));
        self.take(2 + 4);
    }

    fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
            shift += 7;
        }
    }

    fn tags(&mut self) {
        for _ in 0..self.varint() {
            self.varint();
            let len = self.varint();
            self.take(len);
        }
    }
}
