//! `oms backfill`, `oms verify`, `oms repair`, `oms archive`: jobs of a running service.

mod describe;

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use self::describe::{describe, parked};
use super::exit::Exit;
use super::output::{Output, field};
use super::progress::Progress;
use super::remote::{Api, ApiError, Remote};
use crate::proof::order::LeaderOrder;

/// Pause between two polls of a job: the progress bar moves a few times a second.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How long to wait for a service that does not answer while a job is watched: it may be
/// restarting, and the job then goes on.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    remote: Remote,
    /// Pause the one under way; it stops at a checkpoint
    #[arg(long, conflicts_with_all = ["resume", "cancel"])]
    pause: bool,
    /// Let a paused one go on
    #[arg(long, conflicts_with = "cancel")]
    resume: bool,
    /// Stop the one under way for good
    #[arg(long)]
    cancel: bool,
    /// Start it and do not wait for its end
    #[arg(long)]
    detach: bool,
}

/// Copy history into the log, or watch the copy that is under way
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ctrl-C leaves the job running. Ends with 6 while rows of a source are parked.

Examples:
  oms backfill --rate 5000
  oms backfill --pause
  oms backfill --source shop --follow")]
pub struct Backfill {
    #[command(flatten)]
    common: Common,
    /// At most so many events per second
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Import from another program's event store: a name under migration.sources in the
    /// configuration of the service
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Of a source: go on with what is written there, until cancelled
    #[arg(long, requires = "source")]
    follow: bool,
    /// Of a source: read everything again; what is in the log is recognised
    #[arg(long, requires = "source")]
    restart: bool,
    /// Look and count, write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Prove that PostgreSQL and S3 hold the same log
///
/// Starts a verification, or watches the one under way. Ends with 1 when anything diverges.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ctrl-C leaves the job running.

Examples:
  oms verify
  oms verify --incremental --rate 20000
  oms --json verify | jq .report.divergences")]
pub struct Verify {
    #[command(flatten)]
    common: Common,
    /// Go on from where the last one ended, instead of from the beginning
    #[arg(long)]
    incremental: bool,
    /// Only this partition; may be given several times
    #[arg(long = "partition", value_name = "N")]
    partitions: Vec<u16>,
    /// At most so many events per second
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
}

/// Mend what the last verification found
///
/// The hash chain says which place is right. What is replaced or taken away is kept in quarantine.
/// Copies are mended by themselves; the log that leads is touched only where
/// `--replace-in-leader` names what lies there. Ends with 1 when something could not be repaired.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oms repair --dry-run
  oms repair --fresh
  oms repair --replace-in-leader 0/5:1f0c8a5e9b7d4e2a
  oms verify")]
pub struct Repair {
    #[command(flatten)]
    common: Common,
    /// Repair what this verification found, instead of the last one
    #[arg(long, value_name = "JOB")]
    verification: Option<String>,
    /// Verify anew first
    #[arg(long)]
    fresh: bool,
    /// Only this partition; may be given several times
    #[arg(long = "partition", value_name = "N")]
    partitions: Vec<u16>,
    /// Tell what would be done, do nothing
    #[arg(long)]
    dry_run: bool,
    /// Also move away what the copy holds beyond the end of the log though it could follow it: only
    /// when it is certain that it is not the last copy of something acknowledged
    #[arg(long)]
    quarantine_beyond_end: bool,
    /// Replace this in the log that leads, or move it away if it is no part of the log: what lies there
    /// is named by the beginning of its SHA-256, or `absent`; a repair without it says what to name. May
    /// be given several times
    #[arg(long, value_name = "PLACE:HASH")]
    replace_in_leader: Vec<LeaderOrder>,
}

/// Export PostgreSQL's retired events to Parquet in the bucket, then empty their tables
///
/// Refused unless every partition has been in s3_only for long enough and S3 provably holds all.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oms archive --dry-run
  oms archive --keep-rows
  oms archive")]
pub struct Archive {
    #[command(flatten)]
    common: Common,
    /// Look whether it may be done, write and empty nothing
    #[arg(long)]
    dry_run: bool,
    /// Export, and leave the tables as they are
    #[arg(long)]
    keep_rows: bool,
}

/// The parameters that were given on the command line.
#[derive(Default)]
struct Given(Map<String, Value>);

impl Given {
    fn flag(mut self, key: &str, value: bool) -> Self {
        if value {
            self.0.insert(key.to_owned(), true.into());
        }
        self
    }

    fn value(mut self, key: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value.into());
        }
        self
    }

    fn texts(mut self, key: &str, values: &[impl ToString]) -> Self {
        if !values.is_empty() {
            let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
            self.0.insert(key.to_owned(), texts.into());
        }
        self
    }

    fn list(mut self, key: &str, values: Vec<u16>) -> Self {
        if !values.is_empty() {
            self.0.insert(key.to_owned(), values.into());
        }
        self
    }
}

impl Backfill {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let given = Given::default()
            .value("rate", self.rate)
            .value("source", self.source)
            .flag("follow", self.follow)
            .flag("restart", self.restart)
            .flag("dry_run", self.dry_run);
        run("backfill", self.common, given, output).await
    }
}

impl Verify {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let given = Given::default()
            .flag("incremental", self.incremental)
            .list("partitions", self.partitions)
            .value("rate", self.rate);
        run("verify", self.common, given, output).await
    }
}

impl Repair {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let given = Given::default()
            .value("verification", self.verification)
            .flag("fresh", self.fresh)
            .list("partitions", self.partitions)
            .flag("dry_run", self.dry_run)
            .flag("quarantine_beyond_end", self.quarantine_beyond_end)
            .texts("replace_in_leader", &self.replace_in_leader);
        run("repair", self.common, given, output).await
    }
}

impl Archive {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let given = Given::default()
            .flag("dry_run", self.dry_run)
            .flag("keep_rows", self.keep_rows);
        run("archive", self.common, given, output).await
    }
}

async fn run(kind: &str, common: Common, given: Given, output: Output) -> anyhow::Result<Exit> {
    let api = common.remote.connect()?;
    let path = format!("/api/v1/admin/migration/{kind}");
    let order = match (common.pause, common.resume, common.cancel) {
        (true, ..) => Some("pause"),
        (_, true, _) => Some("resume"),
        (.., true) => Some("cancel"),
        _ => None,
    };
    if let Some(action) = order {
        let job = api.post(&path, &json!({ "action": action })).await?;
        if action != "resume" || common.detach {
            output.result(&job, || {
                format!("{kind} {}: {}", field(&job, "id"), field(&job, "state"))
            })?;
            return Ok(Exit::Done);
        }
        return follow(&api, kind, &job, output).await;
    }
    let job = match api.post(&path, &Value::Object(given.0)).await {
        Ok(job) => job,
        Err(ApiError::Refused { code, .. }) if code == "job_running" => {
            let job = api.get(&path).await?;
            output.note(&format!(
                "a {kind} is {} already: watching it",
                field(&job, "state")
            ));
            job
        }
        Err(error) => return Err(error.into()),
    };
    if common.detach {
        output.result(&job, || {
            format!("{kind} {}: {}", field(&job, "id"), field(&job, "state"))
        })?;
        return Ok(Exit::Done);
    }
    follow(&api, kind, &job, output).await
}

/// Watches a job until it is over or paused, or until we are told to stop watching.
async fn follow(api: &Api, kind: &str, job: &Value, output: Output) -> anyhow::Result<Exit> {
    let path = format!("/api/v1/admin/migration/{kind}/{}", field(job, "id"));
    let mut job = job.clone();
    let mut bar = Progress::new(output, kind, 0);
    let mut waiting = String::new();
    let mut heard = Instant::now();
    while matches!(job["state"].as_str(), Some("running" | "pausing")) {
        let number = |key: &str| job["progress"][key].as_u64().unwrap_or_default();
        bar.show(
            &field(&job["progress"], "phase"),
            number("done"),
            number("total"),
        );
        let says = field(&job["progress"], "waiting");
        if says != waiting {
            if says != "-" {
                output.note(&format!("{kind} waits: {says}"));
            }
            waiting = says;
        }
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            stop = tokio::signal::ctrl_c() => {
                stop?;
                output.note(&format!(
                    "the {kind} goes on without us: `oms {kind}` watches it again, `oms {kind} --pause` pauses it"
                ));
                return Ok(Exit::Unavailable);
            }
        }
        match api.get(&path).await {
            Ok(now) => {
                job = now;
                heard = Instant::now();
            }
            Err(error @ (ApiError::Unreachable { .. } | ApiError::Unavailable { .. }))
                if heard.elapsed() < PATIENCE =>
            {
                tracing::debug!(%error, "cannot see the job");
            }
            Err(error) => return Err(error.into()),
        }
    }
    bar.finish();
    output.result(&job, || describe(kind, &job))?;
    Ok(exit(&job))
}

fn exit(job: &Value) -> Exit {
    match job["state"].as_str() {
        // Only reports of verifications and repairs have `clean`.
        Some("done") if job["report"]["clean"] == false && job["report"]["dry_run"] != true => {
            Exit::Failed
        }
        Some("done") if parked(&job["report"]) > 0 => Exit::Reservations,
        Some("done" | "paused") => Exit::Done,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_whether_all_is_well() {
        let job = |state: &str, report: Value| json!({ "state": state, "report": report });
        let table = [
            (job("done", json!({ "clean": true })), Exit::Done),
            (job("done", json!({ "clean": false })), Exit::Failed),
            (
                job("done", json!({ "clean": false, "dry_run": true })),
                Exit::Done,
            ),
            (job("done", json!({ "rows": 3 })), Exit::Done),
            (job("done", json!({ "parked": 0 })), Exit::Done),
            (job("done", json!({ "parked": 3 })), Exit::Reservations),
            (job("failed", json!({ "parked": 3 })), Exit::Failed),
            (job("paused", Value::Null), Exit::Done),
            (job("failed", Value::Null), Exit::Failed),
            (job("cancelled", Value::Null), Exit::Failed),
        ];
        for (job, code) in table {
            assert_eq!(exit(&job), code, "{job}");
        }
    }

    #[test]
    fn law_3_a_summary_says_where_parked_rows_are() {
        let job = |parked: u64| {
            let report = json!({
                "source": "shop", "written": 2, "parked": parked, "parked_in": "oms.import_parked",
            });
            describe("backfill", &json!({ "state": "done", "report": report }))
        };
        let text = job(3);
        assert!(
            text.contains("3 rows are PARKED") && text.contains("oms.import_parked"),
            "{text}"
        );
        assert!(
            text.contains("'shop'") && !job(0).contains("PARKED"),
            "{text}"
        );
    }

    #[test]
    fn a_report_is_shown_with_what_diverges() {
        let report = json!({
            "clean": false, "rate": 10.0, "seconds": 2.0, "events": 20, "objects": 4,
            "divergences_total": 1, "divergent_streams": 1,
            "partitions": [{ "partition": 0, "digest": "0123456789abcdef0123" }],
            "divergences": [{ "partition": 0, "offset": 7, "kind": "differs", "right": "s3" }],
        });
        let text = describe("verify", &json!({ "state": "done", "report": report }));
        assert!(
            text.contains("DIVERGENT") && text.contains("differs"),
            "{text}"
        );
        assert!(
            text.contains("0123456789abcdef") && !text.contains("abcdef0123"),
            "{text}"
        );
    }

    #[test]
    fn a_repair_says_what_an_order_must_name() {
        let report = json!({
            "clean": false, "needs_order": 1,
            "results": [{ "partition": 0, "offset": 5, "needed": "0/5:1f0c8a5e9b7d4e2a" }],
        });
        let job = json!({ "state": "done", "report": report });
        let text = describe("repair", &job);
        assert!(
            text.contains("--replace-in-leader 0/5:1f0c8a5e9b7d4e2a"),
            "{text}"
        );
        assert_eq!(exit(&job), Exit::Failed);
    }
}
