//! The actors.
pub mod relay;
pub mod supervision;
