//! Dialogs: help, and what must be confirmed before it is ordered.

use ratatui::crossterm::event::KeyCode;
use serde_json::{Value, json};

use super::order::Order;

/// The stages that can be switched to: name, mode, lead.
pub const GOALS: [(&str, &str, &str); 4] = [
    ("legacy", "legacy", "postgres"),
    ("dual_write/postgres", "dual_write", "postgres"),
    ("dual_write/s3", "dual_write", "s3"),
    ("s3_only", "s3_only", "s3"),
];

/// Longest text that can be typed: the service takes no more as a reason.
const LONGEST: usize = 500;

/// What is asked of the person.
#[derive(Debug)]
pub enum Dialog {
    Help,
    Verify,
    Kill {
        path: String,
        /// The path, typed again.
        typed: String,
    },
    Switch(SwitchDialog),
}

/// A switch, from the choice of the stage to its confirmation.
#[derive(Debug)]
pub struct SwitchDialog {
    /// The chosen one of [`GOALS`].
    pub goal: usize,
    pub step: Step,
    pub reason: String,
    /// The name of the stage, typed again.
    pub typed: String,
}

/// How far a switch has come to be ordered.
#[derive(Debug)]
pub enum Step {
    Choose,
    /// The gates are asked.
    Asking,
    /// What the gates say; or why they were not told.
    Gates(Result<Value, String>),
    Reason,
    Confirm,
}

/// What a key leads to.
#[derive(Debug, PartialEq)]
pub enum Reply {
    Stay,
    Close,
    /// The dialog stays and waits for the answer.
    Ask(Order),
    /// The dialog is done.
    Order(Order),
}

impl Dialog {
    /// A switch; at first the stage after the present one is chosen.
    pub fn switch(stage: Option<&str>) -> Self {
        let here = GOALS.iter().position(|(name, ..)| Some(*name) == stage);
        let goal = here.map_or(0, |here| (here + 1).min(GOALS.len() - 1));
        Self::Switch(SwitchDialog {
            goal,
            step: Step::Choose,
            reason: String::new(),
            typed: String::new(),
        })
    }

    pub fn kill(path: &str) -> Self {
        Self::Kill {
            path: path.to_owned(),
            typed: String::new(),
        }
    }

    pub fn key(&mut self, key: KeyCode) -> Reply {
        if key == KeyCode::Esc {
            return Reply::Close;
        }
        match self {
            Self::Help => Reply::Close,
            Self::Verify => match key {
                KeyCode::Enter => Reply::Order(Order::Verify),
                _ => Reply::Stay,
            },
            Self::Kill { path, typed } => match key {
                KeyCode::Enter if typed == path => Reply::Order(Order::Kill { path: path.clone() }),
                key => write(typed, key),
            },
            Self::Switch(switch) => switch.key(key),
        }
    }
}

impl SwitchDialog {
    /// The name of the chosen stage.
    pub fn name(&self) -> &'static str {
        GOALS[self.goal].0
    }

    /// Whether the gates have told that it can be ordered; what is so already cannot.
    pub fn can_be_ordered(&self) -> bool {
        match &self.step {
            Step::Gates(Ok(plan)) => plan["may_begin"] == true && !Self::is_so(plan),
            _ => false,
        }
    }

    /// Whether nothing is between the present stage and the chosen one.
    pub fn is_so(plan: &Value) -> bool {
        plan["edges"].as_array().is_none_or(Vec::is_empty)
    }

    fn order(&self, dry_run: bool) -> Value {
        let (_, mode, lead) = GOALS[self.goal];
        let reason = match dry_run {
            true => "a look at the gates",
            false => self.reason.trim(),
        };
        json!({ "mode": mode, "lead": lead, "reason": reason, "dry_run": dry_run })
    }

    /// The gates have answered what was `asked`; if that is not what is chosen now, it says nothing.
    pub fn planned(&mut self, asked: &Value, plan: Result<Value, String>) {
        if matches!(self.step, Step::Asking) && *asked == self.order(true) {
            self.step = Step::Gates(plan);
        }
    }

    fn key(&mut self, key: KeyCode) -> Reply {
        match (&self.step, key) {
            (Step::Choose, KeyCode::Up) => self.goal = self.goal.saturating_sub(1),
            (Step::Choose, KeyCode::Down) => self.goal = (self.goal + 1).min(GOALS.len() - 1),
            (Step::Choose, KeyCode::Enter) => {
                self.step = Step::Asking;
                let order = self.order(true);
                return Reply::Ask(Order::Plan { order });
            }
            // What the gates refuse is not ordered from here.
            (Step::Gates(_), KeyCode::Enter) if self.can_be_ordered() => {
                self.step = Step::Reason;
            }
            (Step::Reason, KeyCode::Enter) if !self.reason.trim().is_empty() => {
                self.step = Step::Confirm;
            }
            (Step::Reason, key) => return write(&mut self.reason, key),
            (Step::Confirm, KeyCode::Enter) if self.typed == self.name() => {
                let order = self.order(false);
                return Reply::Order(Order::Switch { order });
            }
            (Step::Confirm, key) => return write(&mut self.typed, key),
            _ => {}
        }
        Reply::Stay
    }
}

fn write(text: &mut String, key: KeyCode) -> Reply {
    match key {
        KeyCode::Char(c) if text.chars().count() < LONGEST => text.push(c),
        KeyCode::Backspace => {
            text.pop();
        }
        _ => {}
    }
    Reply::Stay
}
