use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::domain::event::Envelope;
use crate::import::encoder::Encoder;
use crate::import::row::{Content, Cursor};
use crate::import::spec::Columns;

fn spec() -> SourceSpec {
    SourceSpec {
        name: "shop".into(),
        table: "public.events".into(),
        columns: Columns::default(),
        join: None,
        filter: None,
        version_base: 0,
        default_stream_type: None,
        stream_type_prefix: String::new(),
        stream_types: BTreeMap::new(),
        time_pointer: None,
        binary: BinaryPolicy::Wrap,
        lag: Duration::ZERO,
    }
}

fn row() -> ForeignRow {
    ForeignRow {
        cursor: Cursor::Position(812),
        position: Some(812),
        stream_name: None,
        stream_type: Some("BankAccount".into()),
        stream_id: Some("a/1".into()),
        version: Some(0),
        event_id: Some("not-a-uuid".into()),
        event_type: Some("App\\Opened".into()),
        schema_version: Some("2.0".into()),
        data: Content::Text(r#"{ "n": 1.50 }"#.into()),
        metadata: Content::Text(r#"{"by": "ann"}"#.into()),
        time: Some(RowTime::Micros(1_767_323_045_678_901)),
    }
}

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn map(row: ForeignRow) -> Result<ImportedEvent, Box<Rejected>> {
    Mapping::new(&spec()).map(row, now())
}

fn about(event: &ImportedEvent) -> Value {
    serde_json::from_str(event.event.metadata.as_ref().unwrap().get()).unwrap()
}

#[test]
fn whatever_cannot_be_kept_as_it_was_is_told_in_the_metadata() {
    let event = map(row()).unwrap();
    assert_eq!(event.stream.as_str(), "bank_account/~a~2F1");
    assert_eq!(event.version, Version(1));
    assert_eq!(event.event.event_type.as_str(), "App_Opened");
    assert_eq!(event.event.schema_version, 2);
    assert_eq!(event.time.to_string(), "2026-01-02T03:04:05.678901Z");
    assert_eq!(event.event.data.get(), r#"{ "n": 1.50 }"#, "as given");
    let expected = json!({
        "import": {
            "source": "shop", "position": 812, "stream_type": "BankAccount", "stream_id": "a/1",
            "version": 0, "id": "not-a-uuid", "type": "App\\Opened",
        },
        "metadata": {"by": "ann"},
    });
    assert_eq!(about(&event), expected);
    assert_eq!(
        map(row()).unwrap().id,
        event.id,
        "derived the same way again"
    );
}

#[test]
fn an_event_with_names_like_ours_is_kept_whole() {
    let id = "a0000000-0000-4000-8000-000000000001";
    let mut plain = spec();
    plain.version_base = 1;
    let event = ForeignRow {
        stream_type: Some("order".into()),
        stream_id: Some("1".into()),
        version: Some(1),
        event_id: Some(id.into()),
        event_type: Some("Placed".into()),
        schema_version: None,
        metadata: Content::Null,
        ..row()
    };
    let event = Mapping::new(&plain).map(event, now()).unwrap();
    assert_eq!(event.id.to_string(), id);
    assert_eq!(
        about(&event),
        json!({"import": {"source": "shop", "position": 812}})
    );
}

#[test]
fn a_category_and_an_id_are_taken_apart() {
    let named = |name: &str| ForeignRow {
        stream_name: Some(name.into()),
        ..row()
    };
    let stream = |name| map(named(name)).unwrap().stream.as_str().to_owned();
    assert_eq!(stream("account-1-2"), "account/1-2");
    assert_eq!(stream("account:command-1"), "account_command/1");
    assert_eq!(stream("settings"), "settings/~");
    assert_eq!(stream("settings-~"), "settings/~~7E", "no other stream");
    let empty = map(named("account-")).unwrap_err();
    assert_eq!(empty.reason, ParkReason::BadStream);
}

#[test]
fn a_missing_or_impossible_time_is_told() {
    let untimed = map(ForeignRow {
        time: None,
        ..row()
    })
    .unwrap();
    assert_eq!(untimed.time, now());
    assert_eq!(about(&untimed)["import"]["time"], Value::Null);
    let odd = Some(RowTime::Text("yesterday".into()));
    let odd = map(ForeignRow { time: odd, ..row() }).unwrap();
    assert_eq!(about(&odd)["import"]["time"], "yesterday");
    let mut pointed = spec();
    pointed.time_pointer = Some("/timestamp/_data_".into());
    let data = r#"{"timestamp":{"_data_":"2026-11-24T16:36:23.330945+00:00"}}"#;
    let inside = ForeignRow {
        time: None,
        data: Content::Bytes(data.into()),
        ..row()
    };
    let inside = Mapping::new(&pointed).map(inside, now()).unwrap();
    assert_eq!(inside.time.to_string(), "2026-11-24T16:36:23.330945Z");
}

#[test]
fn law_3_rows_that_cannot_be_events_say_why() {
    let reason = |row: ForeignRow| {
        let rejected = map(row).unwrap_err();
        assert!(!rejected.detail.is_empty());
        (rejected.reason, rejected.stream.is_some())
    };
    let typed = |t: &str| ForeignRow {
        stream_type: Some(t.into()),
        ..row()
    };
    assert_eq!(reason(typed("Database")), (ParkReason::ReservedType, false));
    assert_eq!(reason(typed("")), (ParkReason::BadStream, false));
    let id = |id: Option<String>| ForeignRow {
        stream_id: id,
        ..row()
    };
    assert_eq!(reason(id(None)), (ParkReason::BadStream, false));
    assert_eq!(
        reason(id(Some("x".repeat(300)))),
        (ParkReason::BadStream, false)
    );
    for version in [None, Some(-1), Some(i64::MIN)] {
        let row = ForeignRow { version, ..row() };
        assert_eq!(reason(row), (ParkReason::BadVersion, true));
    }
    let event_type = None;
    assert_eq!(
        reason(ForeignRow {
            event_type,
            ..row()
        }),
        (ParkReason::BadType, true)
    );
    let data = Content::Text("nonsense".into());
    assert_eq!(
        reason(ForeignRow { data, ..row() }),
        (ParkReason::BadData, true)
    );
    let data = Content::Bytes(vec![0x1f, 0x8b, 0]);
    assert_eq!(
        reason(ForeignRow { data, ..row() }),
        (ParkReason::OpaqueData, true)
    );
    let long = format!("\"{}\"", "x".repeat(MAX_EVENT_BYTES));
    let data = Content::Text(long);
    assert_eq!(
        reason(ForeignRow { data, ..row() }),
        (ParkReason::TooLarge, true)
    );
}

#[test]
fn a_prefix_or_a_name_keeps_types_out_of_the_ontology() {
    let mut prefixed = spec();
    prefixed.stream_type_prefix = "old_".into();
    prefixed
        .stream_types
        .insert("Klass".into(), "course".into());
    let mut mapping = Mapping::new(&prefixed);
    let mut stream = |t: &str| {
        let row = ForeignRow {
            stream_type: Some(t.into()),
            ..row()
        };
        mapping
            .map(row, now())
            .unwrap()
            .stream
            .stream_type()
            .to_owned()
    };
    assert_eq!(stream("Class"), "old_class");
    assert_eq!(stream("Klass"), "course");
}

#[test]
fn law_8_a_run_is_encoded_as_the_service_would() {
    let mut mapping = Mapping::new(&spec());
    let events: Vec<ImportedEvent> = (0..3)
        .map(|version| {
            let row = ForeignRow {
                version: Some(version),
                event_id: None,
                ..row()
            };
            mapping.map(row, now()).unwrap()
        })
        .collect();
    let encoder = Encoder::new(&spec());
    let (command, encoded) = encoder.encode(events.iter()).unwrap();
    assert_eq!(encoded.spans.len(), 3);
    for (i, event) in events.iter().enumerate() {
        let bytes = encoded.event(i);
        let envelope = Envelope::parse(&bytes).unwrap();
        assert_eq!(envelope.version, Version(i as u64 + 1));
        assert_eq!(envelope.id, event.id);
        assert_eq!(envelope.command_id, command);
        assert_eq!(envelope.actor, "import:shop");
        assert_eq!(envelope.time, event.time);
        assert_eq!(envelope.stream(), event.stream);
    }
    assert_eq!(encoded.bytes.iter().filter(|b| **b == b'\n').count(), 3);
    let (again, _) = encoder.encode(events[..1].iter()).unwrap();
    assert_eq!(again, command, "the first version decides");
    let (later, _) = encoder.encode(events[1..].iter()).unwrap();
    assert_ne!(later, command);
}
