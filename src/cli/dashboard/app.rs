//! The state of the dashboard, and how keys and answers change it. Does nothing by itself: what is
//! to be asked or ordered is returned.

use jiff::Timestamp;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::dialog::{Dialog, Reply};
use super::order::{Answer, Order};
use super::seen::{Part, Seen};
use super::tree;

/// Samples and states are asked for so often; the service measures every 5 s.
pub const LOOK_EVERY: f64 = 2.0;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Overview,
    Migration,
    Delivery,
    Actors,
}

impl View {
    pub const ALL: [Self; 4] = [
        Self::Overview,
        Self::Migration,
        Self::Delivery,
        Self::Actors,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Migration => "Migration",
            Self::Delivery => "Delivery",
            Self::Actors => "Actors",
        }
    }

    /// What it needs to be told, beside the health.
    pub fn parts(self) -> Vec<Part> {
        let more: &[Part] = match self {
            Self::Overview => &[Part::History, Part::Verification],
            Self::Migration => &[Part::History, Part::Verification],
            Self::Delivery => &[Part::Outbox, Part::Projections],
            Self::Actors => &[Part::Actors],
        };
        [&[Part::About, Part::Migration, Part::Metrics], more].concat()
    }

    fn at(self, step: usize) -> Self {
        let here = Self::ALL.iter().position(|view| *view == self).unwrap_or(0);
        Self::ALL[(here + step) % Self::ALL.len()]
    }
}

/// All that is shown.
pub struct App {
    pub url: String,
    pub now: Timestamp,
    pub view: View,
    pub seen: Seen,
    /// When the service answered last.
    pub heard: Option<Timestamp>,
    /// Why it did not answer to the last look.
    pub lost: Option<String>,
    pub dialog: Option<Dialog>,
    /// The outcome of the last order, and whether it failed.
    pub notice: Option<(String, bool)>,
    /// The chosen line of a list.
    pub line: usize,
    pub ended: bool,
    looked: Option<Timestamp>,
    looking: bool,
}

impl App {
    pub fn new(url: &str, now: Timestamp) -> Self {
        Self {
            url: url.to_owned(),
            now,
            view: View::Overview,
            seen: Seen::default(),
            heard: None,
            lost: None,
            dialog: None,
            notice: None,
            line: 0,
            ended: false,
            looked: None,
            looking: false,
        }
    }

    /// Time has passed. A look is due every two seconds, one at a time.
    pub fn tick(&mut self, now: Timestamp) -> Option<Order> {
        self.now = now;
        let since = self.looked.map(|at| now.duration_since(at).as_secs_f64());
        // A clock that was set back must not stop it.
        let is_due = since.is_none_or(|s| !(0.0..LOOK_EVERY).contains(&s));
        (is_due && !self.looking).then(|| self.look())
    }

    fn look(&mut self) -> Order {
        self.looked = Some(self.now);
        self.looking = true;
        Order::Look
    }

    /// Something was answered.
    pub fn answered(&mut self, answer: Answer) -> Option<Order> {
        match answer {
            Answer::Looked(Ok(look)) => {
                self.looking = false;
                self.heard = Some(self.now);
                self.lost = None;
                self.seen.add(look);
                self.line = self.line.min(self.lines().saturating_sub(1));
                None
            }
            Answer::Looked(Err(why)) => {
                self.looking = false;
                self.lost = Some(why);
                None
            }
            Answer::Planned { asked, plan } => {
                if let Some(Dialog::Switch(dialog)) = &mut self.dialog {
                    dialog.planned(&asked, plan);
                }
                None
            }
            Answer::Ordered(outcome) => {
                self.notice = Some(match outcome {
                    Ok(told) => (told, false),
                    Err(why) => (why, true),
                });
                (!self.looking).then(|| self.look())
            }
        }
    }

    /// How many lines the list of this view has.
    fn lines(&self) -> usize {
        match self.view {
            View::Overview => 0,
            View::Migration => self.seen.partitions().count(),
            View::Delivery => {
                let partitions = self.seen.part(Part::Outbox)["partitions"].as_array();
                partitions.map_or(0, Vec::len)
            }
            View::Actors => tree::lines(self.seen.part(Part::Actors)).len(),
        }
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) -> Option<Order> {
        let ctrl_c = key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
        if ctrl_c {
            self.ended = true;
            return None;
        }
        if let Some(dialog) = &mut self.dialog {
            return match dialog.key(key.code) {
                Reply::Stay => None,
                Reply::Close => {
                    self.dialog = None;
                    None
                }
                Reply::Ask(order) => Some(order),
                Reply::Order(order) => {
                    self.dialog = None;
                    self.notice = Some(("ordered; waiting for the answer".to_owned(), false));
                    Some(order)
                }
            };
        }
        self.command(key.code)
    }

    fn command(&mut self, key: KeyCode) -> Option<Order> {
        let last = self.lines().saturating_sub(1);
        match key {
            KeyCode::Char('q') => self.ended = true,
            KeyCode::Tab | KeyCode::Right => return self.show(self.view.at(1)),
            KeyCode::BackTab | KeyCode::Left => {
                return self.show(self.view.at(View::ALL.len() - 1));
            }
            KeyCode::Char(digit @ '1'..='4') => {
                let index = digit as usize - '1' as usize;
                return self.show(View::ALL[index]);
            }
            KeyCode::Down => self.line = (self.line + 1).min(last),
            KeyCode::Up => self.line = self.line.saturating_sub(1),
            KeyCode::PageDown => self.line = (self.line + 10).min(last),
            KeyCode::PageUp => self.line = self.line.saturating_sub(10),
            KeyCode::Char('r') => {
                self.notice = None;
                return (!self.looking).then(|| self.look());
            }
            KeyCode::Char('?') => self.dialog = Some(Dialog::Help),
            KeyCode::Char('s') => {
                let stage = self.seen.part(Part::Migration)["stage"].as_str();
                self.dialog = Some(Dialog::switch(stage));
            }
            KeyCode::Char('v') => self.dialog = Some(Dialog::Verify),
            KeyCode::Char('k') => self.kill(),
            _ => {}
        }
        None
    }

    fn show(&mut self, view: View) -> Option<Order> {
        self.view = view;
        self.line = 0;
        self.notice = None;
        (!self.looking).then(|| self.look())
    }

    fn kill(&mut self) {
        if !self.seen.has_chaos() {
            let why = "killing needs chaos.enabled in the service's configuration";
            self.notice = Some((why.to_owned(), true));
            return;
        }
        let lines = tree::lines(self.seen.part(Part::Actors));
        let chosen = lines.get(self.line).filter(|_| self.view == View::Actors);
        // The root is all of them.
        let chosen = chosen.filter(|line| line.depth > 0);
        match chosen.and_then(|line| line.path.as_deref()) {
            Some(path) => self.dialog = Some(Dialog::kill(path)),
            None => {
                let why = "choose an actor in the view Actors (4), with the arrows";
                self.notice = Some((why.to_owned(), true));
            }
        }
    }
}
