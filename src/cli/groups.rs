//! Groups the commands by purpose in `oms --help`: the argument parser can group arguments only.

use clap::{Command, CommandFactory};

use super::Cli;

/// A purpose, and the commands for it.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run", &["serve", "config", "doctor", "completions"]),
    (
        "Look",
        &[
            "status",
            "dashboard",
            "events",
            "log",
            "actors",
            "audit",
            "dead",
            "projections",
        ],
    ),
    ("Migrate", &["mode", "backfill", "verify", "archive"]),
    ("Repair", &["repair"]),
    ("Lab", &["demo", "drill", "bench"]),
];

/// The command line, with its commands in groups.
pub fn command() -> Command {
    let command = Cli::command();
    let template = template(&command);
    command.help_template(template)
}

fn template(command: &Command) -> String {
    let line = |name: &&str| {
        let about = command.find_subcommand(name).and_then(Command::get_about);
        let about = about.map(ToString::to_string).unwrap_or_default();
        format!("  {name:<11}  {about}\n")
    };
    let groups = GROUPS.map(|(group, names)| {
        let lines: String = names.iter().map(line).collect();
        format!("{group}:\n{lines}\n")
    });
    format!(
        "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}\
         `oms COMMAND --help` says more, with examples.\n\nOptions:\n{{options}}{{after-help}}",
        groups.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_every_group_has_commands_that_exist() {
        let command = Cli::command();
        let mut known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        let mut grouped = GROUPS.map(|(_, names)| names).concat();
        known.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, known);
    }

    #[test]
    fn help_shows_each_command_with_what_it_does_and_the_exit_codes() {
        let help = super::command().render_long_help().to_string();
        assert!(
            help.contains("Look:\n  status       Show how a running"),
            "{help}"
        );
        assert!(
            help.contains("Exit codes:") && help.contains("--json"),
            "{help}"
        );
    }
}
