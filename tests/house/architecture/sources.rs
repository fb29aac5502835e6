//! Reads the sources by their tokens: which paths each names, and what they mean as paths of the
//! workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::LIBRARIES;

/// Modules of a library that are rooms of their own all the same.
const OWN_ROOMS: &[&str] = &["metrics", "flaws"];

/// A source of production: what is under `#[cfg(test)]` is left out.
pub(super) struct Source {
    pub path: PathBuf,
    pub room: String,
    /// Its module, as a path of the workspace.
    pub module: String,
    pub named: Named,
}

/// What a source names.
#[derive(Default)]
pub(super) struct Named {
    /// Paths of the workspace, beginning with their room.
    pub ours: BTreeSet<String>,
    /// Every path as it is written, and every single word.
    pub written: BTreeSet<String>,
}

impl Named {
    /// Whether a path that begins so is written; a word alone may be anything.
    pub fn names(&self, path: &str) -> bool {
        let mut paths = self.written.iter().filter(|written| written.contains("::"));
        paths.any(|written| begins_with(written, path))
    }
}

/// A module of a library.
#[derive(Clone)]
struct Module {
    /// What stands before the modules of its library.
    prefix: &'static str,
    path: Vec<String>,
}

impl Module {
    /// A path of its library, as a path of the workspace.
    fn absolute(&self, path: &[String]) -> Vec<String> {
        let own_room = path
            .first()
            .is_some_and(|p| OWN_ROOMS.contains(&p.as_str()));
        let prefix = (!self.prefix.is_empty() && !own_room).then(|| self.prefix.to_owned());
        prefix.into_iter().chain(path.iter().cloned()).collect()
    }

    /// What a path that is written here means, as a path of the workspace; `None`: it begins with none
    /// of the words that say where.
    fn meant(&self, path: &[String]) -> Option<Vec<String>> {
        let first = path.first()?.as_str();
        let ups = path.iter().take_while(|p| *p == "super").count();
        if first == "crate" {
            return Some(self.absolute(&path[1..]));
        }
        if first == "self" || ups > 0 {
            let here = &self.path[..self.path.len().saturating_sub(ups)];
            let rest = &path[ups.max(1)..];
            return Some(self.absolute(&[here, rest].concat()));
        }
        let (_, _, prefix) = LIBRARIES.iter().find(|(_, name, _)| *name == first)?;
        let there = Module {
            prefix,
            path: vec![],
        };
        Some(there.absolute(&path[1..]))
    }
}

/// Reads the tokens of a file.
#[derive(Default)]
struct Reader {
    written: Vec<(Module, Vec<String>)>,
    /// What `use` has given a name here.
    names: BTreeMap<String, Vec<String>>,
}

impl Reader {
    fn read(text: &str, module: Module) -> Named {
        let tokens: TokenStream = text.parse().expect("a Rust source");
        let mut reader = Reader::default();
        reader.block(tokens, &module);
        let mut named = Named::default();
        for (module, path) in &reader.written {
            named.written.insert(path.join("::"));
            let meant = module.meant(path).or_else(|| {
                let known = reader.names.get(path.first()?)?;
                (path.len() > 1).then(|| [known, &path[1..]].concat())
            });
            // What is left of `pub(crate)` names nothing.
            let meant = meant.filter(|path| !path.is_empty());
            named.ours.extend(meant.map(|path| path.join("::")));
        }
        named
    }

    fn block(&mut self, tokens: TokenStream, module: &Module) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if is_cfg_test(&tokens[at..]) {
                at = after_item(&tokens, at + 2);
                continue;
            }
            match &tokens[at] {
                TokenTree::Ident(word) if word == "use" => {
                    let end = (at..tokens.len())
                        .find(|i| is_punct(tokens.get(*i), ';'))
                        .unwrap_or(tokens.len());
                    self.uses(&[], &tokens[at + 1..end], module);
                    at = end + 1;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(group))) =
                        (tokens.get(at + 1), tokens.get(at + 2))
                    {
                        let mut inner = module.clone();
                        inner.path.push(name.to_string());
                        self.block(group.stream(), &inner);
                    }
                    at += 3;
                }
                TokenTree::Ident(word) if word == "static" && at > 0 => {
                    // A lifetime is a mark and a word.
                    if !is_punct(tokens.get(at - 1), '\'') {
                        self.written.push((module.clone(), vec![word.to_string()]));
                    }
                    at += 1;
                }
                TokenTree::Ident(_) => {
                    let (path, end) = path_at(&tokens, at);
                    self.written.push((module.clone(), path));
                    at = end;
                }
                TokenTree::Group(group) => {
                    self.block(group.stream(), module);
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// A tree of `use`.
    fn uses(&mut self, before: &[String], tree: &[TokenTree], module: &Module) {
        let (path, end) = path_at(tree, 0);
        let path = [before, &path].concat();
        if let Some(TokenTree::Group(group)) = tree.get(if end == 0 { 0 } else { end + 2 }) {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            for tree in inner.split(|token| is_punct(Some(token), ',')) {
                if !tree.is_empty() {
                    self.uses(&path, tree, module);
                }
            }
            return;
        }
        // `a::{self}` gives `a` its name.
        let path = match path.split_last() {
            Some((last, rest)) if last == "self" && !rest.is_empty() => rest.to_vec(),
            _ => path,
        };
        let name = match (tree.get(end), tree.get(end + 1)) {
            (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(name))) if word == "as" => {
                Some(name.to_string())
            }
            _ => path.last().cloned(),
        };
        if let (Some(name), Some(meant)) = (name, module.meant(&path)) {
            self.names.insert(name, meant);
        }
        self.written.push((module.clone(), path));
    }
}

fn is_punct(token: Option<&TokenTree>, c: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == c)
}

/// The path that begins at a token, and where it ends.
fn path_at(tokens: &[TokenTree], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while let Some(TokenTree::Ident(word)) = tokens.get(at) {
        path.push(word.to_string());
        at += 1;
        let colons = is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':');
        if !colons || !matches!(tokens.get(at + 2), Some(TokenTree::Ident(_))) {
            break;
        }
        at += 2;
    }
    (path, at)
}

fn is_cfg_test(tokens: &[TokenTree]) -> bool {
    let Some(TokenTree::Group(group)) = tokens.get(1) else {
        return false;
    };
    let text: String = group.stream().to_string().split_whitespace().collect();
    is_punct(tokens.first(), '#') && text == "cfg(test)"
}

/// Where the item ends that begins at a token: after its `;` or its block.
fn after_item(tokens: &[TokenTree], from: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(Some(token), ';'),
    };
    let rest = tokens.get(from..).unwrap_or_default();
    from + rest.iter().position(ends).map_or(rest.len(), |at| at + 1)
}

pub(super) fn collect(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The module that a file is.
fn module_of(inside: &Path, prefix: &'static str) -> Module {
    let parts = inside.with_extension("");
    let parts = parts.iter().map(|part| part.to_str().unwrap().to_owned());
    let mut path: Vec<String> = parts.collect();
    if path.last().is_some_and(|last| last == "mod") || path == ["lib"] {
        path.pop();
    }
    Module { prefix, path }
}

/// The sources without tests, read once.
pub(super) fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(read_sources);
    &SOURCES
}

fn read_sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for (folder, name, prefix) in LIBRARIES {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut paths = Vec::new();
        collect(&root, &mut paths);
        assert!(!paths.is_empty(), "{name} has sources");
        for path in paths {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            if stem == "tests" || stem.ends_with("_tests") || stem == "testing" {
                continue;
            }
            let module = module_of(path.strip_prefix(&root).unwrap(), prefix);
            let absolute = module.absolute(&module.path);
            let room = absolute.first().cloned();
            let named = Reader::read(&fs::read_to_string(&path).unwrap(), module);
            let room = room.unwrap_or_else(|| "lib".to_owned());
            let module = absolute.join("::");
            sources.push(Source {
                path,
                room,
                module,
                named,
            });
        }
    }
    sources
}

pub(super) fn begins_with(path: &str, beginning: &str) -> bool {
    path.strip_prefix(beginning)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn paths_are_found_in_every_form() {
    let code = r##"
        //! crate::comment::is_none
        use crate::{c::d, e::{f, g::h, self as other}};
        use super::i::{self, j as k};
        #[cfg(test)]
        use crate::test::only;
        #[cfg(test)]
        mod tests { use crate::test::only; }
        fn f() { let x = i::l(1); k::m; other::n; super::super::o::p; "crate::text::is_none"; }
        mod inner { fn g(x: &'static str) { super::q(); crate::a::b::<u8>(); said!(crate::r::s); } }
        use oms_store::{error::StoreError, metrics};
        fn h() { metrics::count(); oms_core::log::keys::EVENTS; not::ours(); }
    "##;
    let module = Module {
        prefix: "",
        path: vec!["room".into(), "file".into()],
    };
    let named = Reader::read(code, module);
    let expected = [
        "a::b",
        "c::d",
        "e",
        "e::f",
        "e::g::h",
        "e::n",
        "log::keys::EVENTS",
        "metrics",
        "metrics::count",
        "o::p",
        "r::s",
        "room::file::q",
        "room::i",
        "room::i::j",
        "room::i::j::m",
        "room::i::l",
        "store::error::StoreError",
    ];
    assert_eq!(named.ours.iter().collect::<Vec<_>>(), expected);
    assert!(named.names("not::ours") && !named.written.contains("static"));
    let module = Module {
        prefix: "store",
        path: vec!["s3".into()],
    };
    let named = Reader::read("use crate::{error, flaws::Flaw}; static X: u8 = 1;", module);
    let ours: Vec<_> = named.ours.iter().collect();
    assert_eq!(ours, ["flaws::Flaw", "store::error"]);
    assert!(named.written.contains("static"));
}
