//! `oms demo`: migrates, kills and verifies a service on a real data set, on the embedded stack.
//!
//! * [`data`]: the records; [`infer`]: classes made from them; [`plan`]: the requests and the
//!   expected result
//! * [`child`]: the service, killed half-way; [`load`]: sends the requests through a kill
//! * [`listener`]: what Kafka delivers; [`facts`]: what S3, read model and feed hold
//! * [`story`]: the steps in order; [`report`]: the comparison

mod child;
mod data;
mod facts;
mod infer;
mod listener;
mod load;
mod plan;
mod report;
mod road;
mod story;

use std::path::PathBuf;

use super::exit::Exit;
use super::output::Output;
use crate::clock::new_uuid;

/// Load a real data set, kill the service half-way, prove that nothing was lost
///
/// Starts `oms serve` on the embedded stack in a folder of its own, makes classes from the records
/// (types, required properties, constraints) and loads the records, with PostgreSQL as the event
/// store at first. Meanwhile the mode walks to S3 (backfill, verification, hand-off), back, and
/// there again, and half-way the process is killed. Then it compares: what was sent, the log in S3,
/// the read model, the feed, and what Kafka delivered. Ends with 5 when they differ.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oms demo
  oms demo --records 500 --keep
  oms --json demo | jq .checks")]
pub struct Demo {
    /// Load this many records at most [default: all, 11,707]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(20..))]
    records: Option<u32>,
    /// Work in this folder and keep it [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep the temporary folder
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let temporary = self.data_dir.is_none();
        let dir = self.data_dir.unwrap_or_else(|| {
            std::env::temp_dir().join(format!("oms-demo-{}", new_uuid().simple()))
        });
        std::fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        let keep = self.keep || !temporary;
        let told = story::tell(&dir, self.records.map(|n| n as usize), output).await;
        if !keep && told.as_ref().is_ok_and(report::Report::holds) {
            std::fs::remove_dir_all(&dir)?;
        }
        let mut report = match told {
            Ok(report) => report,
            Err(error) => {
                let dir = dir.display();
                return Err(error.context(format!("the demo's data is kept in {dir}")));
            }
        };
        report.data_dir = dir.exists().then_some(dir);
        output.result(&report, || report.describe())?;
        Ok(if report.holds() {
            Exit::Done
        } else {
            Exit::NotProven
        })
    }
}
