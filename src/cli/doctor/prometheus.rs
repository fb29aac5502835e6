//! A Prometheus that is to watch the service: whether it scrapes it, and has the alert rules.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::{Area, Check, DEADLINE, Finding};
use crate::cli::output::field;
use crate::cli::remote::{Api, Certificates};

const AREA: Area = Area::Prometheus;

/// The alert rules that belong to this version.
const RULES: &str = include_str!("../../../deploy/alerts.yml");

pub async fn checks(url: &str) -> Vec<Check> {
    let api = match Api::new(url, None, &Certificates::default()) {
        Ok(api) => api,
        Err(error) => {
            let finding = Finding::failed(error.to_string(), "correct --prometheus");
            return vec![AREA.check("reach", finding)];
        }
    };
    let (targets, rules) = futures_util::join!(
        ask(
            &api,
            url,
            "targets",
            "/api/v1/targets?state=active",
            targets
        ),
        ask(&api, url, "alert rules", "/api/v1/rules?type=alert", rules)
    );
    vec![targets, rules]
}

async fn ask(
    api: &Api,
    url: &str,
    name: &'static str,
    path: &str,
    judge: fn(&Value) -> Finding,
) -> Check {
    let answer = async {
        match api.get(path).await {
            Ok(answer) => judge(&answer["data"]),
            Err(error) => Finding::failed(
                // A password in the URL is nobody's business.
                error
                    .to_string()
                    .replace(url.trim_end_matches('/'), &shown(url)),
                "is --prometheus the address of Prometheus itself, as its own pages have it?",
            ),
        }
    };
    AREA.within(name, DEADLINE, answer).await
}

fn shown(url: &str) -> String {
    let Ok(mut url) = url::Url::parse(url) else {
        return "Prometheus".to_owned();
    };
    // Fails only for a URL without a host, which has no user name to remove.
    url.set_username("").ok();
    url.set_password(None).ok();
    url.as_str().trim_end_matches('/').to_owned()
}

/// Whether the rules concern a job of this name.
fn is_ours(job: &str) -> bool {
    job == "oms" || job.starts_with("oms-")
}

fn targets(data: &Value) -> Finding {
    let all = data["activeTargets"].as_array().into_iter().flatten();
    let ours: Vec<&Value> = all
        .filter(|t| t["labels"]["job"].as_str().is_some_and(is_ours))
        .collect();
    let down: Vec<String> = (ours.iter().filter(|t| t["health"] != "up"))
        .map(|t| format!("{}: {}", field(t, "scrapeUrl"), field(t, "lastError")))
        .collect();
    if ours.is_empty() {
        return Finding::failed(
            "no target has a job called oms or oms-…",
            "scrape /metrics of every process of the service, in a job of such a name: the rules \
             look for it",
        );
    }
    if !down.is_empty() {
        return Finding::failed(
            format!(
                "{} of {} targets are not up\n{}",
                down.len(),
                ours.len(),
                down.join("\n")
            ),
            "does the process run, and does Prometheus reach it? /metrics needs no token",
        );
    }
    Finding::ok(format!("{} scraped and up", ours.len()))
}

/// The names of alerts in a file of rules.
fn names(rules: &str) -> BTreeSet<&str> {
    let lines = rules.lines().map(str::trim);
    lines.filter_map(|l| l.strip_prefix("- alert: ")).collect()
}

fn rules(data: &Value) -> Finding {
    let groups = data["groups"].as_array().into_iter().flatten();
    let loaded: Vec<&Value> = groups
        .flat_map(|group| group["rules"].as_array().into_iter().flatten())
        .collect();
    let wanted = names(RULES);
    let is_named = |rule: &&&Value, name: &str| rule["name"] == name;
    let missing: Vec<&str> = (wanted.iter())
        .filter(|name| !loaded.iter().any(|rule| is_named(&rule, name)))
        .copied()
        .collect();
    let ours = || {
        let ours = loaded.iter();
        ours.filter(|rule| rule["name"].as_str().is_some_and(|n| wanted.contains(n)))
    };
    if !missing.is_empty() {
        return Finding::failed(
            format!(
                "{} of {} are missing: {}",
                missing.len(),
                wanted.len(),
                missing.join(", ")
            ),
            "name deploy/alerts.yml of this version under rule_files, and reload Prometheus",
        );
    }
    let broken = ours().find(|rule| rule["health"] == "err");
    if let Some(rule) = broken {
        return Finding::failed(
            format!("{}: {}", field(rule, "name"), field(rule, "lastError")),
            "a rule that cannot be evaluated never fires: compare it with deploy/alerts.yml",
        );
    }
    let firing: BTreeSet<String> = ours()
        .filter(|rule| rule["state"] == "firing")
        .map(|rule| field(rule, "name"))
        .collect();
    if !firing.is_empty() {
        let firing: Vec<String> = firing.into_iter().collect();
        return Finding::warning(
            format!("{} fire", firing.join(", ")),
            "each alert links to its section of the runbook",
        );
    }
    Finding::ok(format!("all {} loaded, none fires", wanted.len()))
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;
    use serde_json::json;

    fn loaded(change: impl Fn(&str) -> Option<Value>) -> Value {
        let rules: Vec<Value> = names(RULES).into_iter().filter_map(change).collect();
        json!({ "groups": [{ "name": "g", "rules": rules }] })
    }

    #[test]
    fn rules_that_are_missing_or_broken_are_named_and_those_that_fire_too() {
        assert!(names(RULES).len() > 20, "the names are found");
        let rule = |name: &str, health: &str, state: &str| {
            Some(json!({ "name": name, "health": health, "state": state, "lastError": "bad" }))
        };
        let well = loaded(|name| rule(name, "ok", "inactive"));
        assert_eq!(rules(&well).verdict, Verdict::Ok);
        let one_missing =
            loaded(|name| (name != "OmsDown").then(|| rule(name, "ok", "inactive"))?);
        let finding = rules(&one_missing);
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.seen.contains("OmsDown") && !finding.seen.contains("OmsAbsent"));
        let is_down = |name: &str| name == "OmsDown";
        let broken = loaded(|n| rule(n, if is_down(n) { "err" } else { "ok" }, "inactive"));
        assert!(rules(&broken).seen.contains("OmsDown: bad"));
        let fires = loaded(|n| rule(n, "ok", if is_down(n) { "firing" } else { "inactive" }));
        assert_eq!(rules(&fires).verdict, Verdict::Warning);
        assert_eq!(rules(&json!({})).verdict, Verdict::Failed);
    }

    #[test]
    fn targets_are_those_that_the_rules_look_for() {
        let target = |job: &str, health: &str| {
            json!({ "labels": { "job": job }, "health": health, "lastError": "refused",
                "scrapeUrl": "http://oms:8000/metrics" })
        };
        let judge = |list: Vec<Value>| targets(&json!({ "activeTargets": list }));
        assert_eq!(judge(vec![target("oms-prod", "up")]).verdict, Verdict::Ok);
        assert_eq!(judge(vec![target("omspod", "up")]).verdict, Verdict::Failed);
        let down = judge(vec![target("oms", "up"), target("oms", "down")]);
        assert!(
            down.verdict == Verdict::Failed && down.seen.contains("refused"),
            "{down:?}"
        );
        assert_eq!(shown("http://me:hunter2@prom:9090/"), "http://prom:9090");
    }
}
