//! The supervision tree: who was restarted, and why.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::widgets::{Paragraph, Wrap};

use super::{Theme, section, table};
use crate::cli::dashboard::app::App;
use crate::cli::dashboard::seen::Part;
use crate::cli::dashboard::tree;
use crate::cli::dashboard::words::duration;

pub fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let chaos = match app.seen.has_chaos() {
        true => "Actors (k kills the chosen one)",
        false => "Actors",
    };
    let parts = Layout::vertical([Constraint::Min(0), Constraint::Length(3)]);
    let [list, chosen] = parts.areas(area);
    let within = section(frame, theme, chaos, list);
    let lines = tree::lines(app.seen.part(Part::Actors));
    let why = lines.get(app.line).and_then(|line| line.failure.clone());
    let rows = lines.into_iter().map(|line| {
        let name = format!("{}{}", "  ".repeat(line.depth), line.name);
        if line.path.is_none() {
            return vec![name];
        }
        vec![
            name,
            line.state,
            line.restarts.to_string(),
            line.calls.to_string(),
            duration(Some(line.wait_ms / 1e3)),
            line.failure.unwrap_or_default(),
        ]
    });
    let header = [
        "actor",
        "state",
        "restarts",
        "calls",
        "waits",
        "last failure",
    ];
    let widths = [28, 10, 8, 6, 8, 12];
    let height = within.height;
    let drawn = table(
        theme,
        &header,
        &widths,
        rows.collect(),
        Some(app.line),
        height,
    );
    frame.render_widget(drawn, within);
    // The table has no room for a long message.
    let within = section(frame, theme, "Last failure of the chosen one", chosen);
    let told = why.unwrap_or_else(|| "none".to_owned());
    frame.render_widget(Paragraph::new(told).wrap(Wrap { trim: true }), within);
}
