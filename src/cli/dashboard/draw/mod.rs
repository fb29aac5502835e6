//! Draws the state; knows nothing but it. 80 columns and 24 lines are enough, more show more.

mod actors;
mod delivery;
mod dialogs;
mod migration;
mod overview;
mod theme;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

pub use self::theme::Theme;

use super::app::{App, View};
use super::words::{clock, duration};
use crate::cli::output::field;

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme) {
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ]);
    let [head, tabs, body, foot] = areas.areas(frame.area());
    frame.render_widget(header(app, theme), head);
    frame.render_widget(tab_line(app, theme), tabs);
    let body = away(frame, app, theme, body);
    match app.view {
        _ if app.heard.is_none() => waiting(frame, app, body),
        View::Overview => overview::draw(frame, app, theme, body),
        View::Migration => migration::draw(frame, app, theme, body),
        View::Delivery => delivery::draw(frame, app, theme, body),
        View::Actors => actors::draw(frame, app, theme, body),
    }
    frame.render_widget(footer(app, theme), foot);
    if let Some(dialog) = &app.dialog {
        dialogs::draw(frame, dialog, theme);
    }
}

/// The state in a word.
fn header(app: &App, theme: Theme) -> Line<'static> {
    let health = &app.seen.health;
    let (word, style) = match (&app.lost, health["status"].as_str()) {
        (Some(_), _) => (" AWAY ", theme.bad_badge()),
        (None, Some("ok")) => (" OK ", theme.good_badge()),
        (None, Some("degraded")) => (" DEGRADED ", theme.warn_badge()),
        (None, Some(_)) => (" UNAVAILABLE ", theme.bad_badge()),
        (None, None) => (" ASKING ", theme.dim()),
    };
    let version = health["version"].as_str();
    let version = version.map(|v| format!(" {v}")).unwrap_or_default();
    Line::from(vec![
        Span::styled(word, style),
        Span::styled(format!(" oms{version}  "), theme.strong()),
        Span::raw(app.url.clone()),
        Span::styled(format!("  {} UTC", clock(app.now)), theme.dim()),
    ])
}

fn tab_line(app: &App, theme: Theme) -> Line<'static> {
    let tabs = View::ALL.iter().zip(1..).flat_map(|(view, number)| {
        let style = match *view == app.view {
            true => theme.chosen(),
            false => theme.plain(),
        };
        let tab = format!(" {number} {} ", view.name());
        [Span::styled(tab, style), Span::raw(" ")]
    });
    Line::from(tabs.collect::<Vec<_>>())
}

/// Says that the service is away, or does not tell all; gives the rest of the place.
fn away(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) -> Rect {
    let told = match (&app.lost, &app.seen.untold) {
        (Some(why), _) => {
            let heard = app.heard.map(|at| app.now.duration_since(at).as_secs_f64());
            let old = match heard {
                Some(_) => format!("What follows is {} old; it", duration(heard)),
                None => "It".to_owned(),
            };
            format!("The service is away: {why}. {old} is asked again every 2 s.")
        }
        (None, Some(why)) => format!("Not everything is told: {why}"),
        (None, None) => return area,
    };
    let [notice, rest] = Layout::vertical([Constraint::Length(2), Constraint::Min(0)]).areas(area);
    let style = match app.lost {
        Some(_) => theme.bad(),
        None => theme.warn(),
    };
    let wrapped = Paragraph::new(told).style(style);
    frame.render_widget(wrapped.wrap(ratatui::widgets::Wrap { trim: true }), notice);
    rest
}

fn waiting(frame: &mut Frame<'_>, app: &App, area: Rect) {
    if app.lost.is_none() {
        frame.render_widget(Paragraph::new(" Asking the service…"), area);
    }
}

fn footer(app: &App, theme: Theme) -> Line<'static> {
    if let Some((told, failed)) = &app.notice {
        let style = match failed {
            true => theme.bad(),
            false => theme.good(),
        };
        return Line::styled(format!(" {}", told.replace('\n', " ")), style);
    }
    let keys = " q quit  tab view  ↑↓ line  s switch  v verify  k kill  r refresh  ? help";
    Line::styled(keys, theme.dim())
}

/// A part of the screen with its title; gives the place within.
fn section(frame: &mut Frame<'_>, theme: Theme, title: &str, area: Rect) -> Rect {
    let block = Block::default()
        .borders(Borders::TOP)
        .border_style(theme.dim())
        .title(Span::styled(format!(" {title} "), theme.strong()));
    let within = block.inner(area);
    frame.render_widget(block, area);
    within
}

/// A table of texts; with a chosen line it is scrolled so that this is seen.
fn table(
    theme: Theme,
    header: &[&'static str],
    widths: &[u16],
    rows: Vec<Vec<String>>,
    chosen: Option<usize>,
    height: u16,
) -> Table<'static> {
    let room = usize::from(height.saturating_sub(1)).max(1);
    let first = chosen.map_or(0, |line| (line + 1).saturating_sub(room));
    let rows = rows
        .into_iter()
        .enumerate()
        .skip(first)
        .map(|(line, cells)| {
            let style = match chosen == Some(line) {
                true => theme.chosen(),
                false => theme.plain(),
            };
            Row::new(cells.into_iter().map(Cell::from)).style(style)
        });
    let header = Row::new(header.iter().copied().map(Cell::from)).style(theme.dim());
    // The last column takes what is left.
    let last = widths.len().saturating_sub(1);
    let widths = widths.iter().enumerate().map(|(i, width)| match i == last {
        true => Constraint::Min(*width),
        false => Constraint::Length(*width),
    });
    Table::new(rows, widths).header(header).column_spacing(1)
}

/// The switches that were ordered, the newest first.
fn history(app: &App, theme: Theme, height: u16) -> Table<'static> {
    let rows = app.seen.history().map(|switch| {
        vec![
            super::words::age(&switch["begun"], app.now),
            field(switch, "goal"),
            field(switch, "state"),
            field(switch, "by"),
            field(switch, "reason"),
        ]
    });
    let header = ["ago", "to", "state", "by", "reason"];
    table(
        theme,
        &header,
        &[10, 19, 8, 12, 10],
        rows.collect(),
        None,
        height,
    )
}

#[cfg(test)]
mod tests;
