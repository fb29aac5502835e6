//! What a person can read: short lines, and a short README.

use super::links::documents;
use super::read;

/// Longest line of a document. Rows of tables and definitions of links cannot be broken.
const COLUMNS: usize = 120;

/// Largest README.
const README_BYTES: usize = 10_000;

#[test]
fn the_readme_is_read_in_five_minutes() {
    let bytes = read("README.md").len();
    assert!(
        bytes <= README_BYTES,
        "{bytes} bytes; the rest belongs into docs/"
    );
}

#[test]
fn lines_are_no_longer_than_can_be_read() {
    let mut long = Vec::new();
    for path in documents() {
        for (number, line) in (1..).zip(read(&path).lines()) {
            let whole = line.starts_with('|') || line.starts_with('[') && line.contains("]: ");
            let columns = line.chars().count();
            if columns > COLUMNS && !whole {
                long.push(format!("{path}:{number}: {columns} columns"));
            }
        }
    }
    assert!(
        long.is_empty(),
        "longer than {COLUMNS}:\n{}",
        long.join("\n")
    );
}
