//! `oms dashboard`: the state of a running service in a terminal, a client of its public API.
//!
//! * [`app`]: the state, changed by keys and answers, without I/O; [`seen`]: what is known;
//!   [`dialog`]: what must be confirmed; [`tree`], [`attention`], [`words`]: made from it for
//!   people
//! * [`draw`]: draws the state, and knows nothing else
//! * [`order`]: what is asked and ordered; [`ask`]: asks and orders
//! * [`terminal`]: the terminal, left as it was whatever happens

mod app;
mod ask;
mod attention;
mod dialog;
mod draw;
mod order;
mod seen;
mod terminal;
mod tree;
mod words;

use std::io::IsTerminal;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::app::App;
use self::draw::Theme;
use self::order::{Answer, Order};
use self::terminal::Terminal;
use super::exit::Exit;
use super::output::Output;
use super::remote::{Api, Remote};
use crate::clock::now;

/// How often the time is told, and it is seen whether a look is due.
const TICK: Duration = Duration::from_millis(500);

/// Answers and keys that wait to be taken; a person and a look at a time make a few.
const WAITING: usize = 64;

/// Watch a running service in the terminal, and operate it
///
/// Shows who leads, what is behind, what needs somebody, throughput and latency, dependencies,
/// actors, switches; asks every two seconds. Fits 80 columns and 24 lines, over ssh too. When the
/// service is away it says so, keeps what it knew with its age, and comes back by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Keys: q quit, tab and 1-4 views, arrows lists, s switch the mode (gates first, then a reason and a
typed confirmation), v verify, k kill the chosen actor (only with chaos.enabled), r refresh, ? help.

Needs the role admin where tokens are configured; without it only the health is shown. No colours
with NO_COLOR.

Examples:
  oms dashboard
  oms dashboard --url https://oms.internal:8000 --token-file /run/secrets/oms
  ssh -t db1 oms dashboard --data-dir /var/lib/oms")]
pub struct Dashboard {
    #[command(flatten)]
    remote: Remote,
}

impl Dashboard {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        anyhow::ensure!(
            !output.json && std::io::stdout().is_terminal(),
            "the dashboard needs a terminal; for scripts there is `oms --json status`"
        );
        let api = self.remote.connect()?;
        let mut terminal = Terminal::take()?;
        watch(&api, &mut terminal).await?;
        Ok(Exit::Done)
    }
}

/// Until the person leaves, or the terminal does.
async fn watch(api: &Api, terminal: &mut Terminal) -> anyhow::Result<()> {
    let mut app = App::new(api.base(), now());
    let theme = Theme::of_environment();
    let mut keys = terminal.keys();
    let (told, mut answers) = mpsc::channel(WAITING);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ended = Box::pin(terminal::asked_to_end()?);
    while !app.ended {
        terminal.draw(|frame| draw::draw(frame, &app, theme))?;
        let order = tokio::select! {
            event = keys.recv() => match event {
                Some(Ok(Some(key))) => app.key(key),
                // The size has changed: it is drawn anew.
                Some(Ok(None)) => None,
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            Some(answer) = answers.recv() => app.answered(answer),
            _ = ticks.tick() => app.tick(now()),
            () = &mut ended => return Ok(()),
        };
        if let Some(order) = order {
            carry_out(order, &app, api, told.clone());
        }
    }
    Ok(())
}

/// Asks beside the loop, so that keys are taken meanwhile.
fn carry_out(order: Order, app: &App, api: &Api, told: mpsc::Sender<Answer>) {
    let (api, parts) = (api.clone(), app.view.parts());
    let after = app.seen.sampled().map(str::to_owned);
    tokio::spawn(async move {
        let answer = ask::answer(&api, order, &parts, after.as_deref()).await;
        // Nobody waits for it any more when the person has left.
        let _ = told.send(answer).await;
    });
}

#[cfg(test)]
mod tests;
