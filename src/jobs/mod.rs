//! The jobs of the migration: what they run as, and three of the four themselves. A job is recorded
//! in PostgreSQL, worked on by one process, and goes on from its checkpoint wherever it was
//! interrupted; with PostgreSQL down it waits and says so.
//!
//! ```text
//! POST …/migration/verify ─▶ Jobs::start ─▶ row in migration_jobs ─▶ Runner::run(context)
//!                                              ▲ heartbeat, checkpoint     │ save, pause, wait
//!            silence: any process takes over ──┘                           ▼ report
//! ```
//!
//! * [`runner`]: the trait every job implements; [`context`]: what it is given
//! * [`manager`]: starts, pauses, resumes, cancels, takes over; [`driver`]: runs one job
//! * [`pace`]: throttle, rate, remaining time
//! * [`log_copies`]: the two places of the log; [`recorded_states`]: where the migration stands
//! * [`assembly`]: all of it put together
//! * [`verify`], [`repair`], [`archive`]: the jobs; backfill is registered by whoever assembles

pub mod archive;
pub mod assembly;
pub mod context;
pub mod driver;
pub mod log_copies;
pub mod manager;
pub mod pace;
pub mod recorded_states;
pub mod repair;
pub mod runner;
pub mod verify;
