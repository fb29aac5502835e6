//! Pictures of what is shown, kept in `snapshots`: `INSTA_UPDATE=always` writes them anew.

use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use ratatui::style::{Color, Modifier};
use serde_json::json;

use super::{Theme, draw};
use crate::cli::dashboard::app::App;
use crate::cli::dashboard::order::Answer;
use crate::cli::dashboard::tests::{app, asked, press, write};

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (120, 40);

fn drawn(app: &App, (width, height): (u16, u16), has_colour: bool) -> TestBackend {
    let backend = TestBackend::new(width, height);
    let mut terminal = ratatui::Terminal::new(backend).unwrap();
    terminal
        .draw(|frame| draw(frame, app, Theme { has_colour }))
        .unwrap();
    terminal.backend().clone()
}

fn picture(app: &App, size: (u16, u16)) -> String {
    drawn(app, size, true).to_string()
}

#[test]
fn every_view_fits_a_small_terminal_and_a_large_one_shows_more() {
    let mut app = app();
    for (view, name) in ["overview", "migration", "delivery", "actors"]
        .iter()
        .enumerate()
    {
        let digit = char::from_digit(view as u32 + 1, 10).unwrap();
        press(&mut app, KeyCode::Char(digit));
        // The last of the actors is the one that failed.
        (0..9).for_each(|_| {
            press(&mut app, KeyCode::Down);
        });
        insta::assert_snapshot!(format!("{name}_80x24"), picture(&app, SMALL));
        insta::assert_snapshot!(format!("{name}_120x40"), picture(&app, LARGE));
    }
}

#[test]
fn a_service_that_is_away_is_said_to_be_away() {
    let mut app = app();
    app.answered(Answer::Looked(Err(
        "cannot reach http://127.0.0.1:8000: refused".into(),
    )));
    app.tick(app.now + jiff::SignedDuration::from_secs(75));
    insta::assert_snapshot!("away_80x24", picture(&app, SMALL));
    let mut new = App::new("http://127.0.0.1:8000", app.now);
    insta::assert_snapshot!("asking_80x24", picture(&new, SMALL));
    new.answered(Answer::Looked(Err("refused".into())));
    insta::assert_snapshot!("never_there_80x24", picture(&new, SMALL));
}

#[test]
fn every_step_of_a_dialog_says_what_comes_next() {
    let mut app = app();
    press(&mut app, KeyCode::Char('?'));
    insta::assert_snapshot!("help_80x24", picture(&app, SMALL));
    press(&mut app, KeyCode::Esc);
    press(&mut app, KeyCode::Char('s'));
    insta::assert_snapshot!("switch_choose_80x24", picture(&app, SMALL));
    let order = asked(&mut app);
    let gate = |name: &str, state: &str, figure: f64| {
        json!({ "name": name, "state": state,
        "figure": figure, "kind": "confidence" })
    };
    let edge = json!({ "from": "dual_write/postgres", "to": "dual_write/s3",
        "gates": [gate("verified_age_s", "pass", 60.0), gate("shadow_reads", "fail", 3.0)] });
    let plan = |may_begin: bool| json!({ "may_begin": may_begin, "edges": [edge] });
    app.answered(Answer::Planned {
        asked: order,
        plan: Ok(plan(false)),
    });
    insta::assert_snapshot!("switch_refused_80x24", picture(&app, SMALL));
    press(&mut app, KeyCode::Esc);
    press(&mut app, KeyCode::Char('s'));
    let order = asked(&mut app);
    app.answered(Answer::Planned {
        asked: order,
        plan: Ok(plan(true)),
    });
    press(&mut app, KeyCode::Enter);
    write(&mut app, "OPS-8");
    press(&mut app, KeyCode::Enter);
    write(&mut app, "dual_");
    insta::assert_snapshot!("switch_confirm_80x24", picture(&app, SMALL));
}

#[test]
fn without_colours_words_and_weight_say_the_same() {
    let app = app();
    let (coloured, plain) = (drawn(&app, SMALL, true), drawn(&app, SMALL, false));
    assert_eq!(coloured.to_string(), plain.to_string());
    let badge = |backend: &TestBackend| backend.buffer()[(1, 0)].clone();
    assert_eq!(badge(&coloured).bg, Color::Yellow);
    assert!(badge(&plain).modifier.contains(Modifier::REVERSED));
    let colours = plain.buffer().content.iter();
    let has_colour =
        |cell: &&ratatui::buffer::Cell| cell.fg != Color::Reset || cell.bg != Color::Reset;
    assert_eq!(colours.filter(has_colour).count(), 0);
}

#[test]
fn no_size_of_a_terminal_makes_it_fail() {
    let mut app = app();
    for size in [(1, 1), (5, 2), (20, 5), (79, 9), (300, 3), (200, 80)] {
        for digit in '1'..='4' {
            press(&mut app, KeyCode::Char(digit));
            picture(&app, size);
            press(&mut app, KeyCode::Char('s'));
            picture(&app, size);
            press(&mut app, KeyCode::Esc);
        }
    }
}
