//! A proxy in front of a Kafka broker that reads the protocol and lets single produce requests
//! fail, so that it can be seen what a real broker and the client make of what comes behind them.

use std::collections::VecDeque;
use std::net::SocketAddr;
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
}

/// For each produce request from now on: what becomes of it. Those beyond pass.
type Plan = Arc<Mutex<VecDeque<Option<Fault>>>>;

/// A running proxy on loopback; it ends with this value.
pub struct KafkaProxy {
    address: SocketAddr,
    plan: Plan,
    accepting: JoinHandle<()>,
}

impl KafkaProxy {
    /// Starts one in front of a broker on loopback.
    pub async fn start(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let plan = Plan::default();
        let planned = plan.clone();
        let accepting = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(broker).await;
                let plan = planned.clone();
                open.spawn(async move {
                    if let Ok(server) = server {
                        connection(client, server, broker, address, plan).await;
                    }
                });
            }
        });
        Self {
            address,
            plan,
            accepting,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// After `passing` produce requests one fails.
    pub fn fail(&self, passing: usize, fault: Fault) {
        let mut plan = vec![None; passing];
        plan.push(Some(fault));
        *self.plan.lock().expect("a plan") = plan.into();
    }

    /// Whether the failure that was asked for last has happened.
    pub fn has_failed(&self) -> bool {
        self.plan.lock().expect("a plan").is_empty()
    }

    /// Nothing fails any more.
    pub fn pass(&self) {
        self.plan.lock().expect("a plan").clear();
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
    broker: SocketAddr,
    own: SocketAddr,
    plan: Plan,
) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("no delay");
    }
    let (mut client_in, client_out) = client.into_split();
    let (mut server_in, mut server_out) = server.into_split();
    let client_out = Arc::new(tokio::sync::Mutex::new(client_out));
    let requests = async {
        while let Some(frame) = read_frame(&mut client_in).await {
            let fault = if api_key(&frame) == PRODUCE {
                plan.lock().expect("a plan").pop_front().flatten()
            } else {
                None
            };
            match fault {
                None => write_frame(&mut server_out, &frame).await?,
                Some(Fault::Refuse(code)) => {
                    tokio::time::sleep(HOLD).await;
                    let answer = refusal(&frame, code);
                    write_frame(&mut *client_out.lock().await, &answer).await?;
                }
                Some(Fault::LoseRequest) => return None,
                Some(Fault::LoseAnswer) => {
                    let _silent = client_out.lock().await;
                    write_frame(&mut server_out, &frame).await?;
                    tokio::time::sleep(HOLD).await;
                    return None;
                }
            }
        }
        Some(())
    };
    let answers = async {
        while let Some(mut frame) = read_frame(&mut server_in).await {
            rewrite(&mut frame, broker, own);
            write_frame(&mut *client_out.lock().await, &frame).await?;
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

/// The answer to a produce request (versions 9 and 10) that refuses every batch in it.
fn refusal(request: &[u8], code: i16) -> Vec<u8> {
    let mut r = Reader(request);
    r.take(2);
    let version = i16::from_be_bytes(r.take(2).try_into().expect("2 bytes"));
    assert!((9..=10).contains(&version), "produce version {version}");
    let mut answer = r.take(4).to_vec();
    answer.push(0);
    let client_id = i16::from_be_bytes(r.take(2).try_into().expect("2 bytes"));
    r.take(client_id.max(0) as usize);
    r.tags();
    let transactional_id = r.varint();
    r.take(transactional_id.saturating_sub(1));
    r.take(2 + 4);
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
