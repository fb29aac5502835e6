//! Regular expressions of `pattern` constraints. Matching is linear in the text, but each byte may
//! cost as much as the compiled pattern is large; so both are bounded, and so is what the patterns
//! of one class take up together.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::check::{Path, Report, Shown};
use super::compile::Constraints;

/// Longest source of a pattern, in bytes: a screenful.
pub const MAX_PATTERN_BYTES: usize = 1_000;
/// What the patterns of a class may cost together, by [`Size::cost`]: with the sizes below, some
/// 16 MiB of memory and a fraction of a second to compile.
pub const MAX_PATTERN_COST: usize = 64;

/// How large a compiled pattern may be and how long the text it is matched against.
#[derive(Debug, Clone, Copy)]
struct Size {
    program_bytes: usize,
    cache_bytes: usize,
    text_bytes: usize,
    cost: usize,
}

/// Enough for nearly all patterns, `^[A-Za-z0-9]{1,100}$` and `^.{1,200}$` among them.
const USUAL: Size = Size {
    program_bytes: 256 * 1024,
    cache_bytes: 512 * 1024,
    text_bytes: 16 * 1024,
    cost: 1,
};

/// Enough for repeated classes of all Unicode: `^\w{3,50}$` takes 3 MiB.
const LARGE: Size = Size {
    program_bytes: 4 * 1024 * 1024,
    cache_bytes: 2 * 1024 * 1024,
    text_bytes: 1024,
    cost: 16,
};

/// A compiled pattern. It may match anywhere in the text unless it is anchored.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    regex: Regex,
    text_bytes: usize,
}

impl Pattern {
    pub fn compile(c: &mut Constraints<'_>) -> Option<Self> {
        let source = c.parsed("pattern", "a regular expression", Value::as_str)?;
        if source.len() > MAX_PATTERN_BYTES {
            let message = format_args!("must have at most {MAX_PATTERN_BYTES} bytes");
            c.fault("pattern", "max_length", message);
            return None;
        }
        // Paid before the work is done, so that no definition can have more of it done.
        if !c.may_spend_on_pattern(USUAL.cost) {
            return None;
        }
        let mut built = build(source, USUAL);
        if matches!(built, Err(regex::Error::CompiledTooBig(_))) {
            if !c.may_spend_on_pattern(LARGE.cost) {
                return None;
            }
            built = build(source, LARGE);
        }
        if let Err(error) = &built {
            c.fault("pattern", "pattern", format_args!("{}", reason(error)));
        }
        built.ok()
    }

    pub fn check(&self, text: &str, at: &Path<'_>, report: &mut Report) {
        if text.len() > self.text_bytes {
            let most = self.text_bytes;
            let message = format_args!("must have at most {most} bytes to be matched to a pattern");
            report.add(at, "max_length", message);
        } else if !self.regex.is_match(text) {
            let message = format_args!("must match the pattern {}", Shown(self.regex.as_str()));
            report.add(at, "pattern", message);
        }
    }
}

fn build(source: &str, size: Size) -> Result<Pattern, regex::Error> {
    let regex = RegexBuilder::new(source)
        .size_limit(size.program_bytes)
        .dfa_size_limit(size.cache_bytes)
        .build()?;
    Ok(Pattern {
        regex,
        text_bytes: size.text_bytes,
    })
}

/// What is wrong with a pattern, in one line. The error draws the pattern and points into it; its
/// last line says why.
fn reason(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(_) = error {
        return "is too large when compiled; shorter repetitions, or [A-Za-z0-9_] for \\w, help"
            .to_owned();
    }
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    let reason = last.strip_prefix("error: ").unwrap_or(last);
    format!("does not compile: {reason}")
}
