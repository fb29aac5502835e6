use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::clock::SystemClock;
use crate::store::error::{StoreError, StoreErrorKind};

/// A refusal of an unknown caller at `address`.
pub fn refusal(address: &str, status: u16) -> AuditEntry {
    AuditEntry {
        id: Uuid::nil(),
        time: Timestamp::UNIX_EPOCH,
        node: "n".into(),
        kind: AuditKind::Refusal,
        principal: None,
        address: Some(address.into()),
        action: "GET /x".into(),
        body: None,
        status,
        code: Some("unauthenticated".into()),
        request_id: "r".into(),
        times: 1,
    }
}

/// A table in memory that is away for the first few calls.
#[derive(Default)]
struct Table {
    away_for: Mutex<u32>,
    entries: Mutex<Vec<AuditEntry>>,
}

#[async_trait]
impl AuditTable for Table {
    async fn append(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        let mut away_for = self.away_for.lock();
        if *away_for > 0 {
            *away_for -= 1;
            return Err(StoreError::determinate(
                StoreErrorKind::Unavailable,
                "postgres",
                "audit_append",
                "away",
            ));
        }
        self.entries.lock().extend(entries);
        Ok(())
    }

    async fn entries(&self, _: AuditFilter, _: usize) -> Result<Vec<AuditEntry>, StoreError> {
        Ok(self.entries.lock().clone())
    }

    async fn prune(&self, _: Duration) -> Result<u64, StoreError> {
        Ok(0)
    }
}

fn kill<'a>(body: &'a [u8], request_id: &'a str) -> Answered<'a> {
    Answered {
        kind: AuditKind::Command,
        principal: Some("ops"),
        address: None,
        method: "POST",
        path: "/api/v1/admin/actors/kill",
        route: "/api/v1/admin/actors/kill",
        body: Some(body),
        status: 202,
        code: None,
        request_id,
    }
}

#[tokio::test(start_paused = true)]
async fn law_3_what_an_administrator_ordered_is_written_once_postgres_is_back() {
    let table = Arc::new(Table::default());
    *table.away_for.lock() = 5;
    let clock = Arc::new(SystemClock);
    let (trail, writer) = AuditTrail::new("node".into(), clock, table.clone(), WEEK);
    let writing = tokio::spawn(writer.run());
    let ids: Vec<String> = (0..300).map(|n| format!("r{n}")).collect();
    for id in &ids {
        trail.record(&kill(br#"{"path":"relay","how":"panic"}"#, id));
    }
    assert!(trail.flush(Duration::from_secs(120)).await);
    let entries = table.entries.lock().clone();
    let written: Vec<&str> = entries.iter().map(|e| e.request_id.as_str()).collect();
    assert_eq!(written, ids.iter().map(String::as_str).collect::<Vec<_>>());
    let entry = &entries[0];
    assert_eq!(entry.action, "POST /api/v1/admin/actors/kill");
    assert_eq!(
        entry.body.as_deref(),
        Some(r#"{"path":"relay","how":"panic"}"#)
    );
    writing.abort();
}

fn turned_away(request_id: &str) -> Answered<'_> {
    Answered {
        kind: AuditKind::Refusal,
        principal: None,
        status: 401,
        ..kill(b"", request_id)
    }
}

#[tokio::test(start_paused = true)]
async fn law_3_refusals_that_were_only_counted_are_entered_while_postgres_is_away_and_at_the_end() {
    let table = Arc::new(Table::default());
    *table.away_for.lock() = u32::MAX;
    let clock = Arc::new(SystemClock);
    let (trail, writer) = AuditTrail::new("node".into(), clock, table.clone(), WEEK);
    let writing = tokio::spawn(writer.run());
    for id in ["first", "second", "third"] {
        trail.record(&turned_away(id));
    }
    // The writer has the first and waits for PostgreSQL.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(trail.queue.capacity(), QUEUE);
    tokio::time::sleep(2 * refusals::WINDOW).await;
    assert_eq!(trail.queue.capacity(), QUEUE - 1, "the others are entered");
    *table.away_for.lock() = 0;
    trail.record(&turned_away("fourth"));
    trail.record(&turned_away("fifth"));
    assert!(trail.flush(Duration::from_secs(120)).await);
    let times = table.entries.lock().iter().map(|e| e.times).sum::<u64>();
    assert_eq!(times, 5);
    writing.abort();
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);

#[tokio::test]
async fn law_13_entries_are_bounded_in_number_and_in_bytes() {
    let (trail, _never_runs) = AuditTrail::new(
        "node".into(),
        Arc::new(SystemClock),
        Arc::new(Table::default()),
        WEEK,
    );
    let huge = vec![b'x'; 10 * MAX_BODY];
    let entry = trail.entry(&kill(&huge, "r"));
    assert!(entry.body.unwrap().len() <= MAX_BODY + 3);
    assert_eq!(readable(b"a\0b"), "a\u{FFFD}b", "PostgreSQL takes no NUL");
    let long = "ж".repeat(MAX_ACTION);
    assert!(cut(long, MAX_ACTION).len() <= MAX_ACTION + 3);
    // Without a writer the queue fills, and recording does not block.
    for _ in 0..2 * QUEUE {
        trail.record(&kill(b"{}", "r"));
    }
    assert_eq!(trail.queue.capacity(), 0);
}
