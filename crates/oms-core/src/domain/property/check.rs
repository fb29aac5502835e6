//! The state of a check: paths that cost nothing until something is wrong, and a bounded list of
//! violations.

use std::fmt;

use serde_json::Value;

use crate::domain::refusal::{Refusal, Violation};

/// Violations reported at once at most: more than anyone corrects in one go, and an answer of a few
/// pages.
pub const MAX_VIOLATIONS: usize = 100;

/// Characters of a caller's own text that are repeated in paths and messages.
const MAX_SHOWN_CHARS: usize = 60;

/// The path of a value: `data.address.zip`, `data.tags[3]`, `properties[2].constraints.min`. A
/// chain of borrowed steps on the stack, formatted only for a violation.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
    depth: usize,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The path of a top-level field.
    pub fn root(name: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Key(name),
            depth: 0,
        }
    }

    /// The path of a member of the object here.
    pub fn key(&'a self, name: &'a str) -> Path<'a> {
        self.then(Step::Key(name))
    }

    /// The path of an item of the array here.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        self.then(Step::Index(index))
    }

    /// Number of steps below the top-level field.
    pub fn depth(&self) -> usize {
        self.depth
    }

    fn then(&'a self, step: Step<'a>) -> Path<'a> {
        Path {
            parent: Some(self),
            step,
            depth: self.depth + 1,
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Key(name) if self.parent.is_some() => write!(f, ".{}", Shown(name)),
            Step::Key(name) => Shown(name).fmt(f),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A caller's text, shortened if it is long.
pub(crate) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MAX_SHOWN_CHARS) {
            Some((cut, _)) => write!(f, "{}…", &self.0[..cut]),
            None => f.write_str(self.0),
        }
    }
}

/// The type of a JSON value, with its article.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The violations found so far, at most [`MAX_VIOLATIONS`].
#[derive(Debug, Default)]
pub struct Report {
    violations: Vec<Violation>,
}

impl Report {
    /// Records a violation. The message is formatted only while there is room for it.
    pub fn add(&mut self, at: &Path<'_>, code: &'static str, message: fmt::Arguments<'_>) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation {
                field: at.to_string(),
                code,
                message: message.to_string(),
            });
        }
    }

    /// Records that a value is not of the JSON type it should be; `expected` with its article.
    pub fn wrong_type(&mut self, at: &Path<'_>, expected: &str, value: &Value) {
        let given = kind_of(value);
        self.add(at, "type", format_args!("must be {expected}, not {given}"));
    }

    /// How many violations there are.
    pub fn len(&self) -> usize {
        self.violations.len()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.violations.is_empty()
    }

    /// The violations, in the order in which they were found.
    pub fn into_violations(self) -> Vec<Violation> {
        self.violations
    }

    /// A refusal with all violations, if there are any.
    pub fn into_result(self) -> Result<(), Refusal> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Refusal::violations(self.violations))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_people_write_them() {
        let root = Path::root("data");
        let tags = root.key("tags");
        let third = tags.index(3);
        let zip = third.key("zip");
        assert_eq!(zip.to_string(), "data.tags[3].zip");
        assert_eq!(zip.depth(), 3);
        let long = "ü".repeat(1_000);
        assert_eq!(root.key(&long).to_string().chars().count(), 5 + 60 + 1);
    }

    #[test]
    fn a_report_is_bounded() {
        let mut report = Report::default();
        for _ in 0..3 * MAX_VIOLATIONS {
            report.add(&Path::root("data"), "type", format_args!("wrong"));
        }
        assert_eq!(report.len(), MAX_VIOLATIONS);
        assert!(report.into_result().is_err());
        assert!(Report::default().into_result().is_ok());
    }
}
