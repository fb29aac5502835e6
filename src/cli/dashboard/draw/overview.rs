//! One look: who leads, what is behind, what needs somebody.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::{Theme, history, section, table};
use crate::cli::dashboard::app::App;
use crate::cli::dashboard::attention::attention;
use crate::cli::dashboard::seen::{Part, Seen};
use crate::cli::dashboard::words::{age, duration, number, store};
use crate::cli::output::field;

pub fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let items = attention(&app.seen, app.now);
    // Nothing to tell takes one line; the rest is for what was ordered.
    let needs = u16::try_from(items.len()).unwrap_or(u16::MAX).max(1) + 1;
    let parts = Layout::vertical([
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Max(needs),
        Constraint::Min(3),
    ]);
    let [top, dependencies, needing, switches] = parts.areas(area);
    let halves = Layout::horizontal([Constraint::Percentage(52), Constraint::Percentage(48)]);
    let [state, figures] = halves.areas(top);
    let within = section(frame, theme, "State", state);
    frame.render_widget(Paragraph::new(facts(app, theme)), within);
    curves(frame, app, theme, figures);
    let within = section(frame, theme, "Dependencies", dependencies);
    frame.render_widget(stores(app, theme, within.height), within);
    let within = section(frame, theme, "Needs attention", needing);
    let lines: Vec<Line<'_>> = match items.is_empty() {
        true => vec![Line::styled(" Nothing needs anybody.", theme.good())],
        false => items
            .into_iter()
            .map(|item| {
                let (mark, style) = match item.is_bad {
                    true => (" ✗ ", theme.bad()),
                    false => (" ! ", theme.warn()),
                };
                let section = format!("  (runbook: {})", item.section);
                Line::from(vec![
                    Span::styled(mark, style),
                    Span::raw(item.what),
                    Span::styled(section, theme.dim()),
                ])
            })
            .collect(),
    };
    frame.render_widget(Paragraph::new(lines), within);
    let within = section(frame, theme, "Last switches", switches);
    frame.render_widget(history(app, theme, within.height), within);
}

fn fact(theme: Theme, name: &'static str, what: String) -> Line<'static> {
    Line::from(vec![
        Span::styled(format!(" {name:11}"), theme.dim()),
        Span::raw(what),
    ])
}

fn facts(app: &App, theme: Theme) -> Vec<Line<'static>> {
    let (health, seen) = (&app.seen.health, &app.seen);
    let migration = seen.part(Part::Migration);
    let leads = store(health["lead"].as_str().unwrap_or("-")).to_owned();
    let mode = match migration["stage"].as_str() {
        Some(stage) => stage.to_owned(),
        None => field(health, "migration_mode"),
    };
    let outbox = match seen.latest("outbox_depth") {
        Some(0.0) => "nothing waits".to_owned(),
        depth => format!(
            "{} rows wait, the oldest {}",
            number(depth),
            duration(seen.latest("outbox_oldest"))
        ),
    };
    let projection = match seen.latest("projection_lag") {
        Some(0.0) => "follows the log".to_owned(),
        lag => format!("lags {} commits", number(lag)),
    };
    vec![
        fact(theme, "Stage", mode),
        fact(
            theme,
            "Leads",
            format!("{leads}, epoch {}", field(health, "epoch")),
        ),
        fact(theme, "Partitions", leaders(seen)),
        fact(theme, "Copy", copy(seen)),
        fact(theme, "Delivery", outbox),
        fact(theme, "Read model", projection),
        fact(
            theme,
            "Dead",
            format!("{} letters", number(seen.latest("dead_letters"))),
        ),
    ]
}

/// How many partitions each store leads, and how many are between.
fn leaders(seen: &Seen) -> String {
    let count = |lead: &str| seen.partitions().filter(|p| p["lead"] == lead).count();
    let moving = seen.partitions().filter(|p| p["moving"] == true).count();
    let led = [(count("postgres"), "PostgreSQL"), (count("s3"), "S3")];
    let led = led.into_iter().filter(|(n, _)| *n > 0);
    let mut told: Vec<String> = led.map(|(n, name)| format!("{n} {name}")).collect();
    if moving > 0 {
        told.push(format!("{moving} moving"));
    }
    match told.is_empty() {
        true => "-".to_owned(),
        false => told.join(", "),
    }
}

/// What the store that does not lead lacks.
fn copy(seen: &Seen) -> String {
    let lacking: Vec<u64> = (seen.partitions())
        .filter_map(|p| p["unmirrored"].as_u64())
        .collect();
    match (lacking.is_empty(), lacking.iter().sum::<u64>()) {
        (true, _) => "none is kept".to_owned(),
        (false, 0) => "has everything".to_owned(),
        (false, lacks) => format!("lacks {lacks} commits"),
    }
}

fn stores(app: &App, theme: Theme, height: u16) -> ratatui::widgets::Table<'static> {
    let known = app.seen.health["dependencies"].as_object();
    let rows = known.into_iter().flatten().map(|(name, state)| {
        let calls = state["latency_ms"].as_f64().filter(|ms| *ms > 0.0);
        vec![
            store(name).to_owned(),
            field(state, "state"),
            duration(calls.map(|ms| ms / 1e3)),
            duration(app.seen.latest(&format!("{name}_p99"))),
            age(&state["since"], app.now),
        ]
    });
    let header = ["", "state", "a call", "p99", "for"];
    table(
        theme,
        &header,
        &[12, 9, 10, 10, 10],
        rows.collect(),
        None,
        height,
    )
}

/// Throughput and latency of the last minutes.
fn curves(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let parts = Layout::vertical([Constraint::Length(4), Constraint::Length(4)]);
    let [writes, latency] = parts.areas(area);
    let seen = &app.seen;
    let title = format!(
        "writes {}/s, reads {}/s",
        number(seen.latest("writes")),
        number(seen.latest("reads"))
    );
    curve(frame, theme, &title, seen.figure("writes"), writes);
    let title = format!(
        "a write p50 {}, p99 {}",
        duration(seen.latest("write_p50")),
        duration(seen.latest("write_p99"))
    );
    curve(frame, theme, &title, seen.figure("write_p99"), latency);
}

fn curve(frame: &mut Frame<'_>, theme: Theme, title: &str, values: &[Option<f64>], area: Rect) {
    let within = section(frame, theme, title, area);
    let width = usize::from(within.width);
    let newest = &values[values.len().saturating_sub(width)..];
    let largest = newest.iter().flatten().copied().fold(0.0, f64::max);
    if largest <= 0.0 {
        return;
    }
    // In thousandths of the largest: the widget draws whole numbers.
    let scaled = newest.iter().map(|v| v.map(|v| (v / largest * 1e3) as u64));
    let bars: Vec<Option<u64>> = scaled.collect();
    let line = Sparkline::default()
        .data(bars)
        .max(1_000)
        .style(theme.good());
    frame.render_widget(line, within);
}
