//! One trace from a request to the read model, as a collector gets it, and what becomes of requests
//! when there is none to get it.

use oms_testkit::broker::{Broker, Consumed};
use oms_testkit::collector::{Collector, Span, attribute};
use oms_testkit::service::{PATIENCE, Service};
use serde_json::{Value, json};

use super::TOPICS;
use crate::OMS;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A name of a principal's, an idempotency key, an id and a text that no span may say.
const SECRETS: [&str; 3] = ["my-very-own-key", "stream-of-ann", "said by ann"];

/// Appends an event as part of the caller's trace, if `sampled`.
async fn append(service: &Service, sampled: bool) -> reqwest::Response {
    let flags = if sampled { "01" } else { "00" };
    let path = "/api/v1/streams/note/stream-of-ann/events";
    let request = service.http.post(service.at(path));
    let request = request
        .header("traceparent", format!("00-{TRACE}-{CALLER}-{flags}"))
        .header("idempotency-key", format!("my-very-own-key-{sampled}"))
        .json(&json!({"events": [{"type": "Noted", "data": {"text": "said by ann"}}]}));
    let answer = request.send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    answer
}

/// All that it has logged.
fn log_of(service: &Service) -> String {
    std::fs::read_to_string(service.data_dir().join("service.log")).expect("a log")
}

fn id(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// The span of this name; the last one, where a store was slow and something was done again.
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = spans.iter().filter(|s| s.name == name);
    let last = found.max_by_key(|s| s.end_time_unix_nano);
    last.unwrap_or_else(|| panic!("no {name} in {:?}", names(spans)))
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

const HTTP: &str = "POST /api/v1/streams/{type}/{id}/events";

/// Each span of a command, and the one that it is part of.
const STORY: [(&str, &str); 7] = [
    ("command stream", HTTP),
    ("append", "command stream"),
    ("S3 PutObject", "append"),
    ("PostgreSQL outbox", "command stream"),
    ("send oms.stream", "command stream"),
    ("project", "command stream"),
    ("PostgreSQL read model", "project"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_goes_from_the_request_through_all_stores_to_the_read_model() {
    let collector = Collector::start().await;
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let env = [
        ("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OMS__TELEMETRY__TRACES_RATIO", "0"),
        ("OMS__TELEMETRY__LOG_LEVEL", "info,oms::http=debug"),
    ];
    let service = Service::start(OMS, &env, &[]).await;
    let answer = append(&service, true).await;
    let spans = collector
        .trace(TRACE, |spans| {
            let told = names(spans);
            told.contains(&HTTP) && STORY.iter().all(|(name, _)| told.contains(name))
        })
        .await;
    // Every span, each within the right one.
    let http = named(&spans, HTTP);
    assert_eq!(id(&http.parent_span_id), CALLER);
    assert_eq!(
        attribute(http, "http.request.method").as_deref(),
        Some("POST")
    );
    let status = answer.status().as_u16().to_string();
    assert_eq!(attribute(http, "http.response.status_code"), Some(status));
    for (name, parent) in STORY {
        let span = named(&spans, name);
        let mut parents = spans.iter().filter(|s| s.name == parent);
        assert!(
            parents.any(|parent| parent.span_id == span.parent_span_id),
            "{name} is part of {parent}"
        );
        assert!(
            span.end_time_unix_nano >= span.start_time_unix_nano,
            "{name}"
        );
        assert!(
            span.start_time_unix_nano >= http.start_time_unix_nano,
            "{name}"
        );
    }
    let known = |name: &&str| *name == HTTP || STORY.iter().any(|(known, _)| known == name);
    assert!(names(&spans).iter().all(known), "{:?}", names(&spans));
    assert_eq!(collector.resource("service.name").as_deref(), Some("oms"));
    // The answer says where to look.
    let said = answer.headers()["traceresponse"].to_str().expect("text");
    assert_eq!(said, format!("00-{TRACE}-{}-01", id(&http.span_id)));
    // So does the event, which names its command, and its message, which names its own sending.
    let command = format!(
        "00-{TRACE}-{}-01",
        id(&named(&spans, "command stream").span_id)
    );
    let sends = spans.iter().filter(|s| s.name == "send oms.stream");
    let sent: Vec<String> = sends
        .map(|send| format!("00-{TRACE}-{}-01", id(&send.span_id)))
        .collect();
    // A real broker has the messages of other tests too.
    let ours = |message: &Consumed| message.headers.get("ce_traceparent") == Some(&command);
    let consumed = broker.consume(&TOPICS, PATIENCE, |all| all.iter().any(ours));
    let message = consumed.iter().find(|m| ours(m)).expect("it came");
    assert!(sent.contains(&message.headers["traceparent"]), "{sent:?}");
    let event: Value = serde_json::from_slice(&message.value).expect("JSON");
    assert_eq!(event["traceparent"], command.as_str());
    // And the log.
    let log = log_of(&service);
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours: Vec<Value> = lines.filter(|line| line["trace_id"] == TRACE).collect();
    assert!(
        ours.iter()
            .any(|line| line["route"].is_string() || line["method"] == "POST"),
        "{ours:?}"
    );
    // A trace is not the place for what people wrote.
    let all = format!("{:?}", collector.spans());
    for secret in SECRETS {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_sampled_leaves_no_mark() {
    let collector = Collector::start().await;
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OMS__TELEMETRY__TRACES_RATIO", "1"),
    ];
    let service = Service::start(OMS, &env, &[]).await;
    let answer = append(&service, false).await;
    assert!(!answer.headers().contains_key("traceresponse"));
    let feed = service.whole_feed().await;
    assert!(feed[0].get("traceparent").is_none(), "{}", feed[0]);
    // The read of the feed, of which nobody has decided anything, is recorded: had the append been, it
    // would have come before.
    let is_feed = |span: &Span| span.name == "GET /api/v1/events";
    oms_testkit::eventually("the feed's span", || {
        let spans = collector.spans();
        async move { spans.iter().any(is_feed).then_some(()) }
    })
    .await;
    let ours = |span: &Span| id(&span.trace_id) == TRACE;
    assert!(!collector.spans().iter().any(ours));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_a_collector_that_is_away_holds_up_nothing_and_what_is_lost_is_counted() {
    // A port that nobody listens on.
    let away = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let env = [("OMS__TELEMETRY__OTLP_ENDPOINT", away.as_str())];
    let mut service = Service::start(OMS, &env, &[]).await;
    for _ in 0..20 {
        let body = json!({"events": [{"type": "Noted", "data": {}}]});
        let path = "/api/v1/streams/note/1/events";
        let (status, answer) = service.send("POST", path, Some(body)).await;
        assert!(status < 300, "{answer}");
    }
    let lost = r#"oms_trace_spans_dropped_total{reason="unreachable"}"#;
    let count = async || {
        let answer = service.http.get(service.at("/metrics")).send().await;
        let metrics = answer.expect("an answer").text().await.expect("text");
        let line = metrics.lines().find(|line| line.starts_with(lost));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    service
        .until("spans that were dropped", async || {
            count().await.filter(|n| *n >= 60.0)
        })
        .await;
    let log = log_of(&service);
    let told = log.matches("the collector does not take traces").count();
    assert_eq!(told, 1, "{log}");
    assert_eq!(service.whole_feed().await.len(), 20);
    assert_eq!(service.terminate().await, 0, "{}", service.log_tail());
}
