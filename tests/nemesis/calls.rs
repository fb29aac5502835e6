//! One command, with all its tries under its key, and what became of it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::Value;

use crate::clients::Client;
use crate::history::{Asked, Call, Outcome};

/// Codes by which the service says that it did not do what it was asked for, and that it may be
/// asked again.
const NOT_DONE: [&str; 5] = [
    "unavailable",
    "overloaded",
    "rate_limited",
    "too_many_streams",
    "deadline_exceeded",
];

/// How often a command that was acknowledged is sent again all the same, as by a client that lost
/// the answer.
const AGAIN: f64 = 0.1;

/// What is sent.
pub struct Request {
    pub method: reqwest::Method,
    pub path: String,
    pub body: Option<String>,
}

impl Request {
    pub fn post(path: String, body: Value) -> Self {
        Self::with(reqwest::Method::POST, path, body.to_string())
    }

    pub fn with(method: reqwest::Method, path: String, body: String) -> Self {
        Self {
            method,
            path,
            body: Some(body),
        }
    }
}

/// How stubborn a command is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stubborn {
    UntilKnown,
    Once,
}

impl Client {
    pub async fn call(
        &mut self,
        stream: String,
        asked: Asked,
        request: Request,
        expected: Option<u64>,
        private: bool,
    ) -> Outcome {
        self.call_with(
            stream,
            asked,
            request,
            expected,
            private,
            Stubborn::UntilKnown,
        )
        .await
        .0
    }

    pub async fn call_with(
        &mut self,
        stream: String,
        asked: Asked,
        request: Request,
        expected: Option<u64>,
        private: bool,
        stubborn: Stubborn,
    ) -> (Outcome, Option<u64>) {
        let key = self.key();
        let (begun, invoked) = (Instant::now(), self.shared.now());
        let (mut tries, mut actual) = (0, None);
        let outcome = loop {
            tries += 1;
            let (outcome, at) = self.try_once(&request, &key, expected).await;
            if outcome.is_final() || stubborn == Stubborn::Once {
                actual = at;
                break outcome;
            }
            self.shared.retries.fetch_add(1, Ordering::SeqCst);
            if begun.elapsed() > self.shared.patience.command {
                let mut unanswered = self.shared.unanswered.lock().expect("lock");
                unanswered.push(format!("{key} to {stream}, {tries} tries"));
                break Outcome::Unknown;
            }
            let pause = self.rng.random_range(20..120);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        };
        let took = begun.elapsed().as_micros() as u64;
        let ended = self.shared.now();
        let mut again = None;
        if outcome.is_final() {
            self.shared.longest.fetch_max(took, Ordering::SeqCst);
        }
        if matches!(outcome, Outcome::Acknowledged { .. }) && self.rng.random_bool(AGAIN) {
            again = Some(self.try_once(&request, &key, expected).await.0);
        }
        let call = Call {
            client: self.number,
            key,
            stream,
            asked,
            expected,
            private,
            invoked,
            ended,
            tries,
            outcome: outcome.clone(),
            again,
        };
        self.shared.history.lock().expect("lock").calls.push(call);
        (outcome, actual)
    }

    /// Sends it once, to any node.
    async fn try_once(
        &mut self,
        request: &Request,
        key: &str,
        expected: Option<u64>,
    ) -> (Outcome, Option<u64>) {
        let node = self.rng.random_range(0..self.shared.urls.len());
        let url = format!("{}{}", self.shared.urls[node], request.path);
        let mut sent = (self.shared.http)
            .request(request.method.clone(), url)
            .timeout(self.shared.patience.answer)
            .header("Idempotency-Key", key);
        match expected {
            Some(0) => sent = sent.header("If-None-Match", "*"),
            Some(version) => sent = sent.header("If-Match", format!("\"{version}\"")),
            None => {}
        }
        if let Some(body) = &request.body {
            sent = sent
                .header("Content-Type", "application/json")
                .body(body.clone());
        }
        let Ok(answer) = sent.send().await else {
            return (Outcome::Unknown, None);
        };
        let status = answer.status().as_u16();
        self.count(status);
        // A body that breaks off is an answer that never came.
        let Ok(body) = answer.json::<Value>().await else {
            return (Outcome::Unknown, None);
        };
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let code = text("code");
        match status {
            200..300 => {
                let outcome = Outcome::Acknowledged {
                    version: body["version"].as_u64().unwrap_or(0),
                    position: text("position"),
                    mode: text("mode"),
                };
                (outcome, None)
            }
            429 | 500.. if NOT_DONE.contains(&code.as_str()) => (Outcome::NotDone { code }, None),
            408 | 429 | 500.. => (Outcome::Unknown, None),
            _ => {
                let actual = body["actual_version"].as_u64();
                (Outcome::Refused { status, code }, actual)
            }
        }
    }

    pub fn count(&self, status: u16) {
        let mut answers = self.shared.answers.lock().expect("lock");
        *answers.entry(status).or_default() += 1;
    }
}
