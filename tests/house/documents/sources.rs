//! The Rust sources as text.

use std::fs;
use std::path::Path;

use super::root;

/// A source file.
pub struct Source {
    /// Beneath the repository, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// Every Rust file in the folders of that name, whichever of them there are, sorted by path.
pub fn rust_files(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("a text");
            let beneath = path.strip_prefix(root()).expect("beneath the repository");
            let path = beneath.to_string_lossy().replace('\\', "/");
            found.push(Source { path, text });
        }
    }
}
