//! Sends the plan's batches, several at once, and repeats unanswered ones under the same key until
//! the service is back.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::plan::Batch;
use crate::cli::progress::Progress;
use crate::cli::remote::{Api, ApiError, component};

/// Requests in flight, so that a kill finds some done, some half done and some not begun.
const IN_FLIGHT: usize = 4;
/// A service that is away for longer does not come back.
const GIVE_UP_AFTER: Duration = Duration::from_secs(180);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// The outcome of the batches.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Operations that were acknowledged.
    pub acknowledged: Cell<usize>,
    /// Requests that got no answer, or "try again", and were repeated.
    pub sent_again: Cell<usize>,
    /// Of those, requests that were executed before the kill and answered from the record.
    pub replayed: Cell<usize>,
}

/// Sends all batches of a database. The service to send them to may change meanwhile.
pub async fn send(
    service: &watch::Receiver<Api>,
    db: &str,
    batches: &[Batch],
    loaded: &Loaded,
    progress: &RefCell<Progress>,
) -> anyhow::Result<()> {
    stream::iter(batches)
        .map(|batch| async move {
            let done = one(service, db, batch, loaded).await?;
            loaded.acknowledged.set(loaded.acknowledged.get() + done);
            progress.borrow_mut().advance(done as u64);
            anyhow::Ok(())
        })
        .buffered(IN_FLIGHT)
        .try_collect()
        .await
}

async fn one(
    service: &watch::Receiver<Api>,
    db: &str,
    batch: &Batch,
    loaded: &Loaded,
) -> anyhow::Result<usize> {
    let path = format!(
        "/api/v1/databases/{}/classes/{}/instances/batch",
        component(db),
        component(batch.class)
    );
    let body = json!({ "operations": batch.operations });
    let begun = Instant::now();
    loop {
        let api = service.borrow().clone();
        let request = api
            .request(Method::POST, &path)
            .header("Idempotency-Key", &batch.key)
            .json(&body);
        let again = match api.send(request).await {
            Ok(answer) => {
                if answer.replayed {
                    loaded.replayed.set(loaded.replayed.get() + 1);
                }
                match refused(&answer.body) {
                    None => return Ok(batch.operations.len()),
                    Some((status, item)) if status >= 500 || status == 429 => item,
                    Some((_, item)) => anyhow::bail!("an operation was refused: {item}"),
                }
            }
            Err(error @ (ApiError::Unreachable { .. } | ApiError::Unavailable { .. })) => {
                error.to_string()
            }
            Err(error) => return Err(error.into()),
        };
        anyhow::ensure!(begun.elapsed() < GIVE_UP_AFTER, "gave up: {again}");
        loaded.sent_again.set(loaded.sent_again.get() + 1);
        tokio::time::sleep(PAUSE).await;
    }
}

/// The first item of a batch's answer that failed, permanent failures before temporary ones.
fn refused(answer: &Value) -> Option<(u64, String)> {
    let items = answer.get("items").and_then(Value::as_array)?;
    let status = |item: &Value| item.get("status").and_then(Value::as_u64).unwrap_or(500);
    let failed = items.iter().filter(|item| status(item) >= 300);
    failed
        .min_by_key(|item| status(item) >= 500 || status(item) == 429)
        .map(|item| (status(item), item.to_string()))
}

/// Creates the database and its classes.
pub async fn prepare(
    api: &Api,
    db: &str,
    description: &str,
    classes: &[Value],
) -> anyhow::Result<()> {
    let database = json!({ "name": db, "description": description });
    api.post("/api/v1/databases", &database).await?;
    for class in classes {
        api.post(
            &format!("/api/v1/databases/{}/classes", component(db)),
            class,
        )
        .await
        .with_context(|| format!("making the class {}", class["id"]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_good_is_found_before_a_failure_that_may_pass() {
        let items = |statuses: &[u64]| {
            let items: Vec<Value> = statuses.iter().map(|s| json!({ "status": s })).collect();
            refused(&json!({ "items": items })).map(|(status, _)| status)
        };
        assert_eq!(items(&[201, 200]), None);
        assert_eq!(items(&[201, 503]), Some(503));
        assert_eq!(items(&[503, 409, 201]), Some(409));
    }
}
