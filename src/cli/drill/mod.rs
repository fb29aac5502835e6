//! `oms drill`: failures on purpose, for game days.
//!
//! * [`stream`]: the drill's own streams, and what was acknowledged of them; [`load`]: clients that
//!   write to some of them meanwhile
//! * [`campaign`]: kills, round by round; [`answer`]: for each kind of actor, a request that shows
//!   that it works again; [`pace`]: so that no actor fails beyond its limit
//! * [`check`]: reads everything back; [`report`]: the result

mod answer;
mod campaign;
mod check;
mod load;
mod pace;
mod patience;
mod report;
mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use serde_json::json;

use self::campaign::{Campaign, Plan};
use self::load::Load;
use self::report::Report;
use self::stream::Streams;
use super::exit::Exit;
use super::output::Output;
use super::remote::{Api, ApiError, Remote};
use crate::actors::supervision::policy::ActorKind;
use crate::clock::new_uuid;

/// Make things fail on purpose, and see them come back
#[derive(Debug, clap::Subcommand)]
pub enum Drill {
    Kill(Kill),
}

/// Kill actors of every kind under a light load, and time how soon each does its work again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Needs `chaos.enabled` and the role admin. Writes real events, to streams of its own (drill/…): it is
meant for game days, also in production.

For each kind of actor the time is taken from the order to kill until an answer that it alone makes
possible:
  aggregate        a write to its entity is acknowledged
  event_store      a write to its partition is acknowledged
  outbox, relay    an event written after the kill has been acknowledged by the broker
  projection       a read that asks for an event written after the kill is answered
  mirror           an event written after the kill is in both stores; where one alone is kept: the
                   actor runs again
  migration_mode   a dry run of a switch is answered

Afterwards every acknowledged write of the drill is read back: it must be there once, with the
version and at the position it was acknowledged with. Ctrl-C ends the drill with what it has so far.

An actor is killed again only when its policy allows it, with two failures to spare: many rounds
take minutes, and failures from before the drill count. Each failure within its window doubles the pause before the restart (`pause`), so that
--rest 60 measures lone failures and the default measures failures in a row.

Ends with 5 when an acknowledged write is lost, doubled or misplaced; with 4 when an actor did not
come back within --limit, or not everything could be read back.

Examples:
  oms drill kill
  oms drill kill --actors relay,projection --how stop --rounds 10
  oms --json drill kill --rounds 30 --rest 60")]
pub struct Kill {
    #[command(flatten)]
    remote: Remote,
    /// How, as in `oms actors --kill`
    #[arg(long, default_value = "panic", value_name = "HOW")]
    how: String,
    /// How often each kind is killed
    #[arg(long, default_value_t = 3, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Only these kinds [default: all that the service has]
    #[arg(long, value_name = "KIND,…", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(ActorKind::ALL.map(ActorKind::as_str)))]
    actors: Vec<String>,
    /// Clients that write all the while, each to its own stream, one request at a time
    #[arg(long, default_value_t = 4, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
    /// An actor that does not work again after so long is given up, and the drill ends
    #[arg(long, default_value_t = 30, value_name = "S",
        value_parser = clap::value_parser!(u64).range(1..=600))]
    limit: u64,
    /// Shortest time between two kills of one actor; never less than its policy allows
    #[arg(long, default_value_t = 0, value_name = "S",
        value_parser = clap::value_parser!(u64).range(0..=600))]
    rest: u64,
}

impl Drill {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        match self {
            Self::Kill(kill) => kill.run(output).await,
        }
    }
}

impl Kill {
    async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let api = self.remote.connect()?;
        may_kill(&api, &self.how).await?;
        let limit = Duration::from_secs(self.limit);
        let streams = Arc::new(Streams::new(new_uuid().simple().to_string()));
        let wanted = |kind: ActorKind| {
            self.actors.is_empty() || self.actors.iter().any(|name| name == kind.as_str())
        };
        let plan = Plan::make(&api, &streams, limit, wanted).await?;
        for name in &self.actors {
            anyhow::ensure!(plan.has(name), "the service has no actor of kind {name}");
        }
        output.note(&format!(
            "streams drill/{}-…, {} rounds of {}",
            streams.run(),
            self.rounds,
            plan.names().join(", ")
        ));
        let begun = Instant::now();
        let load = Load::start(&api, &streams, self.clients, limit);
        let campaign = Campaign {
            api: &api,
            streams: &streams,
            plan,
            how: &self.how,
            rounds: self.rounds,
            limit,
            rest: Duration::from_secs(self.rest),
            output,
        };
        let mut report = Report::new(streams.run(), &self.how, self.rounds);
        let ended = tokio::select! {
            ended = campaign.run(&mut report.strikes) => ended.map(|lost| report.not_back = lost),
            stop = tokio::signal::ctrl_c() => {
                report.interrupted = true;
                output.note("interrupted: reading back what was written; once more skips that");
                stop.map_err(Into::into)
            }
        };
        report.seconds = begun.elapsed().as_secs_f64();
        let rest = async {
            report.load = load.end().await?;
            check::all(&api, &streams, limit).await
        };
        report.check = tokio::select! {
            checked = rest => match checked {
                Ok(checked) => Some(checked),
                Err(error) => {
                    output.error(&anyhow::Error::from(error).context("not everything was read back"));
                    None
                }
            },
            stop = tokio::signal::ctrl_c() => {
                stop?;
                None
            }
        };
        output.result(&report.summary(), || report.text())?;
        // What was found matters more than why it ended.
        match (report.exit(), ended) {
            (Exit::Done, Err(error)) => Err(error),
            (exit, ended) => {
                if let Err(error) = ended {
                    output.error(&error);
                }
                Ok(exit)
            }
        }
    }
}

/// Tests whether kills are allowed, by a request to kill an actor that does not exist.
async fn may_kill(api: &Api, how: &str) -> Result<(), ApiError> {
    let order = json!({ "path": "drill/nobody", "how": how });
    match api.post("/api/v1/admin/actors/kill", &order).await {
        Err(ApiError::Refused { code, .. }) if code == "actor_not_found" => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}
