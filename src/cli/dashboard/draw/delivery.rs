//! From the log to Kafka and into the read model.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::{Theme, section, table};
use crate::cli::dashboard::app::App;
use crate::cli::dashboard::seen::Part;
use crate::cli::dashboard::words::{duration, number};
use crate::cli::output::field;

pub fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let parts = Layout::vertical([
        Constraint::Length(4),
        Constraint::Fill(1),
        Constraint::Length(4),
    ]);
    let [summary, partitions, projections] = parts.areas(area);
    let within = section(frame, theme, "Outbox", summary);
    frame.render_widget(Paragraph::new(outbox(app, theme)), within);
    let within = section(frame, theme, "Partitions", partitions);
    frame.render_widget(listed(app, theme, within.height), within);
    let within = section(frame, theme, "Projections", projections);
    frame.render_widget(projected(app, theme, within.height), within);
}

fn outbox(app: &App, theme: Theme) -> Vec<Line<'static>> {
    let (seen, status) = (&app.seen, app.seen.part(Part::Outbox));
    let dead = status["dead_letters"].as_u64().unwrap_or_default();
    let rates = format!(
        " published {}/s, refused or failed {}/s, p99 {}",
        number(seen.latest("published")),
        number(seen.latest("publish_failures")),
        duration(seen.latest("relay_p99"))
    );
    let waits = format!(
        " {} rows wait, the oldest for {}",
        field(status, "depth"),
        duration(status["oldest_seconds"].as_f64())
    );
    let letters = match dead {
        0 => Line::styled(" no dead letters", theme.good()),
        n => Line::styled(
            format!(" {n} dead letters: `oms dead list` says why"),
            theme.warn(),
        ),
    };
    vec![Line::raw(waits), Line::raw(rates), letters]
}

fn listed(app: &App, theme: Theme, height: u16) -> ratatui::widgets::Table<'static> {
    let partitions = app.seen.part(Part::Outbox)["partitions"].as_array();
    let rows = partitions.into_iter().flatten().map(|p| {
        vec![
            field(p, "partition"),
            field(p, "watermark"),
            field(p, "delivered"),
            field(p, "lag"),
            field(p, "lease_owner"),
        ]
    });
    let header = [
        "partition",
        "recorded to",
        "delivered to",
        "lag",
        "published by",
    ];
    let widths = [9, 12, 12, 8, 20];
    table(
        theme,
        &header,
        &widths,
        rows.collect(),
        Some(app.line),
        height,
    )
}

fn projected(app: &App, theme: Theme, height: u16) -> ratatui::widgets::Table<'static> {
    let items = app.seen.part(Part::Projections)["items"].as_array();
    let rows = items.into_iter().flatten().map(|p| {
        let rebuild = &p["rebuild"];
        let progress = match rebuild.is_object() {
            false => "-".to_owned(),
            true => format!("{} of {}", field(rebuild, "done"), field(rebuild, "total")),
        };
        let columns = ["name", "state", "lag_commits", "parked_events"];
        let mut row: Vec<String> = columns.iter().map(|key| field(p, key)).collect();
        row.push(progress);
        row
    });
    let header = ["name", "state", "lag", "parked", "rebuild"];
    table(
        theme,
        &header,
        &[12, 12, 8, 8, 10],
        rows.collect(),
        None,
        height,
    )
}
