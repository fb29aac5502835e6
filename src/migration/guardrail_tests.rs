use super::*;

const FAST: Duration = Duration::from_millis(20);

fn settings() -> GuardrailSettings {
    GuardrailSettings {
        auto_rollback: true,
        ..GuardrailSettings::default()
    }
}

fn many(rail: &mut Guardrail, now: u64, writes: u64, failed: u64, latency: Duration) {
    for i in 0..writes {
        rail.write(now, latency, i < failed);
    }
}

fn budget(judgement: Judgement) -> (&'static str, Option<Budget>) {
    match judgement {
        Judgement::Ok => ("ok", None),
        Judgement::Alert(breach) => ("alert", Some(breach.budget)),
        Judgement::WalkBack(breach) => ("walk back", Some(breach.budget)),
    }
}

#[test]
fn each_budget_is_judged_by_its_own_figure() {
    let slow = settings().p99 * 2;
    let table = [
        (1000, 10, FAST, 0, ("ok", None)),
        (1000, 11, FAST, 0, ("alert", Some(Budget::ErrorShare))),
        (1000, 0, settings().p99, 0, ("ok", None)),
        (1000, 0, slow, 0, ("alert", Some(Budget::P99Seconds))),
        // Too few to say anything.
        (settings().min_writes - 1, 50, slow, 0, ("ok", None)),
        // Divergence needs no crowd and no patience.
        (0, 0, FAST, 1, ("walk back", Some(Budget::Divergence))),
    ];
    for (writes, failed, latency, divergent, expected) in table {
        let mut rail = Guardrail::new(settings(), 100);
        many(&mut rail, 101, writes, failed, latency);
        rail.divergent(101, divergent);
        let judgement = rail.judge(101);
        assert_eq!(budget(judgement), expected, "{writes} {failed} {latency:?}");
    }
}

#[test]
fn one_slow_write_in_a_hundred_is_no_breach_and_two_are() {
    let slow = settings().p99 * 2;
    for (slow_writes, expected) in [(1, "ok"), (2, "alert")] {
        let mut rail = Guardrail::new(settings(), 0);
        many(&mut rail, 1, 100 - slow_writes, 0, FAST);
        many(&mut rail, 1, slow_writes, 0, slow);
        assert_eq!(budget(rail.judge(1)).0, expected);
    }
}

#[test]
fn a_breach_that_lasts_leads_back_and_one_that_ends_does_not() {
    let patience = settings().patience.as_secs();
    for (lasts, expected) in [(patience - 1, "ok"), (patience, "walk back")] {
        let mut rail = Guardrail::new(settings(), 0);
        for now in 1..=1 + lasts {
            many(&mut rail, now, 200, 100, FAST);
            let last = budget(rail.judge(now)).0;
            assert_eq!(
                last,
                if now == 1 + patience {
                    "walk back"
                } else {
                    "alert"
                }
            );
        }
        let later = 1 + lasts + settings().window.as_secs();
        assert_eq!(budget(rail.judge(later)).0, expected);
    }
}

#[test]
fn a_pause_in_a_breach_begins_its_patience_anew() {
    let mut rail = Guardrail::new(settings(), 0);
    let window = settings().window.as_secs();
    let patience = settings().patience.as_secs();
    many(&mut rail, 1, 200, 100, FAST);
    assert_eq!(budget(rail.judge(1)).0, "alert");
    assert_eq!(budget(rail.judge(1 + window)).0, "ok");
    let again = 1 + window + patience;
    many(&mut rail, again, 200, 100, FAST);
    assert_eq!(budget(rail.judge(again)).0, "alert");
}

#[test]
fn without_auto_rollback_it_only_alerts_and_an_old_stage_is_left_alone() {
    let only_alert = GuardrailSettings {
        auto_rollback: false,
        ..settings()
    };
    let mut rail = Guardrail::new(only_alert, 0);
    rail.divergent(5, 3);
    assert_eq!(budget(rail.judge(5)), ("alert", Some(Budget::Divergence)));

    let watch = settings().watch.as_secs();
    let mut rail = Guardrail::new(settings(), 0);
    rail.divergent(watch, 3);
    assert_eq!(budget(rail.judge(watch)).0, "ok");
    rail.divergent(watch - 1, 1);
    assert_eq!(budget(rail.judge(watch - 1)).0, "walk back");
}

#[test]
fn what_is_remembered_is_bounded_by_the_window() {
    let mut rail = Guardrail::new(settings(), 0);
    for now in 0..1000 {
        rail.write(now, FAST, false);
    }
    assert_eq!(rail.seconds.len() as u64, settings().window.as_secs());
    rail.write(3, FAST, true);
    assert_eq!(rail.seconds.back().map(|s| s.failed), Some(1));
}
