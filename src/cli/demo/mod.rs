//! `oms demo`.
pub mod data;
pub mod infer;

use super::exit::Exit;
use super::output::Output;

/// Demo
#[derive(Debug, clap::Args)]
pub struct Demo {}
impl Demo {
    pub(super) async fn run(self, _output: Output) -> anyhow::Result<Exit> {
        Ok(Exit::Done)
    }
}
