//! What `oms mode` shows, of answers that a service gave.

use super::*;

fn answer(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn it_shows_who_leads_each_partition_and_how_the_last_switch_ended() {
    let report = answer(include_str!("../../tests/fixtures/answers/mode.json"));
    insta::assert_snapshot!(standing(&report));
}

#[test]
fn a_dry_run_shows_each_gate_with_what_it_is_and_what_it_must_be() {
    let plan = answer(include_str!("../../tests/fixtures/answers/plan.json"));
    insta::assert_snapshot!(answered(&plan));
}

#[test]
fn the_history_shows_who_switched_and_why() {
    let page = answer(include_str!("../../tests/fixtures/answers/history.json"));
    insta::assert_snapshot!(history(&page));
}
