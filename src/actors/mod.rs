//! The actors.
pub mod outbox;
pub mod relay;
pub mod supervision;
