//! The report for people: a list by area, a mark on each line, and what to do beneath what is not
//! well.

use super::check::{Area, Check, Report, Verdict};

/// Columns of the text, as in documents.
const WIDTH: usize = 100;

/// Columns before the text: mark and name.
const INDENT: usize = 26;

/// The report as text.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for checks in report.checks.chunk_by(|a, b| a.area == b.area) {
        let Some(first) = checks.first() else {
            continue;
        };
        text.push_str(title(first.area));
        text.push('\n');
        // What was skipped for one reason takes one line.
        for same in checks.chunk_by(is_skipped) {
            line(same, &mut text);
        }
        text.push('\n');
    }
    text.push_str(&summary(report));
    text
}

fn is_skipped(a: &Check, b: &Check) -> bool {
    let skipped = |c: &Check| c.verdict == Verdict::Skipped;
    skipped(a) && skipped(b) && a.seen == b.seen
}

fn title(area: Area) -> &'static str {
    match area {
        Area::Configuration => "Configuration",
        Area::S3 => "S3",
        Area::Postgres => "PostgreSQL",
        Area::Kafka => "Kafka",
        Area::Machine => "This machine",
        Area::Service => "The service",
        Area::Prometheus => "Prometheus",
    }
}

fn mark(verdict: Verdict) -> char {
    match verdict {
        Verdict::Ok => '✓',
        Verdict::Skipped => '-',
        Verdict::Warning => '!',
        Verdict::Failed => '✗',
    }
}

fn line(same: &[Check], text: &mut String) {
    let Some(check) = same.first() else { return };
    let names: Vec<&str> = same.iter().map(|c| c.name).collect();
    let head = format!("  {} {}", mark(check.verdict), names.join(", "));
    // Several names are a line of their own.
    let begun = if head.chars().count() < INDENT {
        format!("{head:INDENT$}")
    } else {
        format!("{head}\n{:INDENT$}", "")
    };
    wrapped(&begun, &check.seen, text);
    if let Some(advice) = &check.advice {
        wrapped(&format!("{:>INDENT$}", "→ "), advice, text);
    }
}

/// Words in lines of at most [`WIDTH`] columns, all but the first with nothing before them.
fn wrapped(begun: &str, words: &str, text: &mut String) {
    text.push_str(begun);
    let mut column = INDENT;
    for (i, line) in words.lines().enumerate() {
        if i > 0 {
            text.push_str(&format!("\n{:INDENT$}", ""));
            column = INDENT;
        }
        for word in line.split(' ') {
            let length = word.chars().count();
            if column > INDENT && column + 1 + length > WIDTH {
                text.push_str(&format!("\n{:INDENT$}", ""));
                column = INDENT;
            } else if column > INDENT {
                text.push(' ');
                column += 1;
            }
            text.push_str(word);
            column += length;
        }
    }
    text.push('\n');
}

fn summary(report: &Report) -> String {
    let counted = |n: usize, what: &str| (n > 0).then(|| format!("{n} {what}"));
    let counts = [
        counted(report.failed, "failed"),
        counted(
            report.warnings,
            if report.warnings == 1 {
                "warning"
            } else {
                "warnings"
            },
        ),
        counted(report.ok, "ok"),
        counted(report.skipped, "not checked"),
    ];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let verdict = match report.verdict {
        Verdict::Failed => "something is wrong",
        Verdict::Warning => "it works; something should be different",
        Verdict::Ok | Verdict::Skipped => "all is well",
    };
    format!("{verdict}: {}\n", counts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::Finding;

    #[test]
    fn each_line_has_its_mark_and_what_is_not_well_says_what_to_do() {
        let long = "a finding of many words ".repeat(6);
        let mut checks = vec![
            Area::Kafka.check("reach", Finding::failed("refused", "start it")),
            Area::S3.check("reach", Finding::ok("http://s3.example")),
            Area::S3.check("latency", Finding::warning(long.trim(), "move it nearer")),
        ];
        checks.extend(Area::Kafka.skip(&["topics", "sizes", "in-sync replicas"], "not reached"));
        let text = text(&Report::of(checks));
        assert_eq!(
            text,
            "\
S3
  ✓ reach                 http://s3.example
  ! latency               a finding of many words a finding of many words a finding of many words a
                          finding of many words a finding of many words a finding of many words
                        → move it nearer

Kafka
  ✗ reach                 refused
                        → start it
  - topics, sizes, in-sync replicas
                          not reached

something is wrong: 1 failed, 1 warning, 1 ok, 3 not checked
"
        );
    }
}
