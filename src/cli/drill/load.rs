//! A light load, so that actors are killed while they work, and to see whether clients notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinHandle;

use super::super::remote::Api;
use super::patience::Waited;
use super::stream::{Stream, Streams};

/// Pause of a client between two writes: four clients are far from any limit.
const THINK: Duration = Duration::from_millis(20);

/// What the clients observed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Seen {
    pub clients: usize,
    pub writes: u64,
    /// Requests answered "try again", or not at all, and repeated.
    pub sent_again: u64,
    /// Longest time until a write was acknowledged, in milliseconds.
    pub longest_ms: f64,
    /// Writes whose acknowledgement did not come in time.
    pub given_up: u64,
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<Seen, Waited>>>,
}

impl Load {
    /// Starts the clients; none waits longer than `limit` for one write.
    pub fn start(api: &Api, streams: &Streams, clients: u32, limit: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients)
            .map(|_| {
                let client = client(api.clone(), streams.open(), stop.clone(), limit);
                tokio::spawn(client)
            })
            .collect();
        Self { stop, clients }
    }

    /// Lets the clients finish their writes in flight, and returns what they saw.
    pub async fn end(self) -> Result<Seen, Waited> {
        self.stop.store(true, Ordering::Release);
        let mut sum = Seen::default();
        for client in self.clients {
            // A panic of a client is a bug of this program.
            let seen = match client.await {
                Ok(seen) => seen?,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            sum.clients += 1;
            sum.writes += seen.writes;
            sum.sent_again += seen.sent_again;
            sum.given_up += seen.given_up;
            sum.longest_ms = sum.longest_ms.max(seen.longest_ms);
        }
        Ok(sum)
    }
}

async fn client(
    api: Api,
    stream: Arc<Stream>,
    stop: Arc<AtomicBool>,
    limit: Duration,
) -> Result<Seen, Waited> {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Acquire) {
        let begun = Instant::now();
        match stream.write(&api, limit).await {
            Ok(got) => {
                seen.writes += 1;
                seen.sent_again += got.again;
                seen.longest_ms = seen.longest_ms.max(begun.elapsed().as_secs_f64() * 1e3);
            }
            Err(Waited::TooLong { .. }) => {
                // Its outcome is unknown, so nothing may follow it in this stream.
                seen.given_up += 1;
                break;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(THINK).await;
    }
    Ok(seen)
}
