//! The drill's streams. Each has one writer that sends the next event only when the outcome of the
//! last one is known, so that the expected content of the stream is known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::remote::{Api, ApiError};
use super::patience::{Got, Waited, persist};
use crate::domain::ids::Position;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Version it was acknowledged with.
    pub version: u64,
    /// The position it was acknowledged with.
    pub position: Position,
}

/// What was written to a stream. Event number `n`, from 1, carries `n`.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Events sent: those acknowledged, and possibly one more whose outcome is unknown.
    pub sent: u64,
    /// The acknowledgement of event `n` is at `n - 1`.
    pub acknowledged: Vec<Acknowledged>,
}

#[derive(Debug)]
pub struct Stream {
    /// Its id; its type is [`STREAM_TYPE`].
    pub id: String,
    ledger: Mutex<Ledger>,
}

/// Type of the drill's streams.
pub const STREAM_TYPE: &str = "drill";

#[derive(Debug)]
pub struct Streams {
    run: String,
    all: Mutex<Vec<Arc<Stream>>>,
}

impl Streams {
    /// No streams yet; their ids will begin with `run`.
    pub fn new(run: String) -> Self {
        Self {
            run,
            all: Mutex::default(),
        }
    }

    /// The prefix of the ids.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Opens another, empty stream.
    pub fn open(&self) -> Arc<Stream> {
        let mut all = self.all.lock();
        let stream = Arc::new(Stream {
            id: format!("{}-{}", self.run, all.len()),
            ledger: Mutex::default(),
        });
        all.push(stream.clone());
        stream
    }

    pub fn all(&self) -> Vec<Arc<Stream>> {
        self.all.lock().clone()
    }
}

impl Stream {
    /// The path of its events in the API.
    pub fn path(&self) -> String {
        format!("/api/v1/streams/{STREAM_TYPE}/{}/events", self.id)
    }

    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().clone()
    }

    /// Writes the next event and repeats it under the same key until it is acknowledged.
    pub async fn write(&self, api: &Api, limit: Duration) -> Result<Got<Acknowledged>, Waited> {
        let number = {
            let mut ledger = self.ledger.lock();
            ledger.sent = ledger.acknowledged.len() as u64 + 1;
            ledger.sent
        };
        let path = self.path();
        let key = format!("{STREAM_TYPE}-{}-{number}", self.id);
        let body = json!({ "events": [{ "type": "DrillWritten", "data": { "n": number } }] });
        let got = persist(Instant::now(), limit, || async {
            let request = api
                .request(Method::POST, &path)
                .header("Idempotency-Key", &key)
                .json(&body);
            let answer = api.send(request).await?;
            acknowledged(&answer.body)
                .map(Some)
                .ok_or_else(|| ApiError::Odd {
                    url: format!("{}{path}", api.base()),
                    message: format!("no receipt of a write: {}", answer.body),
                })
        });
        let got = got.await?;
        self.ledger.lock().acknowledged.push(got.answer);
        Ok(got)
    }
}

/// Version and position of a receipt, or of an event (`version` and `streamversion` mean the same).
pub fn acknowledged(value: &Value) -> Option<Acknowledged> {
    let version = value.get("streamversion").or_else(|| value.get("version"));
    Some(Acknowledged {
        version: version?.as_u64()?,
        position: value.get("position")?.as_str()?.parse().ok()?,
    })
}
