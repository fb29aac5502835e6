//! Dialogs, drawn over the rest.

use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};
use serde_json::Value;

use super::Theme;
use crate::cli::dashboard::dialog::{Dialog, GOALS, Step, SwitchDialog};
use crate::cli::output::field;

const WIDTH: u16 = 76;

const HELP: &str = "\
q, Ctrl-C      quit; the service goes on
1 2 3 4        Overview, Migration, Delivery, Actors
tab, ← →       the next view, the one before
↑ ↓ PgUp PgDn  move in a list
s              switch the mode: shows the gates, asks for a reason and a
               confirmation, then orders it
v              verify that both stores hold the same
k              kill the chosen actor (only with chaos.enabled)
r              look again now; it looks every 2 s by itself
?              this help

What is ordered here is ordered in the service and is in its audit trail;
leaving interrupts nothing. The same without a terminal: oms status, mode,
verify, actors.";

pub fn draw(frame: &mut Frame<'_>, dialog: &Dialog, theme: Theme) {
    let (title, lines) = match dialog {
        Dialog::Help => ("Help", HELP.lines().map(Line::raw).collect()),
        Dialog::Verify => ("Verify", verify(theme)),
        Dialog::Kill { path, typed } => ("Kill an actor", kill(path, typed, theme)),
        Dialog::Switch(switch) => ("Switch the mode", steps(switch, theme)),
    };
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let area = centred(frame.area(), height);
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(Span::styled(format!(" {title} "), theme.strong()));
    let text = Paragraph::new(lines)
        .block(block)
        .wrap(Wrap { trim: false });
    frame.render_widget(text, area);
}

fn centred(area: Rect, height: u16) -> Rect {
    let vertical = Layout::vertical([Constraint::Length(height.min(area.height))]);
    let [row] = vertical.flex(Flex::Center).areas(area);
    let horizontal = Layout::horizontal([Constraint::Length(WIDTH.min(area.width))]);
    let [place] = horizontal.flex(Flex::Center).areas(row);
    place
}

fn keys(theme: Theme, keys: &'static str) -> Line<'static> {
    Line::styled(keys, theme.dim())
}

fn verify(theme: Theme) -> Vec<Line<'static>> {
    vec![
        Line::raw("Compares every stream of both stores. It reads all of both, changes nothing"),
        Line::raw("and takes a while; its result is under Migration."),
        Line::raw(""),
        keys(theme, "Enter begins, Esc leaves it"),
    ]
}

fn kill(path: &str, typed: &str, theme: Theme) -> Vec<Line<'static>> {
    vec![
        Line::raw(format!(
            "{path} ends as if it had panicked, and is restarted."
        )),
        Line::raw("Type its path to confirm:"),
        typing(typed, theme),
        Line::raw(""),
        keys(theme, "Enter kills it, Esc leaves it"),
    ]
}

fn typing(typed: &str, theme: Theme) -> Line<'static> {
    Line::from(vec![
        Span::styled("> ", theme.dim()),
        Span::styled(typed.to_owned(), theme.strong()),
        Span::styled(" ", theme.chosen()),
    ])
}

fn steps(switch: &SwitchDialog, theme: Theme) -> Vec<Line<'static>> {
    let goal = switch.name();
    match &switch.step {
        Step::Choose => {
            let mut lines = vec![Line::raw(
                "To which stage? What lies between is walked edge by edge.",
            )];
            for (i, (name, ..)) in GOALS.iter().enumerate() {
                let style = match i == switch.goal {
                    true => theme.chosen(),
                    false => theme.plain(),
                };
                lines.push(Line::styled(format!("  {name}  "), style));
            }
            lines.push(Line::raw(""));
            lines.push(keys(
                theme,
                "↑ ↓ choose, Enter asks the gates, Esc leaves it",
            ));
            lines
        }
        Step::Asking => vec![Line::raw(format!("Asking the gates of the way to {goal}…"))],
        Step::Gates(Err(why)) => vec![
            Line::styled(format!("The gates were not told: {why}"), theme.bad()),
            keys(theme, "Esc leaves it"),
        ],
        Step::Gates(Ok(plan)) => gates(switch, plan, theme),
        Step::Reason => vec![
            Line::raw(format!("Why to {goal}? It is kept in the history.")),
            typing(&switch.reason, theme),
            Line::raw(""),
            keys(theme, "Enter goes on, Esc leaves it"),
        ],
        Step::Confirm => vec![
            Line::raw(format!("Reason: {}", switch.reason.trim())),
            Line::raw(format!("Type {goal} to order the switch:")),
            typing(&switch.typed, theme),
            Line::raw(""),
            keys(theme, "Enter orders it, Esc leaves it"),
        ],
    }
}

fn gates(switch: &SwitchDialog, plan: &Value, theme: Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for edge in plan["edges"].as_array().into_iter().flatten() {
        let way = format!("{} → {}", field(edge, "from"), field(edge, "to"));
        lines.push(Line::styled(way, theme.strong()));
        for gate in edge["gates"].as_array().into_iter().flatten() {
            let (mark, style) = match gate["state"].as_str() {
                Some("pass") => ("✓", theme.good()),
                Some("fail") => ("✗", theme.bad()),
                _ => ("-", theme.dim()),
            };
            let part = |key| field(gate, key);
            let is = format!(" {}: {} ({})", part("name"), part("figure"), part("kind"));
            lines.push(Line::from(vec![
                Span::styled(format!("  {mark}"), style),
                Span::raw(is),
            ]));
        }
    }
    if lines.is_empty() {
        lines.push(Line::raw(format!("It is {} already.", switch.name())));
    }
    lines.push(Line::raw(""));
    lines.push(if switch.can_be_ordered() {
        keys(theme, "Nothing was done yet. Enter goes on, Esc leaves it")
    } else if SwitchDialog::is_so(plan) {
        keys(theme, "Esc leaves it")
    } else {
        let told = "It would be refused; `oms mode --help`: what --force skips. Esc leaves it";
        Line::styled(told, theme.warn())
    });
    lines
}
