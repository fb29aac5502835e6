//! The command line, one file for each group of commands.
//!
//! * `serve`: the service; `demo`: migrates and verifies on a real data set
//! * against a running service: `status`, `dashboard`, `mode`, `jobs`, `events`, `dead`, `actors`,
//!   `audit`, `drill`, `projections`, `bench`, through `remote`
//! * on the bucket itself: `log`
//! * `config`: the configuration; `doctor`: an installation with all that it needs
//! * `groups`: the commands by purpose; `exit`: the exit codes; `output`, `progress`: text, tables,
//!   progress bars and JSON

mod actors;
mod audit;
mod bench;
mod config;
mod dashboard;
mod dead;
mod demo;
mod doctor;
mod drill;
mod events;
mod exit;
mod flags;
mod groups;
mod jobs;
mod log;
mod mode;
mod output;
mod progress;
mod projections;
mod remote;
mod serve;
mod status;

use std::future::Future;
use std::io;
use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

use self::exit::Exit;
pub use self::groups::command;
use self::output::Output;

/// Event-sourced ontology service: S3 is the event store, PostgreSQL the outbox, Kafka the
/// transport.
#[derive(Debug, Parser)]
#[command(name = "oms", version, after_long_help = exit::HELP, propagate_version = true)]
pub struct Cli {
    /// Print JSON for scripts instead of text for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Doctor(doctor::Doctor),
    Status(status::Status),
    Dashboard(dashboard::Dashboard),
    Mode(mode::Mode),
    #[command(subcommand)]
    Events(events::Events),
    #[command(subcommand)]
    Dead(dead::Dead),
    Actors(actors::Actors),
    Audit(audit::Audit),
    #[command(subcommand)]
    Drill(drill::Drill),
    Projections(projections::Projections),
    Backfill(jobs::Backfill),
    Verify(jobs::Verify),
    Repair(jobs::Repair),
    Archive(jobs::Archive),
    #[command(subcommand)]
    Log(log::Log),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    #[command(subcommand)]
    Bench(bench::Bench),
    Completions(Completions),
}

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  oms completions bash > /etc/bash_completion.d/oms")]
struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// Parses the command line of this process and runs it.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|e| e.exit());
    let output = Output { json: cli.json };
    match run(cli.command, output) {
        Ok(code) => code,
        // The reader of our output has closed it, as in `oms events tail | head`.
        Err(error) if is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            output.error(&error);
            Exit::of(&error).into()
        }
    }
}

fn run(chosen: Command, output: Output) -> anyhow::Result<ExitCode> {
    match chosen {
        // The service builds its own runtimes.
        Command::Serve(command) => command.run(),
        Command::Config(command) => command.run(output),
        Command::Completions(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(shell.shell, &mut command(), "oms", &mut script);
            output.text(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Done.into())
        }
        Command::Demo(command) => block_on(command.run(output)),
        Command::Doctor(command) => block_on(command.run(output)),
        Command::Status(command) => block_on(command.run(output)),
        Command::Dashboard(command) => block_on(command.run(output)),
        Command::Mode(command) => block_on(command.run(output)),
        Command::Events(command) => block_on(command.run(output)),
        Command::Dead(command) => block_on(command.run(output)),
        Command::Actors(command) => block_on(command.run(output)),
        Command::Audit(command) => block_on(command.run(output)),
        Command::Drill(command) => block_on(command.run(output)),
        Command::Projections(command) => block_on(command.run(output)),
        Command::Backfill(command) => block_on(command.run(output)),
        Command::Verify(command) => block_on(command.run(output)),
        Command::Repair(command) => block_on(command.run(output)),
        Command::Archive(command) => block_on(command.run(output)),
        Command::Log(command) => block_on(command.run(output)),
        Command::Bench(command) => block_on(command.run(output)),
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(work);
    // Does not wait for the threads of a Kafka client.
    runtime.shutdown_background();
    outcome.map(ExitCode::from)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_put_together_soundly() {
        command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself() {
        fn check(command: &clap::Command) {
            let name = command.get_name().to_owned();
            assert!(command.get_about().is_some(), "{name} has no help");
            command.get_subcommands().for_each(check);
        }
        check(&command());
    }
}
