//! The composition root.

use std::process::ExitCode;

use crate::config::Config;

/// Runs the service until it is told to stop; the exit code says why it ended.
pub fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let _ = config;
    anyhow::bail!("the service is not put together yet")
}
