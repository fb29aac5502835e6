//! `oms actors`.

use serde_json::{Value, json};

use super::exit::Exit;
use super::output::{Output, field};
use super::remote::Remote;

/// Show the supervision tree, kill an actor in it, or arm a fail point
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Killing and fail points need `chaos.enabled`.

Examples:
  oms actors
  oms actors --all
  oms actors --kill event_store/0 --how panic
  oms actors --failpoint s3.put_if_absent.after --action happened_but_failed
  oms actors --failpoints")]
pub struct Actors {
    #[command(flatten)]
    remote: Remote,
    /// Kill the actor at this path
    #[arg(long, value_name = "PATH")]
    kill: Option<String>,
    /// How
    #[arg(long, requires = "kill", default_value = "panic",
        value_parser = ["panic", "stop", "hang", "abort", "arbiter"])]
    how: String,
    /// Arm the fail point of this name: dependency.operation.before or .after
    #[arg(long, value_name = "NAME", conflicts_with = "kill")]
    failpoint: Option<String>,
    /// What happens there
    #[arg(long, requires = "failpoint", default_value = "error",
        value_parser = ["error", "panic", "delay", "happened_but_failed"])]
    action: String,
    /// How often; 0 disarms
    #[arg(long, requires = "failpoint", default_value_t = 1, value_name = "N")]
    times: u32,
    /// How long a delay is
    #[arg(long, requires = "failpoint", default_value_t = 0, value_name = "MS")]
    delay_ms: u64,
    /// List the fail points that were reached
    #[arg(long, conflicts_with_all = ["kill", "failpoint"])]
    failpoints: bool,
    /// Name every actor, also those of a kind that are many and well
    #[arg(long, conflicts_with_all = ["kill", "failpoint", "failpoints"])]
    all: bool,
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
        if let Some(name) = self.failpoint {
            let order = json!({ "name": name, "action": self.action, "times": self.times,
                "delay_ms": self.delay_ms });
            api.post("/api/v1/admin/actors/failpoints", &order).await?;
            output.result(&order, || {
                format!("{name}: {} the next {} times", self.action, self.times)
            })?;
            return Ok(Exit::Done);
        }
        if self.failpoints {
            let answer = api.get("/api/v1/admin/actors/failpoints").await?;
            output.result(&answer, || points(&answer))?;
            return Ok(Exit::Done);
        }
        let answer = api.get("/api/v1/admin/actors").await?;
        output.result(&answer, || {
            let mut text = String::new();
            describe(
                answer.get("root").unwrap_or(&answer),
                0,
                self.all,
                &mut text,
            );
            text
        })?;
        Ok(Exit::Done)
    }
}

fn points(answer: &Value) -> String {
    let points = answer.get("points").and_then(Value::as_object);
    let lines = points.into_iter().flatten().map(|(name, point)| {
        let part = |key| field(point, key);
        let armed = match point.get("action").and_then(Value::as_str) {
            Some(action) => format!("  armed: {action}, {} times", part("times")),
            None => String::new(),
        };
        format!(
            "{name:44} passed {:>8}  hit {:>4}{armed}\n",
            part("passed"),
            part("hit")
        )
    });
    lines.collect()
}

/// With more healthy children than this, only their number is shown.
pub(super) const FOLDED_FROM: usize = 8;

/// Whether the actor and all below it run, so that they need no line of their own.
pub(super) fn is_well(node: &Value) -> bool {
    let children = node.get("children").and_then(Value::as_array);
    node.get("state").and_then(Value::as_str) == Some("running")
        && node.get("stuck").is_none_or(Value::is_null)
        && node.get("last_failure").is_none_or(Value::is_null)
        && children.into_iter().flatten().all(is_well)
}

fn describe(node: &Value, depth: usize, all: bool, text: &mut String) {
    let name = format!("{}{}", "  ".repeat(depth), field(node, "name"));
    let (state, restarts) = (field(node, "state"), field(node, "restarts"));
    text.push_str(&format!("{name:40} {state:10} {restarts} restarts"));
    if let Some(rebuilds) = node
        .get("rebuilds")
        .and_then(Value::as_u64)
        .filter(|n| *n > 0)
    {
        text.push_str(&format!("  {rebuilds} rebuilds"));
    }
    let number = |key| node.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    if number("calls_in_flight") > 0.0 || number("mailbox_wait_ms") > 0.0 {
        let (calls, wait) = (number("calls_in_flight"), number("mailbox_wait_ms"));
        text.push_str(&format!("  {calls} calls, {wait:.1} ms wait"));
    }
    if let Some(how) = node.get("stuck").and_then(Value::as_str) {
        text.push_str(&format!("  stuck: {how}"));
    }
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
    let children: Vec<&Value> = children.into_iter().flatten().collect();
    let well = children.iter().filter(|child| is_well(child)).count();
    let folds = !all && well > FOLDED_FROM;
    for child in children.iter().filter(|child| !folds || !is_well(child)) {
        describe(child, depth + 1, all, text);
    }
    // The service lists only the first actors of a large branch.
    let unnamed = number("children_omitted") as usize;
    let indent = "  ".repeat(depth + 1);
    if folds {
        text.push_str(&format!("{indent}{well} that run (--all names them)\n"));
    }
    if unnamed > 0 {
        text.push_str(&format!(
            "{indent}{unnamed} more, which the service does not name\n"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(name: usize, state: &str) -> Value {
        json!({ "name": name.to_string(), "state": state, "restarts": 0, "children": [] })
    }

    #[test]
    fn many_that_are_well_are_one_line_and_who_is_not_is_named() {
        let mut children: Vec<Value> = (0..99).map(|n| entity(n, "running")).collect();
        children.push(entity(99, "restarting"));
        let branch = json!({ "name": "instance", "state": "running", "restarts": 0,
            "children": children, "children_omitted": 900 });
        let (mut folded, mut whole) = (String::new(), String::new());
        describe(&branch, 0, false, &mut folded);
        describe(&branch, 0, true, &mut whole);
        let lines: Vec<&str> = folded.lines().collect();
        assert_eq!(lines.len(), 4, "{folded}");
        assert!(lines[1].contains("restarting"), "{folded}");
        assert_eq!(lines[2], "  99 that run (--all names them)");
        let unnamed = "  900 more, which the service does not name";
        assert_eq!(lines[3], unnamed);
        assert_eq!(whole.lines().count(), 102, "{whole}");
        assert_eq!(whole.lines().last(), Some(unnamed), "{whole}");
    }

    #[test]
    fn the_tree_is_indented_and_names_the_last_failure() {
        let leaf = json!({ "name": "0", "state": "running", "restarts": 2,
            "last_failure": { "cause": "panic", "at": "now", "message": "boom" }, "children": [] });
        let root = json!({ "name": "root", "state": "running", "restarts": 2, "children": [leaf] });
        let mut text = String::new();
        describe(&root, 0, false, &mut text);
        insta::assert_snapshot!(text);
    }
}
