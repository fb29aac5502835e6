//! What the dashboard asks of the service, and what comes back.

use serde_json::Value;

use super::seen::Look;

/// Something to ask the service for, or to order.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    Look,
    /// What the gates of a switch say.
    Plan {
        order: Value,
    },
    Switch {
        order: Value,
    },
    Verify,
    Kill {
        path: String,
    },
}

/// What the service said to it.
#[derive(Debug)]
pub enum Answer {
    Looked(Result<Look, String>),
    Planned {
        /// What was asked: the answer may come when something else is chosen.
        asked: Value,
        plan: Result<Value, String>,
    },
    /// What to tell of an order.
    Ordered(Result<String, String>),
}
