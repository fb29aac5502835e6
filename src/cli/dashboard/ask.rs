//! Asks the service, and orders.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::order::{Answer, Order};
use super::seen::{Look, Part};
use crate::cli::output::field;
use crate::cli::remote::{Api, ApiError, failure};

/// An answer that takes longer is given up: what it would tell is old.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does what is ordered. `after`: the time of the newest sample that is known.
pub async fn answer(api: &Api, order: Order, parts: &[Part], after: Option<&str>) -> Answer {
    match order {
        Order::Look => Answer::Looked(look(api, parts, after).await),
        Order::Plan { order } => Answer::Planned {
            plan: plan(api, &order).await,
            asked: order,
        },
        Order::Switch { order } => Answer::Ordered(switch(api, &order).await),
        Order::Verify => {
            let path = "/api/v1/admin/migration/verify";
            let ordered = api.post(path, &json!({})).await;
            Answer::Ordered(told(ordered, |job| {
                format!("the verification is {}", field(&job, "state"))
            }))
        }
        Order::Kill { path } => {
            let order = json!({ "path": path, "how": "panic" });
            let ordered = api.post("/api/v1/admin/actors/kill", &order).await;
            Answer::Ordered(told(ordered, |_| format!("{path} was told to panic")))
        }
    }
}

fn late() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}

fn told(answer: Result<Value, ApiError>, tell: impl Fn(Value) -> String) -> Result<String, String> {
    answer.map(tell).map_err(|error| error.to_string())
}

/// Only the health must be told. What a token may not see, and what needs a store that is away, is
/// left out.
async fn look(api: &Api, parts: &[Part], after: Option<&str>) -> Result<Look, String> {
    let health = async {
        let request = api.request(Method::GET, "/health");
        let answer = timeout(PATIENCE, api.exchange(request)).await;
        let answer = answer
            .map_err(|_| late())?
            .map_err(|error| error.to_string())?;
        let report: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        match report["migration_mode"].is_string() {
            true => Ok(report),
            false => Err(format!("{} at /health is not oms", answer.status)),
        }
    };
    let asked = parts.iter().map(|part| {
        let path = part.path(after);
        async move { (*part, timeout(PATIENCE, api.get(&path)).await) }
    });
    let (health, asked) = futures_util::join!(health, join_all(asked));
    let mut look = Look {
        health: health?,
        ..Look::default()
    };
    for (part, answer) in asked {
        match answer {
            Ok(Ok(answer)) => {
                look.answers.insert(part, answer);
            }
            // There was no verification yet.
            Ok(Err(ApiError::Refused { status, .. })) if status == StatusCode::NOT_FOUND => {}
            Ok(Err(error)) => look.untold = Some(error.to_string()),
            Err(_) => look.untold = Some(late()),
        }
    }
    Ok(look)
}

/// What the gates say; their refusal is an answer as well.
async fn plan(api: &Api, order: &Value) -> Result<Value, String> {
    let answer = order_switch(api, order).await?;
    match answer {
        (StatusCode::OK, plan) => Ok(plan),
        (StatusCode::CONFLICT, problem) if problem["edges"].is_array() => Ok(problem),
        (status, problem) => Err(failure(status, None, &problem).to_string()),
    }
}

async fn switch(api: &Api, order: &Value) -> Result<String, String> {
    match order_switch(api, order).await? {
        (StatusCode::OK, answer) => Ok(match answer["switch"].is_null() {
            true => "it is so already".to_owned(),
            false => format!("it is {} now", field(&answer["switch"], "goal")),
        }),
        (StatusCode::ACCEPTED, _) => Ok("the switch is under way: see Migration (2)".to_owned()),
        (status, problem) => Err(failure(status, None, &problem).to_string()),
    }
}

async fn order_switch(api: &Api, order: &Value) -> Result<(StatusCode, Value), String> {
    let path = "/api/v1/admin/migration/mode";
    let request = api.request(Method::POST, path).json(order);
    let answer = api
        .exchange(request)
        .await
        .map_err(|error| error.to_string())?;
    let body = serde_json::from_str(&answer.text).unwrap_or_default();
    Ok((answer.status, body))
}
