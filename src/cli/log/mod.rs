//! `oms log`: the log in the bucket itself, whether or not a service runs.

mod audit;
pub mod bucket;

use std::str::FromStr;

use anyhow::Context;

use self::bucket::Bucket;
use super::exit::Exit;
use super::flags::ConfigFlags;
use super::output::Output;
use crate::domain::ids::{Offset, PartitionId, Position};

/// Read or audit the log in the bucket
#[derive(Debug, clap::Subcommand)]
pub enum Log {
    Cat(Cat),
    Audit(audit::Audit),
}

/// Print an event, or a whole commit object, as it is stored
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oms log cat 2/17/0          one event
  oms log cat 2/17            the object it lies in, header first")]
pub struct Cat {
    #[command(flatten)]
    config: ConfigFlags,
    /// partition/offset/index, or partition/offset
    position: PositionArg,
}

/// The position of an event or of an object.
#[derive(Debug, Clone, Copy)]
struct PositionArg {
    partition: PartitionId,
    offset: Offset,
    index: Option<u32>,
}

impl FromStr for PositionArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(position) = text.parse::<Position>() {
            return Ok(Self {
                partition: position.partition,
                offset: position.offset,
                index: Some(position.index),
            });
        }
        let parts = text.split_once('/');
        let place = parts.and_then(|(partition, offset)| {
            Some(Self {
                partition: PartitionId(partition.parse().ok()?),
                offset: offset.parse().ok()?,
                index: None,
            })
        });
        place.ok_or_else(|| "must be partition/offset/index or partition/offset".to_owned())
    }
}

impl Log {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        match self {
            Self::Cat(cat) => cat.run(output).await,
            Self::Audit(audit) => audit.run(output).await,
        }
    }
}

impl Cat {
    async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let bucket = Bucket::open(&self.config.load(Vec::new())?).await?;
        let PositionArg {
            partition,
            offset,
            index,
        } = self.position;
        let object = bucket
            .log
            .commit(partition, offset)
            .await?
            .with_context(|| format!("the log has no object {partition}/{offset}"))?;
        let bytes = match index {
            None => object.bytes.clone(),
            Some(index) if (index as usize) < object.lines.len() => {
                let mut line = object.line(index as usize).to_vec();
                line.push(b'\n');
                line.into()
            }
            Some(_) => anyhow::bail!(
                "{partition}/{offset} has {} lines, counted from 0",
                object.lines.len()
            ),
        };
        // As stored, which is JSON.
        output.text(&String::from_utf8_lossy(&bytes))?;
        Ok(Exit::Done)
    }
}
