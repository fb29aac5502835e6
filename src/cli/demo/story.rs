//! The steps of the demo, in order.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::child::Service;
use super::data::{self, DataSet};
use super::facts::{self, LogFacts};
use super::infer;
use super::listener::{Listener, Received};
use super::load::{self, Loaded};
use super::plan::Plan;
use super::report::Report;
use super::road;
use crate::cli::log::bucket::Bucket;
use crate::cli::output::{Output, field, table};
use crate::cli::progress::Progress;
use crate::cli::remote::{Api, ApiError, component};
use crate::clock::new_uuid;
use crate::config::endpoints::s3_settings;
use crate::domain::ids::{EventId, Offset, PartitionId};

/// How long the copies may take to catch up with the log on a busy machine.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(120);
/// Pause between two checks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Timeout of one request to the bucket.
const S3_TIMEOUT: Duration = Duration::from_secs(10);
/// Prefix of the topics' names: the service's default.
const TOPIC_PREFIX: &str = "oms";

/// Runs the demo in `dir`. An error means that it could not be completed; differences are in the
/// report.
pub async fn tell(dir: &Path, records: Option<usize>, output: Output) -> anyhow::Result<Report> {
    let sets = data::load(records)?;
    let run = new_uuid().simple().to_string();
    let db = format!("demo_{}", &run[run.len() - 8..]);
    let plan = Plan::new(&sets, &run);
    let mut report = Report {
        records: sets.iter().map(|s| s.records.len()).sum(),
        ..Report::default()
    };

    output.note("starting the service on the embedded stack");
    let service = Service::start(dir).await?;
    let first = listen(&service, &db, "first")?;
    let classes = sets.iter().map(infer::class);
    let classes: Vec<Value> = classes.collect::<anyhow::Result<_>>()?;
    let description = "U.S. Geological Survey and U.S. FAA, public domain";
    load::prepare(&service.api, &db, description, &classes).await?;
    output.note(&describe_classes(&classes));

    let (service, loaded, received, heads) =
        load_through_a_kill(service, first, &db, &plan, &mut report, output).await?;
    let second = listen(&service, &db, "second")?;
    let api = &service.api;
    refuse_nonsense(api, &db, &sets, &mut report).await?;

    output.note("comparing");
    report.sent_again = loaded.sent_again.get();
    report.replayed = loaded.replayed.get();
    let operations = plan.operations();
    report.equal(
        "operations acknowledged",
        operations,
        loaded.acknowledged.get(),
    );
    check_road(&mut report);
    let bucket = bucket(&service).await?;
    let log = LogFacts::read(&bucket, &db).await?;
    check_log(&log, 1 + classes.len() + operations, &plan, &mut report);
    caught_up(api).await?;
    check_read_model(api, &db, &sets, &log, &mut report).await?;
    check_queries(api, &db, &plan, &mut report, output).await?;
    check_feed(api, &db, &log, &mut report).await?;
    check_kafka(&received, second, &log, &heads, &mut report).await?;
    service.stop().await?;
    Ok(report)
}

fn listen(service: &Service, db: &str, which: &str) -> anyhow::Result<Listener> {
    let bootstrap = service.endpoints.kafka.as_deref();
    let bootstrap = bootstrap.context("the service names no Kafka broker")?;
    Listener::start(bootstrap, TOPIC_PREFIX, &format!("oms-{db}-{which}"), db)
}

async fn bucket(service: &Service) -> anyhow::Result<Bucket> {
    let s3 = service.endpoints.s3.as_ref();
    let s3 = s3.context("the service names no embedded bucket")?;
    Bucket::connect(&s3_settings(s3, S3_TIMEOUT)).await
}

/// Where each partition's log ended when the service came back.
type Heads = Vec<(PartitionId, Offset)>;

/// Loads everything; half-way the process is killed, and it is restarted while loading goes on.
async fn load_through_a_kill(
    mut service: Service,
    first: Listener,
    db: &str,
    plan: &Plan,
    report: &mut Report,
    output: Output,
) -> anyhow::Result<(Service, Loaded, Received, Heads)> {
    let (moved, current) = watch::channel(service.api.clone());
    let loaded = Loaded::default();
    let progress = RefCell::new(Progress::new(output, "loading", plan.operations() as u64));
    let half = report.records / 2;
    let begun = Instant::now();
    let crash = async {
        while loaded.acknowledged.get() < half {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        report.killed_after = loaded.acknowledged.get();
        let killed = Instant::now();
        service.kill_and_restart().await?;
        report.restart_ms = killed.elapsed().as_millis();
        // What the first broker had delivered before it died with its process.
        let received = first.received();
        tokio::task::spawn_blocking(move || drop(first)).await?;
        let heads = heads_of(&service.api).await?;
        moved.send_replace(service.api.clone());
        anyhow::Ok((received, heads))
    };
    let walking = async {
        // Loads some history first, so that there is something to migrate.
        while loaded.acknowledged.get() < half / 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        road::walk(&current, output).await
    };
    let sending = async {
        load::send(&current, db, &plan.load, &loaded, &progress).await?;
        load::send(&current, db, &plan.change, &loaded, &progress).await
    };
    let ((received, heads), (), road) = tokio::try_join!(crash, sending, walking)?;
    report.road = road;
    report.load_seconds = begun.elapsed().as_secs_f64();
    progress.into_inner().finish();
    output.note(&format!(
        "killed with SIGKILL after {} records, ready again {} ms later; {} requests sent again, {} of them answered from the record",
        report.killed_after,
        report.restart_ms,
        loaded.sent_again.get(),
        loaded.replayed.get(),
    ));
    Ok((service, loaded, received, heads))
}

/// The end of each partition's log, whichever store leads.
async fn heads_of(api: &Api) -> anyhow::Result<Heads> {
    let report = api.get("/api/v1/admin/migration").await?;
    let partitions = report["partitions"].as_array().context("no partitions")?;
    let head = |p: &Value| {
        let id = p["partition"].as_u64().and_then(|id| id.try_into().ok());
        Some((PartitionId(id?), p["next_offset"].as_u64()?))
    };
    partitions
        .iter()
        .map(|p| head(p).context("no end of the log"))
        .collect()
}

/// Checks that every step was walked and that the verification found the stores equal.
fn check_road(report: &mut Report) {
    let steps = report.road.steps.len();
    let done = report.road.steps.iter().filter(|s| s.state == "done");
    let (done, divergences) = (done.count(), report.road.divergences);
    report.equal("steps of the road walked", steps, done);
    report.equal("divergences between the stores", 0, divergences);
    let pauses = report.road.steps.iter().filter_map(|s| s.pause_ms);
    let longest = pauses.fold(0.0, f64::max);
    report.remarks.push(format!(
        "The lead moved from PostgreSQL to S3, back, and to S3 again while the records were loaded; \
         writes of a partition waited {longest:.0} ms at most."
    ));
}

/// Checks that a record that contradicts its class is refused with a reason.
async fn refuse_nonsense(
    api: &Api,
    db: &str,
    sets: &[DataSet],
    report: &mut Report,
) -> anyhow::Result<()> {
    let set = sets.first().context("no data")?;
    let mut nonsense = set.records.first().context("no records")?.data.clone();
    nonsense.insert("mag".to_owned(), json!("strong"));
    let path = format!("{}/instances", class_path(db, set.class));
    let body = json!({ "id": "nonsense", "data": nonsense });
    let answer = match api.post(&path, &body).await {
        Ok(_) => "accepted".to_owned(),
        Err(ApiError::Refused { code, .. }) => code,
        Err(other) => return Err(other.into()),
    };
    let what = "a magnitude of \"strong\"";
    report.equal(what, "validation_failed".to_owned(), answer);
    Ok(())
}

fn class_path(db: &str, class: &str) -> String {
    format!(
        "/api/v1/databases/{}/classes/{}",
        component(db),
        component(class)
    )
}

fn check_log(log: &LogFacts, events: usize, plan: &Plan, report: &mut Report) {
    report.equal("broken links in the log in S3", 0, log.broken.len());
    report.remarks.extend(log.broken.iter().cloned());
    report.equal("events in S3", events, log.events.len());
    report.equal("events in S3 twice", 0, log.repeated);
    let (differ, some) = facts::differences(&plan.expected, &log.state);
    report.equal("instances in S3 that are not as sent", 0, differ);
    report.remarks.extend(some);
    report.remarks.push(format!(
        "The log has {} events in {} commit objects: {:.1} events per PUT.",
        log.events.len(),
        log.objects,
        log.events.len() as f64 / log.objects.max(1) as f64,
    ));
}

/// Waits until the read model has applied the whole log.
async fn caught_up(api: &Api) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let answer = api.get("/api/v1/admin/projections").await?;
        let items = answer.get("items").unwrap_or(&answer);
        let items = items.as_array().context("no list of projections")?;
        let lag = items.iter().filter_map(|p| p["lag_commits"].as_u64());
        if lag.sum::<u64>() == 0 {
            return Ok(());
        }
        anyhow::ensure!(
            begun.elapsed() < CATCH_UP_WITHIN,
            "the read model does not catch up: {answer}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn check_read_model(
    api: &Api,
    db: &str,
    sets: &[DataSet],
    log: &LogFacts,
    report: &mut Report,
) -> anyhow::Result<()> {
    let classes: Vec<&str> = sets.iter().map(|s| s.class).collect();
    let read_model = facts::read_model(api, db, &classes).await?;
    report.equal(
        "instances in the read model",
        log.state.len(),
        read_model.len(),
    );
    let (differ, some) = facts::differences(&log.state, &read_model);
    report.equal("of those not as in S3", 0, differ);
    report.remarks.extend(some);
    Ok(())
}

/// Compares two queries with the same answers computed from the data.
async fn check_queries(
    api: &Api,
    db: &str,
    plan: &Plan,
    report: &mut Report,
    output: Output,
) -> anyhow::Result<()> {
    let strong = json!({
        "filters": [{ "field": "mag", "op": "gte", "value": 4.5 }],
        "sort": ["-mag"], "select": ["mag", "place", "time"], "limit": 3,
    });
    let path = format!("{}/instances/query", class_path(db, "Earthquake"));
    let page = api.post(&path, &strong).await?;
    let count = |class: &str, holds: &dyn Fn(&Value) -> bool, field: &str| {
        let of_class = plan.expected.iter().filter(|((c, _), _)| c == class);
        let values = of_class.filter_map(|(_, data)| data.get(field));
        values.filter(|value| holds(value)).count() as u64
    };
    let expected = count("Earthquake", &|v| v.as_f64() >= Some(4.5), "mag");
    report.equal("earthquakes of 4.5 or more", expected, total(&page));
    let items = page["items"].as_array();
    let columns = ["mag", "time", "place"];
    let rows = items
        .into_iter()
        .flatten()
        .map(|item| columns.map(|c| field(&item["data"], c)));
    output.note(&format!(
        "\nthe strongest earthquakes\n{}",
        table(columns, rows)
    ));

    let large = json!({
        "filters": [
            { "field": "wildlife_size", "op": "eq", "value": "Large" },
            { "field": "species", "op": "contains", "value": "deer" },
        ],
        "limit": 1,
    });
    let path = format!("{}/instances/query", class_path(db, "WildlifeStrike"));
    let page = api.post(&path, &large).await?;
    let expected = plan.expected.iter().filter(|(_, data)| {
        let text = |field: &str| data.get(field).and_then(Value::as_str).unwrap_or_default();
        text("wildlife_size") == "Large" && text("species").contains("deer")
    });
    report.equal(
        "aircraft that hit a large deer",
        expected.count() as u64,
        total(&page),
    );
    Ok(())
}

fn total(page: &Value) -> u64 {
    page["total"].as_u64().unwrap_or_default()
}

async fn check_feed(
    api: &Api,
    db: &str,
    log: &LogFacts,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (feed, repeated) = facts::feed(api, db).await?;
    let missing = log.events.keys().filter(|id| !feed.contains(id)).count();
    report.equal("events in the feed", log.events.len(), feed.len());
    report.equal("missing in the feed, or there twice", 0, missing + repeated);
    Ok(())
}

/// The in-process broker died and lost its messages: every commit after the restart must be in the
/// new one; for those before it, both brokers together tell what they can.
async fn check_kafka(
    before: &Received,
    listener: Listener,
    log: &LogFacts,
    heads: &Heads,
    report: &mut Report,
) -> anyhow::Result<()> {
    let is_late = |partition: PartitionId, offset: Offset| {
        let head = heads.iter().find(|(p, _)| *p == partition);
        head.is_none_or(|(_, head)| offset >= *head)
    };
    let late: HashSet<EventId> = log
        .events
        .iter()
        .filter(|(_, (partition, offset, _))| is_late(*partition, *offset))
        .map(|(id, _)| *id)
        .collect();
    let begun = Instant::now();
    while listener.count(late.iter().copied()) < late.len() && begun.elapsed() < CATCH_UP_WITHIN {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let after = listener.received();
    tokio::task::spawn_blocking(move || drop(listener)).await?;
    let heard_late = late
        .iter()
        .filter(|id| after.events.contains_key(id))
        .count();
    report.equal("events since the restart in Kafka", late.len(), heard_late);
    let mut other_bytes = 0;
    let mut unknown = 0;
    for (id, hash) in before.events.iter().chain(&after.events) {
        match log.events.get(id) {
            Some((_, _, in_log)) => other_bytes += usize::from(in_log != hash),
            None => unknown += 1,
        }
    }
    report.equal("messages whose bytes are not those in S3", 0, other_bytes);
    let unreadable = before.unreadable + after.unreadable;
    report.equal("messages of no event that S3 has", 0, unknown + unreadable);
    let out_of_order = before.out_of_order + after.out_of_order;
    report.equal("messages out of their stream's order", 0, out_of_order);
    let early = log.events.len() - late.len();
    let heard_early = log
        .events
        .keys()
        .filter(|id| !late.contains(id))
        .filter(|id| before.events.contains_key(id) || after.events.contains_key(id))
        .count();
    report.remarks.push(format!(
        "Kafka: {heard_early} of the {early} events committed before the kill were received ({} messages in all). \
         The broker inside the process forgets when it dies: what it had acknowledged and our consumer \
         had not read by then is in S3 and in the feed, but in no broker any more. A real broker keeps it.",
        before.messages + after.messages,
    ));
    Ok(())
}

fn describe_classes(classes: &[Value]) -> String {
    let mut text = String::from("classes made from the records\n");
    for class in classes {
        let properties = class["properties"].as_array();
        let rows = properties.into_iter().flatten().map(|p| {
            let required = if p["required"] == true {
                "required"
            } else {
                ""
            };
            let constraints = match p.get("constraints") {
                Some(constraints) => constraints.to_string(),
                None => String::new(),
            };
            [
                field(class, "id"),
                field(p, "name"),
                field(p, "type"),
                required.to_owned(),
                constraints,
            ]
        });
        text.push_str(&table(
            ["class", "property", "type", "", "constraints"],
            rows,
        ));
    }
    text
}
