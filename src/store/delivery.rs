//! The port to the outbox.

use serde::Serialize;

/// Outbox depth, age, watermarks.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryStatus {}

/// A row the broker will never take.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetter {}
