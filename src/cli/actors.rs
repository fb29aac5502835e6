//! `oms actors`.

use serde_json::{Value, json};

use super::exit::Exit;
use super::output::{Output, field};
use super::remote::Remote;

/// Show the supervision tree, or kill an actor in it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Killing needs `chaos.enabled`.

Examples:
  oms actors
  oms actors --kill event_store/0 --how panic")]
pub struct Actors {
    #[command(flatten)]
    remote: Remote,
    /// Kill the actor at this path
    #[arg(long, value_name = "PATH")]
    kill: Option<String>,
    /// How
    #[arg(long, requires = "kill", default_value = "panic",
        value_parser = ["panic", "stop", "hang"])]
    how: String,
}

impl Actors {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let api = self.remote.connect()?;
        if let Some(path) = self.kill {
            let order = json!({ "path": path, "how": self.how });
            api.post("/api/v1/admin/actors/kill", &order).await?;
            output.result(&order, || format!("{path}: told to {}", self.how))?;
            return Ok(Exit::Done);
        }
        let answer = api.get("/api/v1/admin/actors").await?;
        output.result(&answer, || {
            let mut text = String::new();
            describe(answer.get("root").unwrap_or(&answer), 0, &mut text);
            text
        })?;
        Ok(Exit::Done)
    }
}

fn describe(node: &Value, depth: usize, text: &mut String) {
    let name = format!("{}{}", "  ".repeat(depth), field(node, "name"));
    let (state, restarts) = (field(node, "state"), field(node, "restarts"));
    text.push_str(&format!("{name:40} {state:10} {restarts} restarts"));
    if let Some(failure) = node.get("last_failure").filter(|f| !f.is_null()) {
        let part = |key| field(failure, key);
        text.push_str(&format!(
            "  last: {} at {}: {}",
            part("cause"),
            part("at"),
            part("message")
        ));
    }
    text.push('\n');
    let children = node.get("children").and_then(Value::as_array);
    for child in children.into_iter().flatten() {
        describe(child, depth + 1, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_indented_and_names_the_last_failure() {
        let leaf = json!({ "name": "0", "state": "running", "restarts": 2,
            "last_failure": { "cause": "panic", "at": "now", "message": "boom" }, "children": [] });
        let root = json!({ "name": "root", "state": "running", "restarts": 2, "children": [leaf] });
        let mut text = String::new();
        describe(&root, 0, &mut text);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("  0 ") && lines[1].contains("panic at now: boom"),
            "{text}"
        );
    }
}
