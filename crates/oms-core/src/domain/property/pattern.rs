//! Regular expressions of `pattern` constraints. Matching is linear in the text, but each byte may
//! cost as much as the compiled pattern is large; so both are bounded, and so is the sum over the
//! patterns of a class, and of a chain of classes.
//!
//! The scratch memory of searches is kept per thread, for all patterns together, and dropped when
//! it exceeds [`MAX_SCRATCH_BYTES`].

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use regex_automata::Input;
use regex_automata::meta::{BuildError, Builder, Cache, Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use serde_json::Value;

use super::check::{Path, Report, Shown};
use super::compile::Constraints;

/// Longest source of a pattern, in bytes: about a screenful.
pub const MAX_PATTERN_BYTES: usize = 1_000;
/// Limits of a compiled pattern's size and of the text it is matched against.
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

/// Bytes of scratch memory of a thread at most. Beyond it all is rebuilt, which takes some
/// microseconds a pattern.
const MAX_SCRATCH_BYTES: usize = 8 * 1024 * 1024;

/// A compiled pattern. It may match anywhere in the text unless it is anchored.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    regex: Regex,
    source: Box<str>,
    text_bytes: usize,
    /// Unique in this process.
    number: u64,
}

/// Scratch memory of this thread's searches, by pattern.
#[derive(Default)]
struct Scratch {
    by_pattern: HashMap<u64, Cache>,
    bytes: usize,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Pattern {
    pub fn compile(c: &mut Constraints<'_>) -> Option<Self> {
        let source = c.parsed("pattern", "a regular expression", Value::as_str)?;
        if source.len() > MAX_PATTERN_BYTES {
            let message = format_args!("must have at most {MAX_PATTERN_BYTES} bytes");
            c.fault("pattern", "max_length", message);
            return None;
        }
        // Charged before the work is done, so that no definition can cause more of it.
        if !c.may_spend_on_pattern(USUAL.cost) {
            return None;
        }
        let mut built = build(source, USUAL);
        if built.as_ref().is_err_and(|e| e.size_limit().is_some()) {
            if !c.may_spend_on_pattern(LARGE.cost) {
                return None;
            }
            built = build(source, LARGE);
        }
        match built {
            Ok(pattern) => {
                c.pattern_takes(pattern.regex.memory_usage());
                Some(pattern)
            }
            Err(error) => {
                c.fault("pattern", "pattern", format_args!("{}", reason(&error)));
                None
            }
        }
    }

    pub fn check(&self, text: &str, at: &Path<'_>, report: &mut Report) {
        if text.len() > self.text_bytes {
            let most = self.text_bytes;
            let message = format_args!("must have at most {most} bytes to be matched to a pattern");
            report.add(at, "max_length", message);
        } else if !self.matches(text) {
            let message = format_args!("must match the pattern {}", Shown(&self.source));
            report.add(at, "pattern", message);
        }
    }

    fn matches(&self, text: &str) -> bool {
        SCRATCH.with_borrow_mut(|scratch| {
            let known = scratch.by_pattern.remove(&self.number);
            let before = known.as_ref().map_or(0, Cache::memory_usage);
            let mut cache = known.unwrap_or_else(|| self.regex.create_cache());
            let input = Input::new(text).earliest(true);
            let found = self.regex.search_half_with(&mut cache, &input).is_some();
            scratch.bytes = scratch.bytes - before + cache.memory_usage();
            if scratch.bytes > MAX_SCRATCH_BYTES {
                *scratch = Scratch::default();
            } else {
                scratch.by_pattern.insert(self.number, cache);
            }
            found
        })
    }
}

fn build(source: &str, size: Size) -> Result<Pattern, Box<BuildError>> {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let config = Config::new()
        .nfa_size_limit(Some(size.program_bytes))
        .hybrid_cache_capacity(size.cache_bytes)
        .which_captures(WhichCaptures::Implicit);
    let regex = Builder::new().configure(config).build(source)?;
    Ok(Pattern {
        regex,
        source: source.into(),
        text_bytes: size.text_bytes,
        number: NUMBERS.fetch_add(1, Ordering::Relaxed),
    })
}

/// The error of a pattern in one line: the last line of the error's text, which draws the pattern
/// before it.
fn reason(error: &BuildError) -> String {
    if error.size_limit().is_some() {
        return "is too large when compiled; shorter repetitions, or [A-Za-z0-9_] for \\w, help"
            .to_owned();
    }
    let text = match error.syntax_error() {
        Some(syntax) => syntax.to_string(),
        None => error.to_string(),
    };
    let last = text.lines().last().unwrap_or_default();
    let reason = last.strip_prefix("error: ").unwrap_or(last);
    format!("does not compile: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_13_what_searches_leave_behind_in_a_thread_is_bounded() {
        let mut random = 1_u32;
        let mut letter = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random >> 31 == 0 { 'a' } else { 'b' }
        };
        let text: String = (0..8_000).map(|_| letter()).collect();
        for i in 0..200 {
            // Determinised, this has a state for each of the last eleven letters.
            let source = format!("^(a|b)*a(a|b){{11}}c{i}$");
            let pattern = build(&source, USUAL).unwrap();
            assert!(!pattern.matches(&text));
            SCRATCH.with_borrow(|scratch| {
                let held: usize = scratch.by_pattern.values().map(Cache::memory_usage).sum();
                assert_eq!(held, scratch.bytes);
                assert!(held <= MAX_SCRATCH_BYTES, "{held}");
            });
        }
        // Not because there was so little of it.
        SCRATCH.with_borrow(|scratch| assert!(scratch.by_pattern.len() < 100));
    }

    #[test]
    fn patterns_find_what_they_say() {
        let matches = |source: &str, text: &str| build(source, USUAL).unwrap().matches(text);
        for (source, text, found) in [
            ("b", "abc", true),
            ("^b", "abc", false),
            ("^[a-c]{3}$", "abc", true),
            ("^$", "", true),
            ("(?i)^ÄB$", "äb", true),
            ("x|", "abc", true),
        ] {
            assert_eq!(matches(source, text), found, "{source} in {text}");
        }
    }
}
