//! The jobs of the migration: their manager, and three of the four jobs. A job is recorded in
//! PostgreSQL, worked on by one process, and goes on from its checkpoint wherever it was
//! interrupted; while PostgreSQL is down it waits and reports that.
//!
//! ```text
//! POST …/migration/verify ─▶ Jobs::start ─▶ row in migration_jobs ─▶ Runner::run(context)
//!                                              ▲ heartbeat, checkpoint     │ save, pause, wait
//!            silence: any process takes over ──┘                           ▼ report
//! ```
//!
//! * [`runner`]: the trait every job implements; [`context`]: what it is given;
//!   [`failure`]: why it ends early
//! * [`manager`]: starts, pauses, resumes, cancels, takes over; [`driver`]: runs one job
//! * [`pace`]: throttle, rate, remaining time
//! * [`log_copies`]: the log in both stores; [`recorded_states`]: the partitions' states
//! * [`assembly`]: wires all of it
//! * [`verify`], [`repair`], [`archive`]: the jobs; backfill is passed in by `boot`

pub mod archive;
pub mod assembly;
pub mod context;
pub mod driver;
pub mod failure;
pub mod log_copies;
pub mod manager;
pub mod pace;
pub mod recorded_states;
pub mod repair;
pub mod runner;
pub mod verify;
