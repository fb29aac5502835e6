//! The actors.
pub mod projection;
pub mod supervision;
