//! The supervision tree as lines of a list.

use serde_json::Value;

use crate::cli::actors::{FOLDED_FROM, is_well};
use crate::cli::output::field;

/// A line: an actor, or how many are not named.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub depth: usize,
    pub name: String,
    /// Where it stands; `None`: it is no single actor.
    pub path: Option<String>,
    pub state: String,
    pub restarts: u64,
    /// Calls that it has not answered.
    pub calls: u64,
    /// How long a message waits in its mailbox, in milliseconds.
    pub wait_ms: f64,
    /// Why it was restarted last.
    pub failure: Option<String>,
}

/// The tree, with many that are well as one line.
pub fn lines(actors: &Value) -> Vec<Line> {
    let mut lines = Vec::new();
    if actors["root"].is_object() {
        add(&actors["root"], 0, &mut lines);
    }
    lines
}

fn add(node: &Value, depth: usize, lines: &mut Vec<Line>) {
    let failure = &node["last_failure"];
    let state = match node["stuck"].as_str() {
        Some(stuck) => format!("stuck: {stuck}"),
        None => field(node, "state"),
    };
    let children: Vec<&Value> = node["children"].as_array().into_iter().flatten().collect();
    lines.push(Line {
        depth,
        name: field(node, "name"),
        path: node["path"].as_str().map(str::to_owned),
        state,
        restarts: node["restarts"].as_u64().unwrap_or_default(),
        calls: node["calls_in_flight"].as_u64().unwrap_or_default(),
        wait_ms: node["mailbox_wait_ms"].as_f64().unwrap_or_default(),
        failure: failure.is_object().then(|| {
            let part = |key| field(failure, key);
            format!("{}: {}", part("cause"), part("message"))
        }),
    });
    let well = children.iter().filter(|child| is_well(child)).count();
    let folds = well > FOLDED_FROM;
    for child in children.iter().filter(|child| !folds || !is_well(child)) {
        add(child, depth + 1, lines);
    }
    let unnamed = node["children_omitted"].as_u64().unwrap_or_default();
    let folded = if folds { well as u64 } else { 0 };
    if folded + unnamed > 0 {
        lines.push(Line {
            depth: depth + 1,
            name: format!("{} more that are not named", folded + unnamed),
            path: None,
            state: String::new(),
            restarts: 0,
            calls: 0,
            wait_ms: 0.0,
            failure: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn many_that_are_well_are_one_line_that_cannot_be_killed() {
        let child = |n: usize, state: &str| {
            json!({ "path": format!("a/{n}"), "name": n.to_string(),
            "state": state, "restarts": 1, "children": [] })
        };
        let mut children: Vec<Value> = (0..9).map(|n| child(n, "running")).collect();
        children.push(child(9, "backoff"));
        let tree = json!({ "root": { "path": "", "name": "oms", "state": "running", "restarts": 0,
            "children": children, "children_omitted": 90 } });
        let lines = lines(&tree);
        let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["oms", "9", "99 more that are not named"]);
        assert_eq!(lines[1].path.as_deref(), Some("a/9"));
        assert_eq!(lines[2].path, None);
        assert_eq!(super::lines(&Value::Null), []);
    }
}
