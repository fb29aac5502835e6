//! The road between the stores: stages, partitions, the switch under way, switches before it.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::Value;

use super::{Theme, history, section, table};
use crate::cli::dashboard::app::App;
use crate::cli::dashboard::dialog::GOALS;
use crate::cli::dashboard::seen::Part;
use crate::cli::dashboard::words::{age, store};
use crate::cli::output::field;

pub fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let parts = Layout::vertical([
        Constraint::Length(2),
        Constraint::Fill(2),
        Constraint::Length(5),
        Constraint::Fill(1),
    ]);
    let [road, partitions, under_way, switches] = parts.areas(area);
    let migration = app.seen.part(Part::Migration);
    frame.render_widget(stages(migration, theme), road);
    let within = section(frame, theme, "Partitions", partitions);
    frame.render_widget(listed(app, theme, within.height), within);
    let within = section(
        frame,
        theme,
        "The last switch, the last verification",
        under_way,
    );
    frame.render_widget(Paragraph::new(last(app, theme)), within);
    let within = section(frame, theme, "Switches", switches);
    frame.render_widget(history(app, theme, within.height), within);
}

/// The stages in their order, the present one marked.
fn stages(migration: &Value, theme: Theme) -> Line<'static> {
    let here = migration["stage"].as_str();
    let mut spans = vec![Span::raw(" ")];
    for (i, (name, ..)) in GOALS.iter().enumerate() {
        if i > 0 {
            spans.push(Span::styled(" ⇄ ", theme.dim()));
        }
        spans.push(match Some(*name) == here {
            true => Span::styled(format!("[{name}]"), theme.chosen()),
            false => Span::styled((*name).to_owned(), theme.dim()),
        });
    }
    Line::from(spans)
}

fn listed(app: &App, theme: Theme, height: u16) -> ratatui::widgets::Table<'static> {
    let rows = app.seen.partitions().map(|p| {
        vec![
            field(p, "partition"),
            field(p, "stage"),
            store(p["lead"].as_str().unwrap_or("-")).to_owned(),
            field(p, "epoch"),
            field(p, "step"),
            field(p, "next_offset"),
            field(p, "unmirrored"),
            age(&p["since"], app.now),
        ]
    });
    let header = [
        "part", "stage", "leads", "epoch", "step", "commits", "lacks", "for",
    ];
    let widths = [4, 19, 10, 5, 13, 8, 6, 6];
    table(
        theme,
        &header,
        &widths,
        rows.collect(),
        Some(app.line),
        height,
    )
}

fn last(app: &App, theme: Theme) -> Vec<Line<'static>> {
    let switch = &app.seen.part(Part::Migration)["switch"];
    let mut lines = Vec::new();
    if switch.is_null() {
        lines.push(Line::raw(" This process has walked no switch."));
    } else {
        let style = match switch["state"].as_str() {
            Some("done") => theme.good(),
            Some("walking") => theme.warn(),
            _ => theme.bad(),
        };
        let part = |key| field(switch, key);
        lines.push(Line::from(vec![
            Span::styled(format!(" {}", part("state")), style),
            Span::raw(format!(
                " to {} by {}: {}",
                part("goal"),
                part("by"),
                part("reason")
            )),
        ]));
        let edges = switch["edges"].as_array();
        if let Some(edge) = edges.and_then(|edges| edges.last()) {
            lines.push(Line::raw(format!("   {}", edge_line(edge))));
        }
        if let Some(error) = switch["error"].as_str() {
            lines.push(Line::styled(format!("   {error}"), theme.bad()));
        }
    }
    let job = app.seen.part(Part::Verification);
    if let Some(state) = job["state"].as_str() {
        let found = match job["report"]["clean"].as_bool() {
            Some(true) => ", no difference found",
            Some(false) => ", the stores differ",
            None => "",
        };
        let when = age(&job["begun"], app.now);
        lines.push(Line::raw(format!(
            " verification: {state}{found}, begun {when} ago"
        )));
    }
    lines
}

fn edge_line(edge: &Value) -> String {
    let gates = edge["gates"].as_array().into_iter().flatten();
    let waits: Vec<String> = gates
        .filter(|gate| gate["state"] == "fail")
        .map(|gate| field(gate, "name"))
        .collect();
    let waits = match waits.is_empty() {
        true => String::new(),
        false => format!(" (waits for {})", waits.join(", ")),
    };
    let part = |key| field(edge, key);
    format!(
        "{} → {}: {}{waits}",
        part("from"),
        part("to"),
        part("state")
    )
}
