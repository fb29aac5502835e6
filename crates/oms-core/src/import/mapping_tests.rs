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
        columns: Columns {
            version: Some("version".into()),
            ..Columns::default()
        },
        version_base: 0,
        binary: BinaryPolicy::Wrap,
        ..SourceSpec::default()
    }
}

fn row() -> ForeignRow {
    ForeignRow {
        position: Some(812),
        stream_type: Some("BankAccount".into()),
        stream_id: Some("a/1".into()),
        version: Some(0),
        event_id: Some("not-a-uuid".into()),
        event_type: Some("App\\Opened".into()),
        schema_version: Some("2.0".into()),
        data: Content::Text(r#"{ "n": 1.50 }"#.into()),
        metadata: Content::Text(r#"{"by": "ann"}"#.into()),
        time: Some(RowTime::Micros(1_767_323_045_678_901)),
        ..ForeignRow::at(Cursor::Position(812))
    }
}

fn mapping(spec: &SourceSpec) -> Mapping {
    Mapping::new(spec, BTreeMap::new())
}

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn map(row: ForeignRow) -> Result<ImportedEvent, Box<Rejected>> {
    mapping(&spec()).map(row, now())
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
    let event = mapping(&plain).map(event, now()).unwrap();
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
fn law_2_a_missing_time_is_told_and_an_impossible_one_is_no_time_of_ours() {
    let untimed = map(ForeignRow {
        time: None,
        ..row()
    })
    .unwrap();
    assert_eq!(untimed.time, now());
    assert_eq!(about(&untimed)["import"]["time"], Value::Null);
    let impossible = [
        RowTime::Text("yesterday".into()),
        RowTime::Text("".into()),
        RowTime::Text("2026-01-02 03:04:05".into()),
        RowTime::Text("2026-01-02".into()),
        RowTime::Text("1740822000123".into()),
        RowTime::Micros(i64::MAX),
        RowTime::Micros(i64::MIN),
        RowTime::Micros(-62_167_219_200_000_001),
    ];
    for time in impossible {
        let time = Some(time);
        let rejected = map(ForeignRow { time, ..row() }).unwrap_err();
        assert_eq!(rejected.reason, ParkReason::BadTime, "{}", rejected.detail);
        assert!(rejected.stream.is_some());
    }
    let time = Some(RowTime::Text("2026-01-02 05:04:05.5+02:00".into()));
    let offset = map(ForeignRow { time, ..row() }).unwrap();
    assert_eq!(offset.time.to_string(), "2026-01-02T03:04:05.5Z");
    let mut pointed = spec();
    pointed.time_pointer = Some("/timestamp/_data_".into());
    let data = r#"{"timestamp":{"_data_":"2026-11-24T16:36:23.330945+00:00"}}"#;
    let inside = ForeignRow {
        time: None,
        data: Content::Bytes(data.into()),
        ..row()
    };
    let inside = mapping(&pointed).map(inside, now()).unwrap();
    assert_eq!(inside.time.to_string(), "2026-11-24T16:36:23.330945Z");
    let number = ForeignRow {
        time: None,
        data: Content::Text(r#"{"timestamp":{"_data_":1740822000123}}"#.into()),
        ..row()
    };
    let number = mapping(&pointed).map(number, now()).unwrap_err();
    assert_eq!(number.reason, ParkReason::BadTime);
}

#[test]
fn an_empty_id_is_none_and_no_id_of_many() {
    let without = |event_id: Option<&str>, version| {
        let row = ForeignRow {
            event_id: event_id.map(str::to_owned),
            version: Some(version),
            ..row()
        };
        map(row).unwrap().id
    };
    assert_eq!(without(Some(""), 1), without(None, 1));
    assert_ne!(without(Some(""), 1), without(Some(""), 2));
}

#[test]
fn law_2_types_of_other_scripts_stay_apart() {
    let mut mapping = mapping(&spec());
    let mut of = |stream_type: &str, event_type: &str| {
        let row = ForeignRow {
            stream_type: Some(stream_type.into()),
            event_type: Some(event_type.into()),
            ..row()
        };
        let event = mapping.map(row, now()).unwrap();
        (event.stream.as_str().to_owned(), event.event.event_type)
    };
    let (order, created) = of("заказ", "订单已创建");
    let (same, cancelled) = of("заказ", "订单已取消");
    let (goods, _) = of("товар", "订单已创建");
    assert_eq!(order, same);
    assert_ne!(order, goods);
    assert_ne!(created, cancelled);
    assert_ne!(of("Order", "a b").0, of("order", "a b").0);
    assert_ne!(of("Order", "a b").1, of("order", "a_b").1);
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
    let data = Content::Text(r#"{"a":"\u0000"}"#.into());
    assert_eq!(
        reason(ForeignRow { data, ..row() }),
        (ParkReason::BadData, true)
    );
    let odd_version = Some("1.5".to_owned());
    let row_of = ForeignRow {
        version: None,
        odd_version,
        ..row()
    };
    assert_eq!(reason(row_of), (ParkReason::BadVersion, true));
    let unreadable = ForeignRow {
        unreadable: Some("division by zero".into()),
        ..ForeignRow::at(Cursor::Position(3))
    };
    assert_eq!(reason(unreadable), (ParkReason::Unreadable, false));
    let unreadable = ForeignRow {
        unreadable: Some("division by zero".into()),
        ..row()
    };
    assert_eq!(reason(unreadable), (ParkReason::Unreadable, true));
}

#[test]
fn law_13_an_event_is_no_larger_than_configured_with_its_envelope() {
    let max = 10_000;
    let spec = SourceSpec {
        max_event_bytes: max,
        decompress: true,
        ..spec()
    };
    let mut mapping = mapping(&spec);
    let mut size_of = |data: String, metadata: String| {
        let row = ForeignRow {
            data: Content::Text(data),
            metadata: Content::Text(metadata),
            ..row()
        };
        let event = mapping.map(row, now())?;
        let (_, encoded) = Encoder::new(&spec).encode([&event].into_iter()).unwrap();
        Ok::<_, Box<Rejected>>(encoded.bytes.len())
    };
    let text = |n: usize| format!("\"{}\"", "x".repeat(n));
    assert!(size_of(text(9_000), "{}".into()).unwrap() <= max);
    // What is written as an escape in the envelope weighs as that.
    let quotes = format!("[{}]", ["\"\""; 2_500].join(","));
    for (data, metadata) in [
        (text(10_000), "{}".to_owned()),
        ("{}".to_owned(), text(10_000)),
        (text(5_000), text(5_000)),
        ("{}".to_owned(), quotes),
    ] {
        let rejected = size_of(data, metadata).unwrap_err();
        assert_eq!(rejected.reason, ParkReason::TooLarge, "{}", rejected.detail);
        assert!(rejected.detail.contains("max_event_bytes is 10000"));
    }
    let unread = ForeignRow {
        too_large: true,
        ..row()
    };
    let rejected = mapping.map(unread, now()).unwrap_err();
    assert_eq!(rejected.reason, ParkReason::TooLarge);
}

#[test]
fn a_prefix_or_a_name_keeps_types_out_of_the_ontology() {
    let mut prefixed = spec();
    prefixed.stream_type_prefix = "old_".into();
    prefixed
        .stream_types
        .insert("Klass".into(), "course".into());
    let mut mapping = mapping(&prefixed);
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
    let mut mapping = mapping(&spec());
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
