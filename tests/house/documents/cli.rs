//! `docs/CLI.md`: every command's help.

use clap::Command;

/// Columns of the help in the page, whatever the terminal has.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Command line

<!-- Generated from the program. Write it anew by: OMS_WRITE_DOCS=1 cargo test --test house -->

One binary. Text for people, `--json` for scripts. What each command is for, by task:
[OPERATIONS.md](OPERATIONS.md#the-command-line).
";

/// The page.
pub fn page() -> String {
    let mut oms = settled(oms::cli::command());
    oms.build();
    let mut page = String::from(HEAD);
    describe(&mut oms, 2, &mut page);
    page
}

/// A command whose help hangs on nothing but the program.
fn settled(command: Command) -> Command {
    command
        .term_width(WIDTH)
        .mut_args(|argument| argument.hide_env_values(true))
        .mut_subcommands(settled)
}

fn describe(command: &mut Command, level: usize, page: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    page.push_str(&format!("\n{} `{name}`\n\n```text\n", "#".repeat(level)));
    for line in command.render_long_help().to_string().trim_end().lines() {
        page.push_str(line.trim_end());
        page.push('\n');
    }
    page.push_str("```\n");
    for inner in command.get_subcommands_mut() {
        if inner.get_name() != "help" && !inner.is_hide_set() {
            describe(inner, (level + 1).min(4), page);
        }
    }
}
