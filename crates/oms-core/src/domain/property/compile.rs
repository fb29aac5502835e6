//! Compiles the constraints of a definition into typed ones that values are checked against: once,
//! when a class is resolved. Every error is reported with its path.

use serde_json::{Map, Value};

use super::check::{Path, Report, Shown, kind_of};
use super::decimal::Limit;

/// Cost of the patterns of a class at most, as [`super::pattern`] counts it: about 16 MiB of memory
/// and a fraction of a second to compile.
pub const MAX_PATTERN_COST: usize = 64;

/// Cost of the patterns of a class with its ancestors at most: they are compiled when the class is
/// first used.
pub const MAX_CHAIN_COST: usize = 512;

/// Property types of a class at most, including nested ones: five for each of the 200 properties.
pub const MAX_TYPES: usize = 1_000;
/// Depth to which types may be nested (arrays of objects of …).
pub const MAX_TYPE_NESTING: usize = 8;
/// Entries of a list in a constraint at most, for example the values of an enum.
pub const MAX_LIST: usize = 1_000;
/// Constraints of one property at most: over twice as many as any type has.
pub const MAX_CONSTRAINTS: usize = 32;

/// Bytes of memory that a class and its ancestors may take together, prepared to check instances:
/// compiled patterns, defaults, lists of values.
pub const MAX_CHAIN_BYTES: usize = 64 * 1024 * 1024;

/// What the compilation of a chain of classes has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Bytes of memory.
    pub bytes: usize,
    /// Cost of patterns, see [`MAX_CHAIN_COST`].
    pub cost: usize,
}

impl Spent {
    /// Whether it exceeds the limits of a chain.
    pub fn is_too_much(&self) -> bool {
        self.bytes > MAX_CHAIN_BYTES || self.cost > MAX_CHAIN_COST
    }
}

/// Compiles one class: what it has used and found.
#[derive(Debug, Default)]
pub struct Compiler {
    /// The errors in the definition.
    pub report: Report,
    /// What this class and those compiled before it have used.
    pub spent: Spent,
    types: usize,
    pattern_cost: usize,
    nesting: usize,
}

impl Compiler {
    /// Starts the next class of a chain that has used `spent` so far.
    pub fn going_on(spent: Spent) -> Self {
        Self {
            spent,
            ..Self::default()
        }
    }

    /// Counts one more type; `false`, with a violation, if that exceeds a limit. Every successful
    /// call must be followed by [`Compiler::leave`].
    pub(crate) fn enter(&mut self, at: &Path<'_>) -> bool {
        if self.nesting == MAX_TYPE_NESTING {
            let message = format_args!("types may nest {MAX_TYPE_NESTING} deep");
            self.report.add(at, "depth", message);
            return false;
        }
        if self.types == MAX_TYPES {
            let message = format_args!("a class may have {MAX_TYPES} types, nested ones included");
            self.report.add(at, "max_items", message);
            return false;
        }
        self.types += 1;
        self.nesting += 1;
        true
    }

    pub(crate) fn leave(&mut self) {
        self.nesting -= 1;
    }
}

/// The constraints of one property while they are parsed. Every known key is taken out;
/// [`Constraints::finish`] reports the others.
pub(crate) struct Constraints<'a> {
    entries: Vec<Entry<'a>>,
    at: &'a Path<'a>,
    pub compiler: &'a mut Compiler,
}

struct Entry<'a> {
    canonical: String,
    given: &'a str,
    value: &'a Value,
    taken: bool,
}

impl<'a> Constraints<'a> {
    /// `at` is the path of the constraints object.
    pub fn new(
        given: Option<&'a Map<String, Value>>,
        at: &'a Path<'a>,
        compiler: &'a mut Compiler,
    ) -> Self {
        let mut entries: Vec<Entry<'a>> = Vec::new();
        if given.is_some_and(|g| g.len() > MAX_CONSTRAINTS) {
            let message = format_args!("a property may have {MAX_CONSTRAINTS} constraints");
            compiler.report.add(at, "max_items", message);
        }
        for (key, value) in given.into_iter().flatten().take(MAX_CONSTRAINTS) {
            let canonical = canonical_key(key);
            if entries.iter().any(|e| e.canonical == canonical) {
                let message = format_args!("`{canonical}` is given twice");
                compiler.report.add(&at.key(key), "duplicate", message);
                continue;
            }
            entries.push(Entry {
                canonical,
                given: key,
                value,
                taken: false,
            });
        }
        Self {
            entries,
            at,
            compiler,
        }
    }

    /// The path of the constraints object.
    pub fn path(&self) -> &'a Path<'a> {
        self.at
    }

    /// The value of `key`, if given, with the key as the author spelled it.
    pub fn take(&mut self, key: &str) -> Option<(&'a str, &'a Value)> {
        let entry = self.entries.iter_mut().find(|e| e.canonical == key)?;
        entry.taken = true;
        Some((entry.given, entry.value))
    }

    /// Reports an error of `key`.
    pub fn fault(&mut self, key: &str, code: &'static str, message: std::fmt::Arguments<'_>) {
        let given = self.entries.iter().find(|e| e.canonical == key);
        let at = self.at.key(given.map_or(key, |e| e.given));
        self.compiler.report.add(&at, code, message);
    }

    /// The value of `key` as parsed by `parse`; `expected` describes valid values.
    pub fn parsed<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let (_, value) = self.take(key)?;
        let parsed = parse(value);
        if parsed.is_none() {
            let given = kind_of(value);
            self.fault(
                key,
                "type",
                format_args!("must be {expected} (it is {given})"),
            );
        }
        parsed
    }

    /// A list of 1 to [`MAX_LIST`] entries, each parsed by `parse`.
    pub fn list<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl Fn(&'a Value) -> Option<T>,
    ) -> Option<Vec<T>> {
        let expected = format!("a list of 1 to {MAX_LIST} entries, each {expected}");
        self.parsed(key, &expected, |value| {
            let entries = value.as_array()?;
            if !(1..=MAX_LIST).contains(&entries.len()) {
                return None;
            }
            entries.iter().map(parse).collect()
        })
    }

    /// A list of strings.
    pub fn strings(&mut self, key: &str) -> Option<Vec<&'a str>> {
        self.list(key, "a string", Value::as_str)
    }

    /// A boolean; `false` if not given.
    pub fn flag(&mut self, key: &str) -> bool {
        self.parsed(key, "true or false", Value::as_bool)
            .unwrap_or(false)
    }

    /// A count: a whole number from 0.
    pub fn count(&mut self, key: &str) -> Option<u64> {
        self.parsed(key, "a whole number from 0", Value::as_u64)
    }

    /// A number of any size and precision.
    pub fn number(&mut self, key: &str) -> Option<Limit> {
        self.parsed(key, "a number within range", |value| match value {
            Value::Number(number) => Limit::parse(number.as_str()),
            _ => None,
        })
    }

    /// Reports a lower limit above the upper one.
    pub fn in_order<T: PartialOrd>(
        &mut self,
        (low_key, low): (&str, Option<&T>),
        (high_key, high): (&str, Option<&T>),
    ) {
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            self.fault(
                high_key,
                "range",
                format_args!("must not be less than `{low_key}`"),
            );
        }
    }

    /// Counts the cost of a pattern; `false`, with a violation, if the class exceeds its limit.
    pub fn may_spend_on_pattern(&mut self, cost: usize) -> bool {
        self.compiler.pattern_cost += cost;
        self.compiler.spent.cost += cost;
        let within = self.compiler.pattern_cost <= MAX_PATTERN_COST;
        if !within {
            let message = format_args!("the patterns of the class are too many or too large");
            self.fault("pattern", "max_items", message);
        }
        within && !self.compiler.spent.is_too_much()
    }

    /// Counts the memory of a compiled pattern.
    pub fn pattern_takes(&mut self, bytes: usize) {
        self.compiler.spent.bytes += bytes;
    }

    /// Reports every key that was not taken; `kind` is the type they were given for.
    pub fn finish(self, kind: &str) {
        for entry in self.entries.iter().filter(|e| !e.taken) {
            let message = format_args!("`{}` is not a constraint of {kind}", Shown(entry.given));
            let at = self.at.key(entry.given);
            self.compiler.report.add(&at, "unknown_constraint", message);
        }
    }
}

/// The name under which a constraint is known here: snake_case for camelCase, and one name where
/// JSON Schema or an older ontology has another.
fn canonical_key(given: &str) -> String {
    let mut key = String::with_capacity(given.len() + 4);
    for c in given.chars() {
        if c.is_ascii_uppercase() {
            key.push('_');
        }
        key.push(c.to_ascii_lowercase());
    }
    let known = match key.as_str() {
        "minimum" => "min",
        "maximum" => "max",
        "exclusive_minimum" => "exclusive_min",
        "exclusive_maximum" => "exclusive_max",
        "unique_items" => "unique",
        "enum" | "allowed_values" => "values",
        "target_class" | "link_target" => "target",
        "allowed_mime_types" => "allowed_types",
        "properties" => "schema",
        _ => return key,
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_name() {
        for (given, canonical) in [
            ("min_length", "min_length"),
            ("minLength", "min_length"),
            ("requireHttps", "require_https"),
            ("exclusiveMinimum", "exclusive_min"),
            ("allowNil", "allow_nil"),
            ("maximum", "max"),
        ] {
            assert_eq!(canonical_key(given), canonical);
        }
    }
}
