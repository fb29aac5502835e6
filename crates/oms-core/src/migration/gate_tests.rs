use super::*;

fn good() -> Figures {
    let settings = GateSettings::default();
    Figures {
        s3_probe: Some(true),
        same_history: Some(true),
        verification_age: Some(settings.verification_max_age),
        divergent_streams: Some(0),
        s3_success_share: Some(settings.s3_success_share),
        shadow_mismatches: Some(0),
        backfill_remaining: Some(0),
        unmirrored: Some(settings.max_lag),
        s3_led_for: Some(settings.s3_led_for),
        fallback_reads: Some(0),
        relay_lag: Some(settings.relay_lag),
        mirror_behind: Some(settings.max_lag),
        postgres_reachable: Some(true),
    }
}

fn move_of(gate: &Gate) -> Move {
    Move::new(gate.edge, gate.direction)
}

#[test]
fn figures_just_within_their_thresholds_pass_every_gate() {
    for step in Move::ALL {
        let reports = evaluate(step, &good(), &GateSettings::default(), false);
        assert!(!reports.is_empty(), "{step:?} has no gate");
        assert!(may_pass(&reports), "{reports:?}");
    }
}

#[test]
fn law_15_a_figure_beyond_its_threshold_fails_its_gate_and_no_other() {
    let moment = Duration::from_millis(1);
    let settings = GateSettings::default();
    type Worsen = fn(&mut Figures, Duration);
    let table: [(&str, Worsen); 13] = [
        ("s3_probe", |f, _| f.s3_probe = Some(false)),
        ("same_history", |f, _| f.same_history = Some(false)),
        ("verification_age_s", |f, d| {
            f.verification_age = f.verification_age.map(|a| a + d)
        }),
        ("divergent_streams", |f, _| f.divergent_streams = Some(1)),
        ("s3_success_share", |f, _| {
            f.s3_success_share = f.s3_success_share.map(|s| s - 1e-6)
        }),
        ("shadow_mismatches", |f, _| f.shadow_mismatches = Some(1)),
        ("backfill_remaining", |f, _| f.backfill_remaining = Some(1)),
        ("unmirrored", |f, _| {
            f.unmirrored = f.unmirrored.map(|n| n + 1)
        }),
        ("s3_led_for_s", |f, d| {
            f.s3_led_for = f.s3_led_for.map(|t| t - d)
        }),
        ("fallback_reads", |f, _| f.fallback_reads = Some(1)),
        ("relay_lag_s", |f, d| {
            f.relay_lag = f.relay_lag.map(|t| t + d)
        }),
        ("mirror_behind", |f, _| {
            f.mirror_behind = f.mirror_behind.map(|n| n + 1)
        }),
        ("postgres_reachable", |f, _| {
            f.postgres_reachable = Some(false)
        }),
    ];
    for gate in GATES {
        let spoil = table.iter().find(|(name, _)| *name == gate.name);
        let (_, spoil) = spoil.expect(gate.name);
        let mut figures = good();
        spoil(&mut figures, moment);
        for report in evaluate(move_of(gate), &figures, &settings, false) {
            let expected = if report.name == gate.name {
                GateState::Fail
            } else {
                GateState::Pass
            };
            assert_eq!(report.state, expected, "{report:?}");
        }
    }
}

#[test]
fn law_15_what_was_not_measured_fails_and_force_skips_only_confidence() {
    let settings = GateSettings::default();
    for step in Move::ALL {
        for force in [false, true] {
            for report in evaluate(step, &Figures::default(), &settings, force) {
                let expected = match (report.kind, force) {
                    (GateKind::Confidence, true) => GateState::Skipped,
                    _ => GateState::Fail,
                };
                assert_eq!(report.state, expected, "{report:?}");
            }
        }
        // A gate that holds is not called skipped.
        let reports = evaluate(step, &good(), &settings, true);
        assert!(reports.iter().all(|r| r.state == GateState::Pass));
    }
}

#[test]
fn reports_serialise_as_the_api_shows_them() {
    let figures = Figures {
        s3_success_share: Some(0.5),
        unmirrored: Some(3),
        ..Figures::default()
    };
    let step = Move::new(Edge::B, Direction::Forward);
    let reports = evaluate(step, &figures, &GateSettings::default(), true);
    let named = |name: &str| {
        let report = reports.iter().find(|r| r.name == name).unwrap();
        serde_json::to_value(report).unwrap()
    };
    let share = named("s3_success_share");
    assert_eq!(share["state"], "skipped");
    assert_eq!(share["kind"], "confidence");
    assert_eq!(share["figure"].to_string(), "0.5");
    assert_eq!(share["threshold"]["at_least"].to_string(), "0.999");
    let unmirrored = named("unmirrored");
    assert_eq!(unmirrored["state"], "pass");
    assert_eq!(unmirrored["threshold"]["at_most"].to_string(), "1000");
    assert!(named("backfill_remaining")["figure"].is_null());
}
