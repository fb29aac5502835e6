//! Keys and answers, one after the other, as a person and a service would give them.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::app::{App, View};
use super::dialog::Dialog;
use super::order::{Answer, Order};
use super::seen::{Look, Part};

pub const NOW: &str = "2026-01-02T03:04:05Z";

/// A service on its way, with something of everything.
pub fn look() -> Look {
    let dependency = |state: &str, ms: f64| {
        json!({ "state": state, "latency_ms": ms,
        "since": "2026-01-02T02:04:05Z" })
    };
    let health = json!({
        "status": "degraded", "migration_mode": "dual_write", "lead": "postgres", "epoch": 2,
        "version": "0.1.0", "reason": "relay_halted",
        "dependencies": { "s3": dependency("up", 3.25), "postgres": dependency("up", 1.5),
            "kafka": dependency("down", 0.0) },
        "halted": [{ "what": "relay", "since": "2026-01-02T03:03:05Z",
            "reason": "kafka is away" }],
    });
    let partition = |n: u64, stage: &str, lead: &str, moving: bool| {
        json!({
        "partition": n, "stage": stage, "lead": lead, "epoch": 3 - n % 2, "moving": moving,
        "step": if moving { "sealing_to_s3" } else { "steady" }, "next_offset": 1200 + n,
        "unmirrored": 4 * n, "since": "2026-01-02T01:04:05Z" })
    };
    let switch = json!({
        "id": "x", "goal": "dual_write/s3", "partitions": [0, 1], "by": "ops", "automatic": false,
        "reason": "OPS-7: half of it first", "force": false, "begun": "2026-01-02T01:04:00Z",
        "ended": "2026-01-02T01:04:05Z", "state": "done", "error": null,
        "edges": [{ "from": "dual_write/postgres", "to": "dual_write/s3", "state": "done",
            "gates": [{ "name": "backfill", "state": "pass" }], "pause_ms": { "0": 41.0 } }] });
    let migration = json!({
        "mode": "dual_write", "stage": "dual_write/postgres", "lead": "postgres", "epoch": 2,
        "moving": true, "switch": switch,
        "partitions": [partition(0, "dual_write/s3", "s3", false),
            partition(1, "dual_write/postgres", "postgres", true),
            partition(2, "dual_write/s3", "s3", false),
            partition(3, "dual_write/postgres", "postgres", false)] });
    let history = json!({ "items": [switch,
        { "goal": "dual_write/postgres", "state": "done", "by": "ops", "reason": "OPS-6: mirror",
            "begun": "2026-01-01T03:04:05Z" },
        { "goal": "dual_write/postgres", "state": "refused", "by": "guardrail",
            "reason": "the share of errors", "begun": "2025-12-30T03:04:05Z" }] });
    let rising: Vec<f64> = (0..60).map(|n| f64::from(n % 20) * 10.0).collect();
    let slower: Vec<f64> = (0..60).map(|n| 0.004 + f64::from(n) / 4_000.0).collect();
    let times: Vec<String> = (0..60)
        .map(|n| format!("2026-01-02T02:{n:02}:00Z"))
        .collect();
    let still = |value: f64| vec![value; 60];
    let figures: Vec<Value> = [
        ("writes", rising),
        ("reads", still(1200.0)),
        ("write_p50", still(0.0041)),
        ("write_p99", slower),
        ("s3_p99", still(0.0172)),
        ("postgres_p99", still(0.0049)),
        ("outbox_depth", still(812.0)),
        ("outbox_oldest", still(61.4)),
        ("projection_lag", still(0.0)),
        ("dead_letters", still(2.0)),
        ("published", still(0.0)),
        ("publish_failures", still(3.2)),
    ]
    .into_iter()
    .map(|(name, values)| json!({ "name": name, "values": values }))
    .collect();
    let metrics = json!({ "times": times, "figures": figures });
    let outbox = json!({ "depth": 812, "oldest_seconds": 61.4, "dead_letters": 2, "partitions": [
        { "partition": 0, "watermark": 1200, "delivered": 1101, "lag": 0,
            "lease_owner": "0198c0de-0000-7000-8000-000000000001" },
        { "partition": 1, "watermark": 1201, "delivered": 1150, "lag": 1 }] });
    let projections = json!({ "items": [{ "name": "ontology", "state": "rebuilding",
        "lag_commits": 0, "parked_events": 0, "rebuild": { "done": 400, "total": 1200 } }] });
    let actor = |path: &str, state: &str, restarts: u64, children: Vec<Value>| {
        json!({
        "path": path, "name": path.rsplit('/').next(), "state": state, "restarts": restarts,
        "calls_in_flight": restarts * 2, "mailbox_wait_ms": 0.25, "children": children })
    };
    let mut relay = actor("relay", "backoff", 3, vec![]);
    relay["last_failure"] = json!({ "cause": "panic", "message": "index out of bounds",
        "at": "2026-01-02T03:04:00Z" });
    let stores = (0..3).map(|n| actor(&format!("event_store/{n}"), "running", 0, vec![]));
    let stores = actor("event_store", "running", 0, stores.collect());
    let actors = json!({ "root": actor("oms", "running", 3, vec![stores, relay]) });
    let verification = json!({ "state": "done", "begun": "2026-01-02T00:04:05Z",
        "report": { "clean": true } });
    Look {
        health,
        answers: [
            (Part::About, json!({ "chaos": true })),
            (Part::Migration, migration),
            (Part::History, history),
            (Part::Metrics, metrics),
            (Part::Outbox, outbox),
            (Part::Projections, projections),
            (Part::Actors, actors),
            (Part::Verification, verification),
        ]
        .into(),
        untold: None,
    }
}

pub fn app() -> App {
    let mut app = App::new("http://127.0.0.1:8000", NOW.parse().unwrap());
    assert_eq!(app.tick(app.now), Some(Order::Look));
    app.answered(Answer::Looked(Ok(look())));
    app
}

pub fn press(app: &mut App, code: KeyCode) -> Option<Order> {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

pub fn write(app: &mut App, text: &str) {
    for c in text.chars() {
        assert_eq!(press(app, KeyCode::Char(c)), None);
    }
}

fn later(app: &App, seconds: i64) -> jiff::Timestamp {
    app.now + jiff::SignedDuration::from_secs(seconds)
}

#[test]
fn it_looks_every_two_seconds_and_once_at_a_time() {
    let mut app = app();
    assert_eq!(app.tick(later(&app, 1)), None);
    assert_eq!(app.tick(later(&app, 1)), Some(Order::Look));
    assert_eq!(
        app.tick(later(&app, 60)),
        None,
        "the last look is not answered"
    );
    assert_eq!(press(&mut app, KeyCode::Char('r')), None);
    app.answered(Answer::Looked(Err("refused".into())));
    assert_eq!(app.lost.as_deref(), Some("refused"));
    // A clock that was set back is no reason to stop.
    assert_eq!(app.tick(later(&app, -3600)), Some(Order::Look));
    app.answered(Answer::Looked(Ok(look())));
    assert_eq!(app.lost, None, "it comes back by itself");
    assert_eq!(press(&mut app, KeyCode::Char('r')), Some(Order::Look));
}

#[test]
fn keys_walk_through_views_and_lists_and_leave() {
    let mut app = app();
    press(&mut app, KeyCode::Tab);
    assert_eq!(app.view, View::Migration);
    press(&mut app, KeyCode::Left);
    press(&mut app, KeyCode::BackTab);
    assert_eq!(app.view, View::Actors);
    for _ in 0..99 {
        press(&mut app, KeyCode::Down);
    }
    assert_eq!(app.line, 5, "the last of its lines");
    press(&mut app, KeyCode::Char('2'));
    assert_eq!((app.view, app.line), (View::Migration, 0));
    press(&mut app, KeyCode::Char('?'));
    assert!(matches!(app.dialog, Some(Dialog::Help)));
    assert_eq!(press(&mut app, KeyCode::Char('q')), None);
    assert!(
        app.dialog.is_none() && !app.ended,
        "the key closes the dialog"
    );
    press(&mut app, KeyCode::Char('q'));
    assert!(app.ended);
    let mut other = self::app();
    press(&mut other, KeyCode::Char('s'));
    other.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(other.ended, "also from a dialog");
}

/// Asks for the gates of the chosen stage; what the service is asked.
pub fn asked(app: &mut App) -> Value {
    match press(app, KeyCode::Enter) {
        Some(Order::Plan { order }) => order,
        other => panic!("{other:?}"),
    }
}

#[test]
fn law_15_a_switch_is_ordered_after_its_gates_a_reason_and_the_typed_name_alone() {
    let mut app = app();
    press(&mut app, KeyCode::Char('s'));
    // The stage is dual_write/postgres, so the next one is offered.
    let order = asked(&mut app);
    assert_eq!(
        (&order["dry_run"], &order["lead"]),
        (&json!(true), &json!("s3"))
    );
    let plan = |may_begin: bool| {
        json!({ "may_begin": may_begin, "edges": [{
        "from": "dual_write/postgres", "to": "dual_write/s3", "gates": [] }] })
    };
    let plan_of = |asked, may_begin| Answer::Planned {
        asked,
        plan: Ok(plan(may_begin)),
    };
    app.answered(plan_of(order, false));
    assert_eq!(
        press(&mut app, KeyCode::Enter),
        None,
        "refused by its gates"
    );
    write(&mut app, "dual_write/s3");
    assert_eq!(press(&mut app, KeyCode::Enter), None);

    press(&mut app, KeyCode::Esc);
    press(&mut app, KeyCode::Char('s'));
    let order = asked(&mut app);
    app.answered(plan_of(order, true));
    press(&mut app, KeyCode::Enter);
    assert_eq!(press(&mut app, KeyCode::Enter), None, "without a reason");
    write(&mut app, "OPS-8");
    press(&mut app, KeyCode::Enter);
    write(&mut app, "dual_write/s");
    assert_eq!(
        press(&mut app, KeyCode::Enter),
        None,
        "not typed to its end"
    );
    write(&mut app, "3");
    let ordered = press(&mut app, KeyCode::Enter).unwrap();
    let Order::Switch { order } = ordered else {
        panic!("{ordered:?}");
    };
    let expected = json!({ "mode": "dual_write", "lead": "s3", "reason": "OPS-8",
        "dry_run": false });
    assert_eq!(order, expected);
    assert!(app.dialog.is_none());
    let looks = app.answered(Answer::Ordered(Err("gates_failed".into())));
    assert_eq!(looks, Some(Order::Look));
    assert_eq!(app.notice, Some(("gates_failed".into(), true)));
}

#[test]
fn law_15_the_gates_of_a_stage_that_was_chosen_before_are_not_taken_for_those_of_another() {
    let mut app = app();
    press(&mut app, KeyCode::Char('s'));
    let before = asked(&mut app);
    press(&mut app, KeyCode::Esc);
    press(&mut app, KeyCode::Char('s'));
    press(&mut app, KeyCode::Down);
    asked(&mut app);
    app.answered(Answer::Planned {
        asked: before,
        plan: Ok(json!({ "may_begin": true, "edges": [{ "gates": [] }] })),
    });
    let Some(Dialog::Switch(dialog)) = &app.dialog else {
        panic!("the dialog stays");
    };
    assert!(!dialog.can_be_ordered() && dialog.name() == "s3_only");
}

#[test]
fn what_is_so_already_is_not_ordered() {
    let mut app = app();
    press(&mut app, KeyCode::Char('s'));
    let asked = asked(&mut app);
    let plan = Ok(json!({ "may_begin": true, "edges": [] }));
    app.answered(Answer::Planned { asked, plan });
    press(&mut app, KeyCode::Enter);
    write(&mut app, "why");
    assert_eq!(press(&mut app, KeyCode::Enter), None);
    assert!(matches!(&app.dialog, Some(Dialog::Switch(s)) if s.reason.is_empty()));
}

#[test]
fn an_actor_is_killed_when_it_was_chosen_and_its_path_typed_and_with_chaos_alone() {
    let mut app = app();
    press(&mut app, KeyCode::Char('k'));
    assert!(app.dialog.is_none() && app.notice.take().is_some_and(|n| n.1));
    press(&mut app, KeyCode::Char('4'));
    for _ in 0..5 {
        press(&mut app, KeyCode::Down);
    }
    press(&mut app, KeyCode::Char('k'));
    assert_eq!(press(&mut app, KeyCode::Enter), None);
    write(&mut app, "relayx");
    assert_eq!(press(&mut app, KeyCode::Enter), None);
    press(&mut app, KeyCode::Backspace);
    let killed = press(&mut app, KeyCode::Enter);
    assert_eq!(
        killed,
        Some(Order::Kill {
            path: "relay".into()
        })
    );

    app.answered(Answer::Looked(Ok(Look {
        answers: [(Part::About, json!({ "chaos": false }))].into(),
        ..look()
    })));
    press(&mut app, KeyCode::Char('k'));
    assert!(app.dialog.is_none());
    assert!(
        app.notice
            .is_some_and(|(told, _)| told.contains("chaos.enabled"))
    );
}

#[test]
fn a_verification_is_confirmed() {
    let mut app = app();
    press(&mut app, KeyCode::Char('v'));
    assert_eq!(press(&mut app, KeyCode::Char('v')), None);
    assert_eq!(press(&mut app, KeyCode::Enter), Some(Order::Verify));
}
