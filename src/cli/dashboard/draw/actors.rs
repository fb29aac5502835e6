//! The supervision tree: who was restarted, and why.

use ratatui::Frame;
use ratatui::layout::Rect;

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
    let within = section(frame, theme, chaos, area);
    let lines = tree::lines(app.seen.part(Part::Actors));
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
}
