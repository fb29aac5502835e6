//! The parsers one by one.

use bytes::Bytes;
use oms::config::Config;
use oms::config::layers::Sources;
use oms::domain::event::Envelope;
use oms::domain::ids::{
    ClassId, DatabaseName, EventType, InstanceId, PartitionId, Position, StreamName, StreamType,
};
use oms::embedded::s3::frame;
use oms::http::json;
use oms::log::identity::LogId;
use oms::log::keys;
use oms::log::lead::Leadership;
use oms::log::object::{CommitObject, ObjectHash};
use oms::log::partition::PartitionLog;
use oms::log::segment::Segment;
use oms::log::summary::CommitSummary;
use oms::service::feed::FeedCursor;
use oms::store::ports::read_model::query::{InstanceQuery, ListQuery, QuerySpec};
use proptest::prelude::*;
use uuid::Uuid;

use super::mutate::Fuzz;

#[test]
fn commit_objects() {
    Fuzz::of("commit").run(|input| {
        let Ok(object) = CommitObject::parse(Bytes::copy_from_slice(input)) else {
            return false;
        };
        assert_eq!(&object.bytes[..], input, "kept as it was");
        let lines = object.lines.iter().map(|l| (l.end - l.start) as usize + 1);
        let header = input.iter().position(|b| *b == b'\n').expect("a header") + 1;
        assert_eq!(header + lines.sum::<usize>(), input.len(), "lines tile it");
        let _ = object.control_record();
        let _ = CommitSummary::of(&object, |_| oms::domain::ids::Version(0));
        // A log takes it or says why not, and is not torn either way.
        let mut log = PartitionLog::new(PartitionId(1));
        let taken = log.apply(&object).is_ok();
        assert!(!log.is_torn());
        assert_eq!(log.next_offset(), u64::from(taken));
        true
    });
}

fn segment() -> Segment {
    let text = include_bytes!("corpus/commit/first.ndjson");
    let object = CommitObject::parse(Bytes::from_static(text)).expect("whole");
    let summary = CommitSummary::of(&object, |_| oms::domain::ids::Version(0)).expect("sound");
    Segment::new(
        PartitionId(1),
        0,
        ObjectHash::of(text),
        vec![(0, Leadership::GENESIS_S3)],
        vec![summary],
    )
}

#[test]
fn index_segments_even_with_a_right_checksum() {
    let mut body = segment().encode().expect("encoded");
    body.truncate(body.len() - 4);
    // Forms whose first offset is at the end of all numbers.
    let mut last = body.clone();
    last.splice(
        2..3,
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
    );
    let sealed = |input: &[u8]| {
        let mut bytes = input.to_vec();
        bytes.extend(crc32fast::hash(input).to_le_bytes());
        Segment::decode(&bytes).map(|segment| (segment, bytes))
    };
    assert!(sealed(&last).is_none());
    Fuzz::with(vec![body]).run(move |input| {
        let _ = Segment::decode(input);
        let Some((segment, _)) = sealed(input) else {
            return false;
        };
        let again = Segment::decode(&segment.encode().expect("encoded"));
        assert_eq!(again.as_ref(), Some(&segment));
        true
    });
}

#[test]
fn envelopes() {
    Fuzz::of("envelope").run(|input| {
        let Ok(envelope) = Envelope::parse(input) else {
            return false;
        };
        let stream = envelope.stream();
        let _ = (stream.key(), stream.components().count());
        let _ = envelope.idempotency();
        true
    });
}

#[test]
fn bodies_of_requests() {
    Fuzz::of("append").run(|input| json::parse_object::<oms::http::streams::Append>(input).is_ok());
    Fuzz::of("patch").run(|input| {
        json::parse_object::<serde_json::Map<String, serde_json::Value>>(input).is_ok()
    });
}

#[test]
fn queries() {
    Fuzz::of("query").run(|input| {
        let Ok(spec) = json::parse_object::<QuerySpec>(input) else {
            return false;
        };
        if let Ok(query) = InstanceQuery::parse(spec) {
            let db = DatabaseName::new("films").expect("a name");
            let class = ClassId::new("Film").expect("an id");
            let _ = query.bind(&db, &class);
        }
        true
    });
}

#[test]
fn configurations_say_everything_that_is_wrong_and_never_a_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("oms.toml");
    let load = move |input: &[u8]| {
        std::fs::write(&path, input).expect("written");
        let sources = Sources {
            file: Some(path.clone()),
            ..Sources::default()
        };
        match Config::load(&sources) {
            Ok(config) => {
                let printed = config.to_toml().expect("printed");
                assert!(!printed.contains("secret@"), "{printed}");
                true
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                // The corpus must reach the checks; whether it passes them is no matter.
                std::str::from_utf8(input).is_ok_and(|text| text.parse::<toml::Table>().is_ok())
            }
        }
    };
    Fuzz::of("config").run_few(load);
}

#[test]
fn frames_of_the_embedded_store() {
    let head = frame::Head::Put(frame::PutHead {
        bucket: "b",
        key: "events/0000/1",
        etag: [7; 16],
        modified_ms: -1,
        body_len: 5,
        body_crc: crc32fast::hash(b"hello"),
        attributes: &[1, 2, 3],
    });
    let put = frame::Record::new(&head, vec![Bytes::from_static(b"hello")]).expect("encoded");
    let gone = frame::Head::Delete {
        bucket: "b",
        key: "k",
    };
    let gone = frame::Record::new(&gone, vec![]).expect("encoded");
    let mut payload = put.frame.clone();
    payload.extend(b"hello");
    payload.extend(&gone.frame);
    let batch = frame::BatchHeader {
        sequence: 3,
        payload_len: payload.len() as u32,
        records: 2,
    };
    let corpus = vec![
        payload.clone(),
        batch.encode().to_vec(),
        frame::segment_header(1, 2).to_vec(),
        put.frame,
    ];
    assert_eq!(
        frame::parse_payload(&payload, 2, 0).expect("sound").len(),
        2
    );
    Fuzz::with(corpus).run(|input| {
        let mut taken = frame::parse_segment_header(input).is_some();
        if let Some(header) = frame::BatchHeader::parse(input) {
            assert_eq!(header.encode()[..], input[..frame::BATCH_HEADER]);
            taken = true;
        }
        for records in [0, 1, 2, u32::MAX] {
            taken |= frame::parse_payload(input, records, 9).is_some();
        }
        taken | frame::parse_frame(input).is_some()
    });
}

#[test]
fn heads_of_records_even_with_a_right_checksum() {
    let head = frame::Head::CreateBucket {
        bucket: "b",
        created_ms: i64::MIN,
    };
    let record = frame::Record::new(&head, vec![]).expect("encoded");
    Fuzz::with(vec![record.frame[8..].to_vec()]).run(|input| {
        let mut bytes = (input.len() as u32).to_le_bytes().to_vec();
        bytes.extend(crc32fast::hash(input).to_le_bytes());
        bytes.extend(input);
        frame::parse_frame(&bytes).is_some()
    });
}

#[test]
fn cursors() {
    let log = Some(LogId(Uuid::from_u128(7)));
    let mut cursor = FeedCursor::beginning(3, log);
    cursor.pass("1/7/4".parse().expect("a position"));
    let of_a_build_before = FeedCursor::beginning(3, None);
    let db = DatabaseName::new("films").expect("a name");
    let list = ListQuery::databases(None, None).expect("a query");
    let corpus = vec![
        cursor.text().expect("text").into_bytes(),
        of_a_build_before.text().expect("text").into_bytes(),
        list.cursor("films".into()).into_bytes(),
    ];
    Fuzz::with(corpus).run(move |input| {
        let text = String::from_utf8_lossy(input);
        let feed = FeedCursor::parse(Some(&text), 3, log);
        if let Ok(cursor) = &feed {
            let again = FeedCursor::parse(Some(&cursor.text().expect("text")), 3, log);
            assert_eq!(again.as_ref().ok(), Some(cursor));
        }
        let listed = ListQuery::databases(None, Some(&text));
        let _ = ListQuery::classes(&db, None, Some(&text));
        feed.is_ok() || listed.is_ok()
    });
}

proptest! {
    #[test]
    fn names_take_or_refuse_any_text(text in ".{0,80}") {
        let _ = DatabaseName::new(&text);
        let _ = ClassId::new(&text);
        let _ = EventType::new(&text);
        let _ = StreamType::new(&text);
        let _ = text.parse::<Position>();
        let _ = keys::parse_commit(&text);
        let _ = keys::parse_segment(&text);
        if let Ok(id) = InstanceId::new(&text) {
            // As a component of a stream's name it comes back as it was.
            let db = DatabaseName::new("films").expect("a name");
            let class = ClassId::new("Film").expect("an id");
            let stream = StreamName::instance(&db, &class, &id);
            let stored = StreamName::from_stored(stream.stream_type(), stream.id());
            let last = stored.components().last().map(|c| c.into_owned());
            prop_assert_eq!(last.as_ref(), Some(&text));
            prop_assert_eq!(stored.key(), stream.key());
        }
    }

    #[test]
    fn keys_of_the_log_read_back(partition: u16, from: u64, to: u64) {
        let partition = PartitionId(partition);
        prop_assert_eq!(keys::parse_commit(&keys::commit(partition, from)), Some(from));
        let segment = keys::segment(partition, from, to);
        prop_assert_eq!(keys::parse_segment(&segment), Some((from, to)));
    }

    #[test]
    fn positions_read_back(partition: u16, offset: u64, index: u32) {
        let position = Position { partition: PartitionId(partition), offset, index };
        prop_assert_eq!(position.to_string().parse::<Position>().ok(), Some(position));
    }
}
