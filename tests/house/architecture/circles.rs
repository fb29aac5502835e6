//! No files know each other in a circle: whoever reads one need not have read the other first. A module
//! and what lies below it are one thing to its neighbours, and may know each other.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{Source, begins_with, sources};

/// Which module uses which.
type Uses<'s> = BTreeMap<&'s str, BTreeSet<&'s str>>;

fn uses(sources: &[Source]) -> Uses<'_> {
    let modules: BTreeSet<&str> = sources.iter().map(|source| &*source.module).collect();
    let mut uses = Uses::new();
    for source in sources {
        let here = &*source.module;
        let used = source
            .named
            .ours
            .iter()
            .filter_map(|path| module_in(path, &modules));
        let others = used.filter(|there| !begins_with(here, there) && !begins_with(there, here));
        uses.entry(here).or_default().extend(others);
    }
    uses
}

/// The innermost module that a path goes through.
fn module_in<'s>(path: &str, modules: &BTreeSet<&'s str>) -> Option<&'s str> {
    let ends = path
        .match_indices("::")
        .map(|(at, _)| at)
        .chain([path.len()]);
    let found = ends.filter_map(|end| modules.get(&path[..end]).copied());
    found.last().filter(|module| !module.is_empty())
}

/// All that can be reached from a module.
fn reached<'s>(from: &'s str, uses: &Uses<'s>) -> BTreeSet<&'s str> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        for next in uses.get(module).into_iter().flatten() {
            if reached.insert(*next) {
                open.push(next);
            }
        }
    }
    reached
}

fn circles(uses: &Uses<'_>) -> BTreeSet<BTreeSet<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = uses
        .keys()
        .map(|module| (*module, reached(module, uses)))
        .collect();
    let circle = |module: &&str| {
        let back = reach[module].iter().filter(|other| {
            reach
                .get(**other)
                .is_some_and(|theirs| theirs.contains(module))
        });
        back.map(|other| (*other).to_owned())
            .collect::<BTreeSet<String>>()
    };
    let all = uses.keys().map(circle);
    all.filter(|circle| circle.len() > 1).collect()
}

#[test]
fn no_files_know_each_other_in_a_circle() {
    let uses = uses(sources());
    let arrows: usize = uses.values().map(BTreeSet::len).sum();
    assert!(arrows > 1_000, "the paths are found: {arrows}");
    let circles = circles(&uses);
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn a_circle_is_found() {
    let mut uses = Uses::new();
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")] {
        uses.entry(from).or_default().insert(to);
    }
    let found = circles(&uses);
    assert_eq!(found.len(), 1);
    assert!(found.iter().all(|circle| circle.iter().eq(["a", "b", "c"])));
}
