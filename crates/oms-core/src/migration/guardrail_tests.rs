use proptest::prelude::*;

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

/// Latencies that are clearly within the budget, just within it, at it, and over it.
const LATENCIES: [Duration; 4] = [
    FAST,
    Duration::from_millis(900),
    Duration::from_secs(1),
    Duration::from_millis(1300),
];

/// What is judged, remembered write by write and counted anew at every judgement.
struct Plain {
    settings: GuardrailSettings,
    began: u64,
    writes: Vec<(u64, Duration, bool)>,
    divergent: Vec<(u64, u64)>,
    over_since: Option<u64>,
    walked: Option<Budget>,
}

impl Plain {
    fn breach(&self, now: u64) -> Option<Budget> {
        let within = |second: u64| second + self.settings.window.as_secs() > now;
        let divergent = self.divergent.iter().filter(|(second, _)| within(*second));
        if divergent.map(|(_, count)| count).sum::<u64>() > self.settings.divergence {
            return Some(Budget::Divergence);
        }
        let writes: Vec<_> = self.writes.iter().filter(|w| within(w.0)).collect();
        if (writes.len() as u64) < self.settings.min_writes {
            return None;
        }
        let failed = writes.iter().filter(|w| w.2).count();
        if failed as f64 / writes.len() as f64 > self.settings.error_share {
            return Some(Budget::ErrorShare);
        }
        let slow = writes.iter().filter(|w| w.1 > self.settings.p99).count();
        // The 99th percentile is over when more than one in a hundred is.
        (slow * 100 > writes.len()).then_some(Budget::P99Seconds)
    }

    fn judge(&mut self, now: u64) -> (&'static str, Option<Budget>) {
        if self.walked.is_some() {
            return ("walk back", self.walked);
        }
        if now - self.began >= self.settings.watch.as_secs() {
            return ("ok", None);
        }
        let Some(breach) = self.breach(now) else {
            self.over_since = None;
            return ("ok", None);
        };
        let since = *self.over_since.get_or_insert(now);
        let lasts = now - since >= self.settings.patience.as_secs();
        if (breach == Budget::Divergence || lasts) && self.settings.auto_rollback {
            self.walked = Some(breach);
            return ("walk back", self.walked);
        }
        ("alert", Some(breach))
    }
}

proptest! {
    #[test]
    fn law_14_the_guardrail_says_what_the_window_says(
        seconds in prop::collection::vec(
            (prop_oneof![8 => 1_u64..3, 1 => 3_u64..9],
                prop::collection::vec((0_u64..60, 0_u64..4, 0_usize..4), 0..3),
                prop_oneof![12 => Just(0_u64), 1 => 1_u64..3],
                any::<bool>()),
            0..40,
        ),
        divergence in 0_u64..2,
        auto_rollback: bool,
    ) {
        let settings = GuardrailSettings {
            watch: Duration::from_secs(45),
            window: Duration::from_secs(5),
            min_writes: 30,
            error_share: 0.05,
            p99: Duration::from_secs(1),
            divergence,
            patience: Duration::from_secs(4),
            auto_rollback,
        };
        let mut now = 100;
        let mut rail = Guardrail::new(settings, now);
        let mut plain = Plain {
            settings,
            began: now,
            writes: Vec::new(),
            divergent: Vec::new(),
            over_since: None,
            walked: None,
        };
        for (passes, writes, divergent, judged) in seconds {
            now += passes;
            for (count, failed, latency) in writes {
                many(&mut rail, now, count, failed, LATENCIES[latency]);
                plain.writes.extend((0..count).map(|i| (now, LATENCIES[latency], i < failed)));
            }
            rail.divergent(now, divergent);
            plain.divergent.push((now, divergent));
            if judged {
                prop_assert_eq!(budget(rail.judge(now)), plain.judge(now), "second {}", now);
            }
        }
    }
}
