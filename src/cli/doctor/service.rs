//! A running service: its health, its version, who leads, and whether it is the one configured
//! here.

use reqwest::Method;
use serde_json::Value;

use super::check::{Area, Check, DEADLINE, Finding};
use crate::cli::output::field;
use crate::cli::remote::{Api, ApiError};
use crate::config::Config;

const AREA: Area = Area::Service;

/// What is not checked when no service answers.
const AFTER_REACH: [&str; 4] = ["version", "leads", "configuration", "dead letters"];

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `expected`: a service was named, or runs here: it has to answer.
pub async fn checks(
    api: anyhow::Result<Api>,
    expected: bool,
    config: Option<&Config>,
) -> Vec<Check> {
    let skipped = |checks: &mut Vec<Check>| {
        checks.extend(AREA.skip(&AFTER_REACH, "no service answers"));
    };
    let api = match api {
        Ok(api) => api,
        Err(error) => {
            let advice = "correct the flags that name the service and its token";
            let mut checks = vec![AREA.check("health", Finding::failed(error.to_string(), advice))];
            skipped(&mut checks);
            return checks;
        }
    };
    let mut report = None;
    let health = AREA.within("health", DEADLINE, async {
        match health(&api).await {
            Ok(found) => {
                let finding = judge_health(api.base(), &found);
                report = Some(found);
                finding
            }
            Err(error) if expected => Finding::failed(
                error.to_string(),
                "is it running, is --url right? The end of its log says why it ended",
            ),
            Err(ApiError::Unreachable { .. }) => {
                Finding::skipped(format!("none answers at {}", api.base()))
            }
            // Nobody named it, but something is there.
            Err(error) => Finding::warning(
                error.to_string(),
                "another program has the port of this configuration",
            ),
        }
    });
    let mut checks = vec![health.await];
    let Some(report) = report else {
        skipped(&mut checks);
        return checks;
    };
    checks.push(AREA.check("version", version(&field(&report, "version"))));
    checks.push(AREA.check("leads", leads(&report)));
    let configured = AREA.within("configuration", DEADLINE, async {
        match (config, api.get("/api/v1/admin/service").await) {
            (None, _) => Finding::skipped("this configuration cannot be read"),
            (_, Err(error)) => Finding::skipped(error.to_string()),
            (Some(config), Ok(about)) => same(config, &about),
        }
    });
    checks.push(configured.await);
    let letters = AREA.within("dead letters", DEADLINE, async {
        match api.text("/metrics").await {
            Ok(text) => dead_letters(&text),
            Err(error) => Finding::skipped(error.to_string()),
        }
    });
    checks.push(letters.await);
    checks
}

/// The report, whatever the status that it comes with.
async fn health(api: &Api) -> Result<Value, ApiError> {
    let answer = api.exchange(api.request(Method::GET, "/health")).await?;
    let odd = || ApiError::Odd {
        url: api.base().to_owned(),
        message: format!("{} at /health is not oms", answer.status),
    };
    let report: Value = serde_json::from_str(&answer.text).map_err(|_| odd())?;
    match report.get("migration_mode") {
        Some(_) => Ok(report),
        None => Err(odd()),
    }
}

fn judge_health(url: &str, report: &Value) -> Finding {
    let mut why = Vec::new();
    why.extend(report["reason"].as_str().map(str::to_owned));
    for (name, state) in report["dependencies"].as_object().into_iter().flatten() {
        if state["state"] == "down" {
            why.push(format!("{name} is down since {}", field(state, "since")));
        }
    }
    for halt in report["halted"].as_array().into_iter().flatten() {
        let place = match halt["partition"].as_u64() {
            Some(partition) => format!(" of partition {partition}"),
            None => String::new(),
        };
        let (what, reason) = (field(halt, "what"), field(halt, "reason"));
        why.push(format!("{what}{place} does not go on: {reason}"));
    }
    for list in ["copies", "actors_down"] {
        let items = report[list].as_array().into_iter().flatten();
        why.extend(items.filter_map(Value::as_str).map(str::to_owned));
    }
    let status = field(report, "status");
    let seen = [vec![format!("{url} is {status}")], why]
        .concat()
        .join("\n");
    let advice = "deploy/RUNBOOK.md has a table of symptoms; `oms status`, `oms mode` and `oms \
                  actors` say more";
    match status.as_str() {
        "ok" => Finding::ok(seen),
        "degraded" => Finding::warning(seen, advice),
        _ => Finding::failed(seen, advice),
    }
}

fn version(theirs: &str) -> Finding {
    match theirs == VERSION {
        true => Finding::ok(format!("{VERSION}, as this program")),
        false => Finding::warning(
            format!("the service is {theirs}, this program {VERSION}"),
            "use the program that the service was started with, or start the service anew: what is \
             said here of schemas and settings is said for this version",
        ),
    }
}

fn leads(report: &Value) -> Finding {
    let leader = match report["lead"].as_str() {
        Some("s3") => "S3",
        Some("postgres") => "PostgreSQL",
        _ => return Finding::warning("nobody is known to lead", "oms mode says more"),
    };
    Finding::ok(format!(
        "{leader}, in the mode {}, epoch {}",
        field(report, "migration_mode"),
        field(report, "epoch")
    ))
}

/// Whether the service uses the bucket that is configured here.
fn same(config: &Config, about: &Value) -> Finding {
    let ours = (&config.s3.bucket, config.s3.endpoint.as_deref());
    let theirs = (field(about, "bucket"), about["s3_endpoint"].as_str());
    let elsewhere = !config.s3.is_embedded() && ours.1 != theirs.1;
    if ours.0 != &theirs.0 || elsewhere {
        return Finding::warning(
            format!(
                "the service uses the bucket {} at {}, this configuration {} at {}",
                theirs.0,
                theirs.1.unwrap_or("AWS"),
                ours.0,
                ours.1.unwrap_or("AWS")
            ),
            "what is said here of S3 is not said of that service's: check with the configuration \
             that it was started with (--config, and its environment)",
        );
    }
    Finding::ok("the service uses the bucket that is configured here")
}

/// Reads the gauge from Prometheus' text.
fn dead_letters(metrics: &str) -> Finding {
    let lines = metrics.lines();
    let values = lines.filter_map(|l| l.strip_prefix("oms_dead_letters"));
    let values = values.filter(|rest| rest.starts_with(['{', ' ']));
    let values = values.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
    let values: Vec<f64> = values.collect();
    // Not a number while the outbox cannot be read.
    if values.is_empty() || !values.iter().all(|value| value.is_finite()) {
        return Finding::skipped("the service does not know at the moment");
    }
    let all: f64 = values.iter().sum();
    match all == 0.0 {
        true => Finding::ok("none"),
        false => Finding::warning(
            format!("{all}: the broker refused these events"),
            "`oms dead list` says why; requeue or discard them: deploy/RUNBOOK.md#dead-letters",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;
    use serde_json::json;

    #[test]
    fn health_is_told_with_its_reasons() {
        let report = json!({
            "status": "degraded", "reason": "projection_halted", "actors_down": ["relay"],
            "dependencies": {"s3": {"state": "up"},
                "kafka": {"state": "down", "since": "2026-01-02T03:04:05Z"}},
            "halted": [{"what": "projection", "partition": 3, "reason": "postgres is away"}],
        });
        let finding = judge_health("http://oms", &report);
        assert_eq!(finding.verdict, Verdict::Warning);
        for word in [
            "projection_halted",
            "kafka is down",
            "of partition 3",
            "relay",
        ] {
            assert!(finding.seen.contains(word), "{finding:?}");
        }
        assert!(!finding.seen.contains("s3 is down"));
        let state = |status: &str| judge_health("u", &json!({ "status": status })).verdict;
        assert_eq!(state("ok"), Verdict::Ok);
        assert_eq!(state("unavailable"), Verdict::Failed);
    }

    #[test]
    fn another_version_another_bucket_and_dead_letters_are_warned_of() {
        assert_eq!(version(VERSION).verdict, Verdict::Ok);
        assert_eq!(version("0.0.9").verdict, Verdict::Warning);
        let mut config = Config::default();
        let about = |bucket: &str| json!({ "bucket": bucket, "s3_endpoint": "http://own" });
        let bucket = config.s3.bucket.clone();
        assert_eq!(same(&config, &about(&bucket)).verdict, Verdict::Ok);
        assert_eq!(same(&config, &about("other")).verdict, Verdict::Warning);
        config.s3.endpoint = Some("http://s3.example".into());
        assert_eq!(same(&config, &about(&bucket)).verdict, Verdict::Warning);
        let none =
            "# HELP oms_dead_letters Rows\n# TYPE oms_dead_letters gauge\noms_dead_letters 0\n";
        assert_eq!(dead_letters(none).verdict, Verdict::Ok);
        for unknown in ["", "oms_dead_letters NaN\n", "oms_dead_letters_x 3\n"] {
            assert_eq!(
                dead_letters(unknown).verdict,
                Verdict::Skipped,
                "{unknown:?}"
            );
        }
        let some =
            dead_letters("oms_dead_letters{topic=\"a\"} 2\noms_dead_letters{topic=\"b\"} 1\n");
        assert_eq!(some.verdict, Verdict::Warning);
        assert!(some.seen.starts_with('3'), "{some:?}");
    }
}
