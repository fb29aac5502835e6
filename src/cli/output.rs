//! Output of results: text and tables for people, JSON for scripts. Results go to standard output,
//! everything else to standard error.

use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use serde_json::Value;

use crate::config::problems::ConfigError;

/// Whether text or JSON is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub json: bool,
}

impl Output {
    /// Prints a result: `value` as one line of JSON, or the text made from it.
    pub fn result(self, value: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        if self.json {
            self.text(&(serde_json::to_string(value)? + "\n"))
        } else {
            let text = text();
            self.text(&text)?;
            if !text.ends_with('\n') && !text.is_empty() {
                self.text("\n")?;
            }
            Ok(())
        }
    }

    pub fn text(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Prints a progress note; nothing with `--json`.
    pub fn note(self, text: &str) {
        if !self.json {
            // A failure to write to standard error cannot be reported anywhere.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Prints why a command failed.
    pub fn error(self, error: &anyhow::Error) {
        let text = if self.json {
            let problems = error.downcast_ref::<ConfigError>().map(|e| &e.problems);
            serde_json::json!({ "error": with_causes(error), "problems": problems }).to_string()
        } else {
            format!("oms: {}", with_causes(error))
        };
        // A failure to write to standard error cannot be reported anywhere.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Whether a person watches, so that progress is drawn in place rather than as lines.
    pub fn is_live(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }
}

/// An error with its causes. Many errors include their cause's text, ours because a log line shows
/// no more than the error: a cause that was printed already is left out.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let cause = cause.to_string();
        match told.as_str() {
            "" => cause,
            _ if told.contains(&cause) => told,
            _ => format!("{told}: {cause}"),
        }
    })
}

/// A table without rules.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    for row in rows {
        table.add_row(row);
    }
    let text = table.to_string();
    let lines = text.lines().map(str::trim_end);
    lines.map(|line| format!("{line}\n")).collect()
}

/// The member `key` of a JSON object as text; `-` if it is missing.
pub fn field(value: &Value, key: &str) -> String {
    match value.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        use crate::embedded::EmbeddedError;
        use crate::embedded::s3::error::LogStoreError;
        let missing = || io::Error::from_raw_os_error(2);
        let path = "/nowhere/oms-data".as_ref();
        let alone = anyhow::Error::from(EmbeddedError::io("create", path)(missing()));
        let deep = LogStoreError::io("create", path)(missing());
        let deep = anyhow::Error::from(EmbeddedError::Store(deep)).context("cannot start");
        let plain = anyhow::Error::from(missing()).context("cannot read the file");
        for (error, told) in [
            (alone, "cannot create /nowhere/oms-data: No such file"),
            (
                deep,
                "cannot start: embedded S3: cannot create /nowhere/oms-data: No such file",
            ),
            (plain, "cannot read the file: No such file"),
        ] {
            let text = with_causes(&error);
            assert!(text.starts_with(told), "{text}");
            assert_eq!(text.matches("No such file").count(), 1, "{text}");
        }
    }

    #[test]
    fn fields_are_shown_plainly_and_missing_ones_as_a_dash() {
        let value = serde_json::json!({ "a": "x", "b": 1.50, "c": null });
        let shown: Vec<String> = ["a", "b", "c", "d"].map(|k| field(&value, k)).into();
        assert_eq!(shown, ["x", "1.5", "-", "-"]);
        let table = table(["name", "value"], [["a".to_owned(), "1".to_owned()]]);
        assert_eq!(table.lines().count(), 2);
    }
}
